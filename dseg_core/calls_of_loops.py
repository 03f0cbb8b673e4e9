"""Which compiled loops are called, and with which kinds of arguments, found out without compiling any."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from numba.core.dispatcher import Dispatcher


class Call(NamedTuple):
    """A loop, numba's dispatcher, and the kinds of its arguments, numba's types."""

    loop: Any
    kinds: tuple[Any, ...]

    def cost(self) -> int:
        """What compiling it takes beside others, by the length of its code and of the loops within it."""
        within, left = set[Any](), [self.loop.py_func]
        while left:
            function = left.pop()
            if function not in within:
                within.add(function)
                used = (function.__globals__.get(name) for name in function.__code__.co_names)
                left += [inspect.unwrap(x) for x in used if hasattr(x, "_numba_type_")]
        return sum(len(function.__code__.co_code) for function in within)


class _Calls:
    """Notes what is called, but for what is called within: there numba finds the kinds, which may be others."""

    def __init__(self) -> None:
        self.found: dict[Call, None] = {}
        self._is_within = False

    def run(self, loop: Any, arguments: tuple[Any, ...]) -> Any:
        if self._is_within:
            return loop.py_func(*arguments)
        self.found[Call(loop, tuple(map(loop.typeof_pyval, arguments)))] = None
        self._is_within = True
        try:
            return loop.py_func(*arguments)
        finally:
            self._is_within = False


@contextmanager
def calls_of_loops() -> Iterator[dict[Call, None]]:
    """Run the loops of dseg_core as they are written, in Python, in all modules that are imported.

    For processes of one thread. Takes a hundred times as long as the compiled loops do, and no second more.

    Yields:
        The calls from Python, each kind once, in the order of their first.
    """
    modules = [module for name, module in sys.modules.items() if name.startswith("dseg_core.")]
    loops = [(m, k, v) for m in modules for k, v in vars(m).items() if isinstance(v, Dispatcher)]
    calls = _Calls()
    try:
        for module, name, loop in loops:
            setattr(module, name, _watched(loop, calls))
        yield calls.found
    finally:
        for module, name, loop in loops:
            setattr(module, name, loop)


def _watched(loop: Any, calls: _Calls) -> Any:
    return lambda *arguments: calls.run(loop, arguments)
