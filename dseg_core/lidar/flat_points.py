"""Points of a cloud without beams that may be ground: thin layers, with nothing close above or below them [ours]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled

_CELL, _SIGN, _NOWHERE = np.int64(32), np.int64(1 << 31), np.int64(2**63 - 1)
_LAST, _OTHERS = np.int32(31), np.int32(2**31 - 1)  # bits of a float
_HALF, _ZERO = np.float32(0.5), np.int32(0)
_THIN, _WIDEST = 0.12, 3.0  # metres: of a level layer, and the extent from which slopes add no more to that
_GAP, _GAP_RISE = 0.15, 0.01  # metres between layers, and per metre of range: beams spread


def flat_points(
    z: NDArray[np.float32],
    planar: NDArray[np.float32],
    place: NDArray[np.int32],
    sectors: int,
    edges: NDArray[np.float64],
    slope: float,
) -> NDArray[np.int32]:
    """Find the points that lie in layers as thin as ground is.

    Within each half of a cell of the polar grid, points are parted into layers by the gaps between their heights. Of a
    wall there is one thick layer, or its points are as far apart as those of a sweep at that range can be; ground under
    a tree, or over a reflection in a puddle, is a layer of its own.

    Args:
        z: float32 (N,), metres.
        planar: float32 (N,), distance from the sensor in the plane, metres.
        place: int32 (N,), cell of the polar grid, bin * sectors + sector, -1 for points that are not on it.
        sectors: Of the grid.
        edges: float64 (bins + 1,), planar distances, metres.
        slope: Steepest ground, as a tangent.

    Returns:
        int32 (M,), the points that are flat.
    """
    key, nominated = np.empty(len(z), np.int64), np.empty(len(z), np.int32)
    _keys(z.view(np.int32), planar, place, np.int32(sectors), edges.astype(np.float32), key)
    order = np.argsort(key)
    return nominated[: _layers(z, key, order, sectors, edges, slope, nominated)]


@compiled
def _keys(
    bits: NDArray[np.int32],
    planar: NDArray[np.float32],
    place: NDArray[np.int32],
    sectors: np.int32,
    edges: NDArray[np.float32],
    key: NDArray[np.int64],
) -> None:
    """What points are sorted by: half cell, then height, whose `bits` are in order but for those below zero."""
    for i in range(len(bits)):
        p = place[i]
        b = max(p, _ZERO) // sectors
        outer = np.int32(planar[i] > _HALF * (edges[b] + edges[b + 1]))
        level = np.int64(bits[i] ^ ((bits[i] >> _LAST) & _OTHERS)) + _SIGN
        key[i] = (np.int64(np.int32(2) * p + outer) << _CELL) + level if p >= 0 else _NOWHERE


@compiled
def _layers(
    z: NDArray[np.float32],
    key: NDArray[np.int64],
    order: NDArray[np.int64],
    sectors: int,
    edges: NDArray[np.float64],
    slope: float,
    nominated: NDArray[np.int32],
) -> int:
    count, start = 0, 0
    while start < len(order) and key[order[start]] != _NOWHERE:
        cell = key[order[start]] >> _CELL
        b = (cell // 2) // sectors
        length = 0.5 * (edges[b + 1] - edges[b])
        middle = edges[b] + (0.5 + cell % 2) * length
        extent = np.hypot(length, middle * 2 * np.pi / sectors)
        thin, gap = _THIN + slope * min(extent, _WIDEST), _GAP + _GAP_RISE * middle
        end, low, high = start, np.float32(np.inf), np.float32(-np.inf)
        while end < len(order) and key[order[end]] >> _CELL == cell:
            height = z[order[end]]
            if end > start and height - high >= gap:
                break
            low, high = min(low, height), max(high, height)
            end += 1
        if high - low <= thin:
            for k in range(start, end):
                nominated[count] = order[k]
                count += 1
        start = end
    return count
