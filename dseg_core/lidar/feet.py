"""Feet of objects that lie as near to the field of the ground's heights as ground does [ours]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.kind_from_field import GROUND, NONE, OBJECT

_ROWS = np.uint8(3)  # from a foot up to the object's cell, at most: cells in between are empty
_STEEP = np.float32(3)  # square of the tangent of 60 degrees
_NEAREST = np.float32(12.0)  # metres: nearer, the field is known better than wheels are high
_AT_ONCE = 8  # cells


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
    _give(axes, index, kinds, np.zeros(columns, np.uint8), np.zeros(columns + _AT_ONCE, np.bool_), kind)


@compiled
def _give(
    axes: NDArray[np.float32],
    index: NDArray[np.int32],
    kinds: NDArray[np.uint8],
    up: NDArray[np.uint8],
    below: NDArray[np.bool_],
    kind: NDArray[np.uint8],
) -> None:
    """Row by row downwards, so that a foot may have several cells.

    `up`: uint8 (C,), zeros: rows up to the last measured cell if it is an object's, else 0. `below`: bool (C +
    _AT_ONCE,), False: cells of ground below those. They are one of fifty, so that most are passed over at once.
    """
    columns = kinds.shape[1]
    for r in range(1, len(kinds)):
        _count_up(kinds[r - 1], up)
        _mark(kinds[r], up, below)
        for first in range(0, columns, _AT_ONCE):
            found = False
            for k in range(_AT_ONCE):
                found |= below[first + k]
            if not found:
                continue
            for c in range(first, min(first + _AT_ONCE, columns)):
                if below[c] and _is_foot(axes, r - int(up[c]), r, c):
                    kinds[r, c] = kind[index[r, c]] = OBJECT


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
