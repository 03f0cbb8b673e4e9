"""Saying that numba compiles: once per machine it takes half a minute, in which nothing else moves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def say_when_compiling(function: Any, what: str) -> None:
    """Print a line to stderr when a compiled function is not in numba's cache yet.

    Args:
        function: Decorated by `numba.njit(cache=True)`; stands for the others it is used with.
        what: What begins with the compilation.
    """
    path, module = Path(function.stats.cache_path), function.py_func.__module__.rpartition(".")[2]
    if not function.signatures and not any(path.glob(f"{module}.{function.py_func.__name__}-*.nbi")):
        print(f"{what}: compiling once for this machine, about 20 s", file=sys.stderr, flush=True)
