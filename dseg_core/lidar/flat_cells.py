"""Cells of a range image that may be ground: the next one of their column is reached at a small angle."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_ROWS_APART = np.int32(4)  # between the points of a pair, at most
_ZERO = np.float32(0.0)


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
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
    _, rows, columns = axes.shape
    below = np.full(columns, rows + _ROWS_APART, np.int32)  # the row of the next measured cell
    corners = np.zeros((3, columns), np.float32)  # its point
    apart = np.empty(columns, np.uint8)  # how far below is the cell that this one is flat with; 0 none
    flat[:] = False
    for r in range(rows - 1, -1, -1):
        _pair(axes[0, r], axes[1, r], axes[2, r], distance[r], corners, below, np.int32(r), square, apart)
        _mark(apart, np.uint8(0), flat[r])
        for far in range(1, min(_ROWS_APART, rows - 1 - r) + 1):
            _mark(apart, np.uint8(far), flat[r + far])
        for k in range(3):
            _replace(corners[k], distance[r], axes[k, r])
        _replace(below, distance[r], np.full(columns, r, np.int32))


# Loops of their own, without branches, that write to one array each: only such run with vector instructions.


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
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


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _mark(apart: NDArray[np.uint8], far: np.uint8, flat: NDArray[np.bool_]) -> None:
    """Cells that are flat with one so far above; with 0, those with any below."""
    for c in range(len(flat)):
        flat[c] |= (apart[c] == far) != (far == 0)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _replace(kept: NDArray[np.float32], distance: NDArray[np.float32], new: NDArray[np.float32]) -> None:
    """By what was measured, where it was."""
    for c in range(len(kept)):
        before, after = kept[c], new[c]  # both are read, else there would be a branch
        kept[c] = after if distance[c] > _ZERO else before
