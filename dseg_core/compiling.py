"""Compiling loops with numba: once per machine where a folder can be written, which takes some seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])
_HOW: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
_said: set[str] = set()


def compiled(function: _Function) -> _Function:
    """Compile with numba when first called; the interpreter's lock is not held while it runs.

    What is compiled is kept beside the source, or in the user's cache folder, or where NUMBA_CACHE_DIR says. Where
    nothing can be written, as in containers with a read-only file system, every process compiles anew and says so once.

    Divisions by zero give infinity or NaN, as NumPy's do: checks for them would keep loops from being vectorised.
    """
    try:
        return cast(_Function, numba.njit(cache=True, **_HOW)(function))
    except RuntimeError as error:  # numba's word for a function that it finds no folder for
        if "no locator available" not in str(error):
            raise
        _say_once("no folder can be written to keep compiled loops: compiling in every process. Set NUMBA_CACHE_DIR")
        return cast(_Function, numba.njit(**_HOW)(function))


def say_when_compiling(function: Any, what: str) -> None:
    """Print a line to stderr when a compiled function is not in numba's cache yet.

    Args:
        function: Decorated by `compiled`; stands for the others it is used with.
        what: What begins with the compilation.
    """
    folder, module = function.stats.cache_path, function.py_func.__module__.rpartition(".")[2]
    if folder is None:  # then `compiled` said it
        return
    if not function.signatures and not any(Path(folder).glob(f"{module}.{function.py_func.__name__}-*.nbi")):
        print(f"{what}: compiling once for this machine, about 20 s", file=sys.stderr, flush=True)


def _say_once(line: str) -> None:
    if line not in _said:
        _said.add(line)
        print(line, file=sys.stderr, flush=True)
