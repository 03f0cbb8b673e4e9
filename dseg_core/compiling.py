"""Compiling loops with numba: once per machine where a folder can be written, which takes some seconds."""

from __future__ import annotations

import functools
import gc
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import event
from numba.core.compiler_lock import global_compiler_lock

from dseg_core.claims import claim
from dseg_core.compiled_files import folder_of, forgiving, is_kept, renewed, say_once

_Function = TypeVar("_Function", bound=Callable[..., Any])
_HOW: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
_stopped = False

# What is forked while another thread compiles has that one's lock, and nobody to let go of it.
os.register_at_fork(
    before=global_compiler_lock.acquire,
    after_in_parent=global_compiler_lock.release,
    after_in_child=global_compiler_lock.release,
)


def compiled(function: _Function) -> _Function:
    """Compile with numba when first called; the interpreter's lock is not held while it runs.

    What is compiled is kept beside the source, or in the user's cache folder, or where NUMBA_CACHE_DIR says. Where
    nothing can be written, as in containers with a read-only file system, every process compiles anew and says so once.
    Of several processes that need the same loop, one compiles it, and the others wait for it.

    Divisions by zero give infinity or NaN, as NumPy's do: checks for them would keep loops from being vectorised.
    """
    try:
        return cast(_Function, _claimed(forgiving(renewed(numba.njit(cache=True, **_HOW)(function)))))
    except RuntimeError as error:  # numba's word for a function that it finds no folder for
        if "no locator available" not in str(error):
            raise
        say_once("no folder can be written to keep compiled loops: compiling in every process. Set NUMBA_CACHE_DIR")
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


def _claimed(dispatcher: Any) -> Any:
    """Have it compiled by one process at a time, of those that keep it in the same folder.

    Without that, two that keep a loop for different kinds of arguments could overwrite each other's under one name, and
    what a loop was before its source changed could be taken for it.
    """
    if folder_of(dispatcher) is None:
        return dispatcher
    at_once = dispatcher.compile

    def compile_claimed(kinds: Any) -> Any:
        with global_compiler_lock:  # first, as numba's: a thread that waits for it with a claim could wait for ever
            with claim(*_place(dispatcher), shared=True, meanwhile=_stop):
                if is_kept(dispatcher, kinds):
                    return at_once(kinds)
            with claim(*_place(dispatcher), meanwhile=_stop):
                return at_once(kinds)

    dispatcher.compile = compile_claimed
    return dispatcher


def compile_if_free(dispatcher: Any, kinds: tuple[Any, ...]) -> None:
    """Compile a loop for arguments of these kinds, numba's types, unless it is kept or another process is at it."""
    with global_compiler_lock, claim(*_place(dispatcher), wait=False) as is_mine:
        if is_mine and not is_kept(dispatcher, kinds):
            dispatcher.compile(kinds)


def _place(dispatcher: Any) -> tuple[Path, int]:
    """Of a loop's claim: in its folder, by its name."""
    return Path(dispatcher._cache.cache_path), zlib.crc32(dispatcher._cache._cache_file._index_name.encode())


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


class CompilingStopped(BaseException):
    """Raised by loops that are compiled, or would have to be, `while_compiling_is_stopped`."""


@contextmanager
def while_compiling_is_stopped() -> Iterator[None]:
    """Have threads that compile let go within a second or two: a run that ends needs no more loops."""
    global _stopped
    _stopped = True
    try:
        yield
    finally:
        _stopped = False


def _stop() -> None:
    if _stopped:
        raise CompilingStopped


class _Stop(event.Listener):  # type: ignore[misc]
    """Raises between two passes of the compiler."""

    def on_start(self, event: event.Event) -> None:
        _stop()

    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _UncollectedWhileCompiling())
event.register("numba:run_pass", _Stop())
