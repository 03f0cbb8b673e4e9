"""Feet of objects that lie as near to the field of the ground's heights as ground does [ours]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.kind_from_field import GROUND, NONE, OBJECT
from dseg_core.lidar.marked import AT_ONCE, list_words
from dseg_core.lidar.scratch import Scratch

_ROWS = np.uint8(3)  # from a foot up to the object's cell, at most: cells in between are empty
_STEEP = np.float32(3)  # square of the tangent of 60 degrees
_NEAREST = np.float32(12.0)  # metres: nearer, the field is known better than wheels are high

_scratch = Scratch()


def give_feet(
    axes: NDArray[np.float32], index: NDArray[np.int32], kinds: NDArray[np.uint8], kind: NDArray[np.uint8]
) -> None:
    """Take cells for an object's, not for ground, that lie steeply below one of an object.

    From 12 m on, the field of heights is known to some ten centimetres, from cells some metres long: wheels, the lower
    fifth of people and the feet of walls are as near to it as ground is. But beams that hit ground before an object do
    so far before it, while those on its foot hit right below the others.

    Args:
        axes: float32 (3, R, C), x, y and z of each cell's point, metres, z up; rows from top to bottom.
        index: int32 (R, C), the cells' points, -1 where a cell is empty.
        kinds: uint8 (R, C), of cells, is changed.
        kind: uint8 (N,), of points, is changed for the nearest of these cells.
    """
    columns = kinds.shape[1]
    below = np.zeros(-(-columns // AT_ONCE) * AT_ONCE, np.bool_)
    some, cells = (_scratch.take(name, len(below) + 1, np.int32) for name in ("some", "cells"))
    _give(axes, index, kinds, np.zeros(columns, np.uint8), below, below.view(np.uint64), some, cells, kind)


@compiled
def _give(
    axes: NDArray[np.float32],
    index: NDArray[np.int32],
    kinds: NDArray[np.uint8],
    up: NDArray[np.uint8],
    below: NDArray[np.bool_],
    words: NDArray[np.uint64],
    some: NDArray[np.int32],
    cells: NDArray[np.int32],
    kind: NDArray[np.uint8],
) -> None:
    """Row by row downwards, so that a foot may have several cells.

    `up`: uint8 (C,), zeros: rows up to the last measured cell if it is an object's, else 0. `below`: bool (a multiple
    of AT_ONCE,), False: cells of ground below those; they are one of fifty. `words`: uint64, the same memory. `some`,
    `cells`: int32 (as many as in `below` and one,), working memory.
    """
    for r in range(1, len(kinds)):
        _count_up(kinds[r - 1], up)
        _mark(kinds[r], up, below)
        for n in range(_list(words, below, some, cells)):
            c = cells[n]
            i, is_foot = np.uint32(index[r, c]), _is_foot(axes, r - int(up[c]), r, c)
            before = kind[i]  # both are written in any case: a branch would often be guessed wrong
            kinds[r, c], kind[i] = OBJECT if is_foot else GROUND, OBJECT if is_foot else before


@compiled_within
def _list(
    words: NDArray[np.uint64], below: NDArray[np.bool_], some: NDArray[np.int32], cells: NDArray[np.int32]
) -> int:
    """The cells that are marked, and how many they are."""
    count = 0
    for n in range(list_words(words, 0, some)):
        for c in range(some[n], some[n] + AT_ONCE):
            cells[np.uint64(count)] = c  # kept where it is counted: no branch, which would often be guessed wrong
            count += below[np.uint32(c)]
    return count


# Loops of their own, without branches, that write to one array each: only such run with vector instructions.


@compiled_within
def _count_up(last: NDArray[np.uint8], up: NDArray[np.uint8]) -> None:
    """One row further down, past the row `last`."""
    for c in range(len(up)):
        on = up[c] + np.uint8(1) if (up[c] > 0) & (up[c] < _ROWS) & (last[c] == NONE) else np.uint8(0)
        up[c] = np.uint8(1) if last[c] >= OBJECT else on


@compiled_within
def _mark(kinds: NDArray[np.uint8], up: NDArray[np.uint8], below: NDArray[np.bool_]) -> None:
    for c in range(len(up)):
        below[c] = (kinds[c] == GROUND) & (up[c] > 0)


@compiled_within
def _is_foot(axes: NDArray[np.float32], upper: int, lower: int, c: int) -> bool:
    """Whether the way down from one row to another is steeper than 60 degrees, and far enough away."""
    x, y = axes[0, lower, c], axes[1, lower, c]
    dx, dy, down = axes[0, upper, c] - x, axes[1, upper, c] - y, axes[2, upper, c] - axes[2, lower, c]
    is_steep = (down > 0) & (down * down > _STEEP * (dx * dx + dy * dy))
    return bool(is_steep & (x * x + y * y > _NEAREST * _NEAREST))
