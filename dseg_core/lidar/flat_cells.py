"""Cells of a range image that may be ground: the next one of their column is reached at a small angle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.scratch import Scratch

_ROWS_APART = np.float32(4)  # between the points of a pair, at most
_WIDTH = 1024  # columns looked at together, which stay in the nearest cache; known ahead, see `_keep_measured`
_Y, _Z, _ROW = _WIDTH, 2 * _WIDTH, 3 * _WIDTH
_ZERO = np.float32(0.0)

_scratch = Scratch()


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
    kept, apart = _scratch.take("kept", 4 * _WIDTH, np.float32), _scratch.take("apart", _WIDTH, np.uint8)
    _look(axes, distance, square, kept, apart, flat)


@compiled
def _look(
    axes: NDArray[np.float32],
    distance: NDArray[np.float32],
    square: np.float32,
    kept: NDArray[np.float32],
    apart: NDArray[np.uint8],
    flat: NDArray[np.bool_],
) -> None:
    """From the lowest row upwards.

    `kept`: float32 (4 * _WIDTH,), working memory: x, y and z of the next measured cell in each column, and its row.
    `apart`: uint8 (_WIDTH,), also: how far below the cell is that this one is flat with; 0 none.
    """
    rows, columns = distance.shape
    flat[:] = False
    for first in range(0, columns, _WIDTH):
        end = min(first + _WIDTH, columns)
        kept[:_ROW] = _ZERO
        kept[_ROW:] = np.float32(rows) + _ROWS_APART
        for r in range(rows - 1, -1, -1):
            x, y, z = axes[0, r, first:end], axes[1, r, first:end], axes[2, r, first:end]
            _pair(x, y, z, distance[r, first:end], kept, np.float32(r), square, apart)
            for far in range(min(int(_ROWS_APART), rows - 1 - r) + 1):
                _mark(apart, np.uint8(far), flat[r + far, first:end])
            _keep_measured(x, y, z, distance[r, first:end], np.float32(r), kept)


# Loops of their own, without branches, that write to one array each: only such run with vector instructions.


@compiled_within
def _pair(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    z: NDArray[np.float32],
    distance: NDArray[np.float32],
    kept: NDArray[np.float32],
    row: np.float32,
    square: np.float32,
    apart: NDArray[np.uint8],
) -> None:
    for c in range(len(x)):
        dx, dy, dz = x[c] - kept[c], y[c] - kept[c + _Y], z[c] - kept[c + _Z]
        small = (dx * x[c] + dy * y[c] > _ZERO) & (dz * dz < square * (dx * dx + dy * dy))
        rows = kept[c + _ROW] - row
        near = (distance[c] > _ZERO) & (rows <= _ROWS_APART)
        apart[c] = np.uint8(rows if near & small else _ZERO)


@compiled_within
def _mark(apart: NDArray[np.uint8], far: np.uint8, flat: NDArray[np.bool_]) -> None:
    """Cells that are flat with one so far above; with 0, those with any below."""
    for c in range(len(flat)):
        flat[c] |= (apart[c] == far) != (far == 0)


@compiled_within
def _keep_measured(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    z: NDArray[np.float32],
    distance: NDArray[np.float32],
    row: np.float32,
    kept: NDArray[np.float32],
) -> None:
    """What was measured replaces what is kept: of one array, in places that are known not to overlap."""
    for c in range(len(x)):
        is_new = distance[c] > _ZERO
        u, v, w, last = kept[c], kept[c + _Y], kept[c + _Z], kept[c + _ROW]  # all are read, else there were branches
        new_u, new_v, new_w = x[c], y[c], z[c]
        kept[c] = new_u if is_new else u
        kept[c + _Y] = new_v if is_new else v
        kept[c + _Z] = new_w if is_new else w
        kept[c + _ROW] = row if is_new else last
