"""Fragments of objects, joined to what they are part of: mirrors, roofs, clumps of leaves [ours]."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_ASIDE, _WIDEST, _ABOVE = 5, 16, 3  # cells that are searched: aside from 5 to 16, as far as the gap reaches, and above
_RISE = np.float32(0.01)  # of the largest gap with range: beams spread
_FEET, _TALL = np.float32(0.6), np.float32(0.6)  # metres
_ONE = np.float32(1.0)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def join_fragments(
    axes: NDArray[np.float32],
    distance: NDArray[np.float32],
    labels: NDArray[np.int32],
    chains: tuple[NDArray[np.int32], NDArray[np.int32]],
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
        chains: The cells of each label, so that large ones need not be looked through: int32 (L,) its last cell, and
            int32 (R * C,) the cell of the same label before each, -1 before the first; row * C + column.
        root: int32 (L,), the component that each label is part of, one of its labels; is changed.
        sizes: int32 (L,), cells of each component, at its root.
        most: Cells of a small component, at most.
        gap: Largest distance to the other one, metres, and 1 % of the range more.
    """
    _, rows, columns = axes.shape
    count, cells = len(root), rows * columns
    last, before = chains
    per_radian = np.float32(columns / (2 * np.pi))
    to, nearest = np.full(count, -1, np.int32), np.full(count, np.inf, np.float32)
    low, high = np.full(count, np.inf, np.float32), np.full(count, -np.inf, np.float32)
    stands = np.zeros(count, np.bool_)
    xs, ys, zs = axes[0].reshape(-1), axes[1].reshape(-1), axes[2].reshape(-1)
    found, reach = labels.reshape(-1), distance.reshape(-1)
    for label in range(count):
        own = root[label]
        size = sizes[own]
        cell = np.int64(last[label]) if size <= most else -1
        best, other, on_ground = nearest[own], to[own], stands[own]  # of the component, in registers
        bottom, top = low[own], high[own]
        while cell >= 0:
            x, y, z = xs[cell], ys[cell], zs[cell]
            bottom, top = min(bottom, z), max(top, z)
            limit = gap + _RISE * reach[cell]
            wide = int(limit * per_radian / reach[cell])
            wide = _ASIDE if wide < _ASIDE else _WIDEST if wide > _WIDEST else wide
            limit = min(limit * limit, best)
            c = cell % columns
            for way in range(4):
                step = -1 if way == 0 else 1 if way == 1 else -columns if way == 2 else columns
                seam = c + 1 if way == 0 else columns - c if way == 1 else 0  # steps to the far side of the image
                k = cell
                for steps in range(1, (wide if way < 2 else _ABOVE) + 1):
                    k += step
                    if steps == seam:
                        k -= step * columns
                    if k < 0 or k >= cells:
                        break
                    if found[k] < 0:
                        if way == 3 and not on_ground and reach[k] > 0:
                            dx, dy = x - xs[k], y - ys[k]
                            on_ground = dx * dx + dy * dy < _ONE and z - zs[k] < _FEET
                        continue
                    neighbour = root[found[k]]
                    if neighbour == own:
                        break  # that cell searches on
                    dx, dy, dz = x - xs[k], y - ys[k], z - zs[k]
                    apart = dx * dx + dy * dy + dz * dz
                    nearer = apart < limit or (apart == best and neighbour < other)
                    if nearer and (sizes[neighbour] > size or (sizes[neighbour] == size and neighbour < own)):
                        best, other, limit = apart, neighbour, apart
            cell = np.int64(before[cell])
        nearest[own], to[own], stands[own] = best, other, on_ground
        low[own], high[own] = bottom, top
    for k in range(count):
        if to[k] >= 0 and not (stands[k] and high[k] - low[k] > _TALL):
            root[k] = to[k]
    for k in range(count):  # each leads to a larger one, so there are no circles
        end = root[k]
        while root[end] != end:
            end = root[end]
        root[k] = end
