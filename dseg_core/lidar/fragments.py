"""Fragments of objects, joined to what they are part of: mirrors, roofs, clumps of leaves [ours]."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_ASIDE, _ABOVE = 8, 4  # cells that are searched on either side
_RISE = np.float32(0.01)  # of the largest gap with range: beams spread
_FEET, _TALL = np.float32(0.6), np.float32(0.6)  # metres
_ONE = np.float32(1.0)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def join_fragments(
    axes: NDArray[np.float32],
    distance: NDArray[np.float32],
    labels: NDArray[np.int32],
    root: NDArray[np.int32],
    sizes: NDArray[np.int32],
    most: int,
    gap: np.float32,
) -> None:
    """Give each small component to the nearest larger one beside it, unless it stands on the ground by itself.

    What stands on the ground and is tall is a thing of its own, a post or a person, however near to others.

    Args:
        axes: float32 (3, R, C), x, y and z of each cell's point, metres, z up.
        distance: float32 (R, C), metres, 0 where a cell is empty.
        labels: int32 (R, C), -1 where there is no object.
        root: int32 (L,), the component that each label is part of, one of its labels; is changed.
        sizes: int32 (L,), cells of each component, at its root.
        most: Cells of a small component, at most.
        gap: Largest distance to the other one, metres, and 1 % of the range more.
    """
    _, rows, columns = axes.shape
    count = len(root)
    small = np.empty(count, np.bool_)
    for k in range(count):
        small[k] = sizes[root[k]] <= most
    to, nearest = np.full(count, -1, np.int32), np.full(count, np.inf, np.float32)
    low, high = np.full(count, np.inf, np.float32), np.full(count, -np.inf, np.float32)
    stands = np.zeros(count, np.bool_)
    for r in range(rows):
        for c in range(columns):
            if labels[r, c] < 0 or not small[labels[r, c]]:
                continue
            own = root[labels[r, c]]
            x, y, z = axes[0, r, c], axes[1, r, c], axes[2, r, c]
            low[own], high[own] = min(low[own], z), max(high[own], z)
            limit = min((gap + _RISE * distance[r, c]) ** 2, nearest[own])
            for way in range(4):
                for k in range(1, (_ASIDE if way < 2 else _ABOVE) + 1):
                    i, j = r, c
                    if way == 0:
                        j = c - k if c >= k else c - k + columns
                    elif way == 1:
                        j = c + k if c + k < columns else c + k - columns
                    else:
                        i = r - k if way == 2 else r + k
                        if i < 0 or i >= rows:
                            break
                    if labels[i, j] < 0:
                        if way == 3 and distance[i, j] > 0 and not stands[own]:
                            over = (x - axes[0, i, j]) ** 2 + (y - axes[1, i, j]) ** 2 < _ONE
                            stands[own] = over and z - axes[2, i, j] < _FEET
                        continue
                    other = root[labels[i, j]]
                    if other == own:
                        break  # that cell searches on
                    if sizes[other] < sizes[own] or (sizes[other] == sizes[own] and other > own):
                        continue
                    d = (x - axes[0, i, j]) ** 2 + (y - axes[1, i, j]) ** 2 + (z - axes[2, i, j]) ** 2
                    if d < limit or (d == nearest[own] and other < to[own]):
                        nearest[own], to[own], limit = d, other, d
    for k in range(count):
        if to[k] >= 0 and not (stands[k] and high[k] - low[k] > _TALL):
            root[k] = to[k]
    for k in range(count):  # each leads to a larger one, so there are no circles
        end = root[k]
        while root[end] != end:
            end = root[end]
        root[k] = end
