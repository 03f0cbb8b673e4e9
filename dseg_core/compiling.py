"""Compiling loops with numba: once per machine where a folder can be written, which takes some seconds."""

from __future__ import annotations

import functools
import gc
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import event

_Function = TypeVar("_Function", bound=Callable[..., Any])
_HOW: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
_LIDAR = Path(__file__).parent / "lidar"  # whose loops are used in those of other folders
_said: set[str] = set()


def compiled(function: _Function) -> _Function:
    """Compile with numba when first called; the interpreter's lock is not held while it runs.

    What is compiled is kept beside the source, or in the user's cache folder, or where NUMBA_CACHE_DIR says. Where
    nothing can be written, as in containers with a read-only file system, every process compiles anew and says so once.

    Divisions by zero give infinity or NaN, as NumPy's do: checks for them would keep loops from being vectorised.
    """
    try:
        return cast(_Function, _renewed(numba.njit(cache=True, **_HOW)(function)))
    except RuntimeError as error:  # numba's word for a function that it finds no folder for
        if "no locator available" not in str(error):
            raise
        _say_once("no folder can be written to keep compiled loops: compiling in every process. Set NUMBA_CACHE_DIR")
        return cast(_Function, numba.njit(**_HOW)(function))


class _Within:
    """From Python the function as it is written, for numba what it compiles."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._dispatcher = numba.njit(no_cpython_wrapper=True, **_HOW)(function)
        self._numba_type_ = self._dispatcher._numba_type_  # where numba looks for the kind of what it does not know

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


def compiled_within(function: _Function) -> _Function:
    """For functions that only compiled loops call: an eighth less to compile, without what calls from Python need.

    They are kept as parts of the loops that call them.
    """
    if numba.config.DISABLE_JIT:  # with which numba gives back the function itself, as `compiled` does then
        return function
    return cast(_Function, _Within(function))


def _renewed(dispatcher: Any) -> Any:
    """Have it compiled anew after a change of any loop that it may call.

    numba asks only whether the function's own file has changed. What is compiled holds those of other files, too.
    """
    kept: Any = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if hasattr(kept, "_source_stamp"):  # no interface of numba's; without it, only what developers change is missed
        folders = {Path(dispatcher.py_func.__code__.co_filename).parent, _LIDAR}
        kept._source_stamp = (kept._source_stamp, *sorted(map(_digest, folders)))
    return dispatcher


@functools.cache
def _digest(folder: Path) -> str:
    """Of all source in a folder."""
    found = hashlib.blake2b()
    for path in sorted(folder.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def say_when_compiling(function: Any, what: str) -> None:
    """Print a line to stderr when a compiled function is not in numba's cache yet.

    Args:
        function: Decorated by `compiled`; stands for the others it is used with.
        what: What begins with the compilation.
    """
    if numba.config.DISABLE_JIT:
        return
    folder, module = function.stats.cache_path, function.py_func.__module__.rpartition(".")[2]
    if folder is None:  # then `compiled` said it
        return
    if not function.signatures and not any(Path(folder).glob(f"{module}.{function.py_func.__name__}-*.nbi")):
        print(f"{what}: compiling once for this machine, some 10 s", file=sys.stderr, flush=True)


class _UncollectedWhileCompiling(event.Listener):  # type: ignore[misc]
    """Puts garbage collection off: all that the compiler builds is in use, and looking it through takes a tenth more.

    Only one thread compiles at a time. One loop is compiled within another where that calls it.
    """

    def __init__(self) -> None:
        self._depth, self._was_on = 0, False

    def on_start(self, event: event.Event) -> None:
        if not self._depth:
            self._was_on = gc.isenabled()
            gc.disable()
        self._depth += 1

    def on_end(self, event: event.Event) -> None:
        self._depth -= 1
        if not self._depth and self._was_on:
            gc.enable()


event.register("numba:compile", _UncollectedWhileCompiling())


def _say_once(line: str) -> None:
    if line not in _said:
        _said.add(line)
        print(line, file=sys.stderr, flush=True)
