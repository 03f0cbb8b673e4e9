"""Calls of loops, against the kinds that numba itself meets in the same call."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType

import numpy as np
import pytest
from numba import types

from dseg_core.calls_of_loops import calls_of_loops

SOURCE = """
import numpy as np
from dseg_core.compiling import compiled, compiled_within

@compiled_within
def third(x):
    return x / 3

@compiled
def half(x):
    return x / 2

@compiled
def both(found, row, turned, pair):
    for i in range(len(found)):
        found[i] = half(found[i]) + third(row[i]) + pair[0] + turned
    return len(found)

def drive(n):
    found = np.zeros((n, 2), np.float32)
    count = both(found[:, 0], np.arange(n, dtype=np.uint16), np.float32(0.5), (1, 2.0))
    return half(count) + half(count), found
"""


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module with loops, and what drives them."""
    made = ModuleType("dseg_core.toys")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    exec(compile(SOURCE, __file__, "exec"), vars(made))  # noqa: S102
    return made


def test_calls_are_those_that_numba_meets(toys: ModuleType) -> None:
    both, half = toys.both, toys.half
    with calls_of_loops() as calls:
        result, found = toys.drive(5)
    assert (toys.both, toys.half) == (both, half) and not both.signatures, "nothing was compiled"
    expected, filled = toys.drive(5)
    assert result == expected
    np.testing.assert_allclose(found, filled)
    assert [call.loop for call in calls] == [both, half]
    assert {call.kinds for call in calls if call.loop is both} == set(both.signatures)
    assert [call.kinds for call in calls if call.loop is half] == [(types.int64,)]
    assert len(half.signatures) == 2, "the call within the other loop is of another kind"


def test_what_is_within_costs_too(toys: ModuleType) -> None:
    with calls_of_loops() as calls:
        toys.drive(1)
    costs = {call.loop: call.cost() for call in calls}
    own, within = (len(inspect.unwrap(f).__code__.co_code) for f in (toys.both, toys.third))
    assert costs[toys.both] == own + within + costs[toys.half] > costs[toys.half] > 0


def test_loops_come_back_after_an_error(toys: ModuleType) -> None:
    half = toys.half
    with pytest.raises(TypeError), calls_of_loops():
        toys.half(None)
    assert toys.half is half
