"""Cells of a range image that may be ground: the next one of their column is reached at a small angle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.cell_links import keep_measured, keep_row

_ROWS_APART = np.int32(4)  # between the points of a pair, at most
_ZERO = np.float32(0.0)


def flat_cells(
    axes: NDArray[np.float32], distance: NDArray[np.float32], square: np.float32, flat: NDArray[np.bool_]
) -> None:
    """Cells from which the next measured cell of the same column, up or down, is reached at a small angle.

    Args:
        axes: float32 (3, R, C), metres.
        distance: float32 (R, C), metres, 0 where there is no measurement.
        square: Of the angle's tangent.
        flat: bool (R, C), is filled.
    """
    rows, columns = distance.shape
    below = np.full(columns, rows + int(_ROWS_APART), np.int32)
    _look(axes, distance, square, np.zeros((3, columns), np.float32), below, np.empty(columns, np.uint8), flat)


@compiled
def _look(
    axes: NDArray[np.float32],
    distance: NDArray[np.float32],
    square: np.float32,
    corners: NDArray[np.float32],
    below: NDArray[np.int32],
    apart: NDArray[np.uint8],
    flat: NDArray[np.bool_],
) -> None:
    """From the lowest row upwards.

    `below` and `corners`: the row of the next measured cell in each column, and its point. `apart`: how far below the
    cell is that this one is flat with; 0 none.
    """
    rows = len(distance)
    flat[:] = False
    for r in range(rows - 1, -1, -1):
        _pair(axes[0, r], axes[1, r], axes[2, r], distance[r], corners, below, np.int32(r), square, apart)
        for far in range(min(int(_ROWS_APART), rows - 1 - r) + 1):
            _mark(apart, np.uint8(far), flat[r + far])
        for k in range(3):
            keep_measured(distance[r], axes[k, r], corners[k])
        keep_row(distance[r], np.int32(r), below)


# Loops of their own, without branches, that write to one array each: only such run with vector instructions.


@compiled_within
def _pair(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    z: NDArray[np.float32],
    distance: NDArray[np.float32],
    corners: NDArray[np.float32],
    below: NDArray[np.int32],
    row: np.int32,
    square: np.float32,
    apart: NDArray[np.uint8],
) -> None:
    u, v, w = corners[0], corners[1], corners[2]
    for c in range(len(x)):
        dx, dy, dz = x[c] - u[c], y[c] - v[c], z[c] - w[c]
        small = (dx * x[c] + dy * y[c] > _ZERO) & (dz * dz < square * (dx * dx + dy * dy))
        near = (distance[c] > _ZERO) & (below[c] - row <= _ROWS_APART)
        apart[c] = np.uint8(below[c] - row) if near & small else np.uint8(0)


@compiled_within
def _mark(apart: NDArray[np.uint8], far: np.uint8, flat: NDArray[np.bool_]) -> None:
    """Cells that are flat with one so far above; with 0, those with any below."""
    for c in range(len(flat)):
        flat[c] |= (apart[c] == far) != (far == 0)
