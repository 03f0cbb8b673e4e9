"""What the field of the ground's heights grows from: the lowest flat points of cells, the height under the sensor."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.points import Points
from dseg_core.lidar.polar_grid import SECTORS, PolarGrid
from dseg_core.lidar.scratch import Scratch

_HIGHEST = np.float32(10.0)  # metres that the LiDAR may be over the ground: also on cranes and lorries
_LEVELS, _PER_METRE = 20 * 11, np.float32(20)  # 5 cm each, up to 1 m over the sensor
_TOP, _FROM, _TO, _NOWHERE = np.array([1.0, 3.0, 20.0, np.inf], dtype=np.float32)
_BLOCK = 4096
_NEXT = np.int32(1)
_ODD, _TWO, _LAST_OF_FOUR, _FOUR = np.array([1, 2, 3, 4], dtype=np.uint32)

_scratch = Scratch()


class Seeds(NamedTuple):
    """What the field of heights grows from.

    `is_flat`: bool (N,), points. `spots`, `heights`: int32 (K,) and float32 (K,), of each flat point, where sums over
    the cells of the polar grid have it, 2 p + 2 or 2 p + 3 for cell p, by turns, 0 or 1 if it is not on the grid; and
    its z. `low`: float64 (bins, sectors), the lowest in each cell, infinite without any. `sensor`: the ground's height
    under the sensor, NaN where nothing is flat 3 to 20 m away. Metres.
    """

    is_flat: NDArray[np.bool_]
    spots: NDArray[np.int32]
    heights: NDArray[np.float32]
    low: NDArray[np.float64]
    sensor: float


def seeds_of(points: Points, grid: PolarGrid, flat: NDArray[np.bool_], index: NDArray[np.int32]) -> Seeds:
    """Take what the field grows from. Its memory is used anew for the thread's next cloud.

    Args:
        points: The cloud.
        grid: Of it.
        flat: bool, any shape: cells of the range image, or all true.
        index: int32, of the same shape: their points.
    """
    n, cells = len(points), (len(grid.edges) - 1) * SECTORS
    is_flat = _scratch.take("is_flat", n, np.bool_)
    spots, heights = _scratch.take("spots", n, np.int32), _scratch.take("heights", n, np.float32)
    block, low = _scratch.take("block", _BLOCK + 1, np.int32), _scratch.take("low", cells, np.float64)
    lows = _scratch.take("lows", 2 * (cells + 1), np.float32)
    heaps = _scratch.take("heaps", 4 * (_LEVELS + 1), np.float64)
    count, sensor = _nominate(
        flat.reshape(-1), index.reshape(-1), grid.place, points.axes[2], points.distance, is_flat, spots, heights,
        lows, heaps, block, low,
    )  # fmt: skip
    return Seeds(is_flat, spots[:count], heights[:count], low.reshape(-1, SECTORS), sensor)


@compiled
def _nominate(
    flat: NDArray[np.bool_],
    index: NDArray[np.int32],
    place: NDArray[np.int32],
    z: NDArray[np.float32],
    distance: NDArray[np.float32],
    is_flat: NDArray[np.bool_],
    spots: NDArray[np.int32],
    heights: NDArray[np.float32],
    lows: NDArray[np.float32],
    heaps: NDArray[np.float64],
    block: NDArray[np.int32],
    low: NDArray[np.float64],
) -> tuple[int, float]:
    """Points of flat cells, and what the field grows from.

    Neighbouring points lie in the same cells, and what is added to a number that was just written waits for it: so
    points by turns add to two sums of each cell, and to four of each level.

    Args:
        flat: bool (R * C,), cells of the range image.
        index: int32 (R * C,), their points.
        place: int32 (N,), cells of the polar grid.
        z: float32 (N,), metres.
        distance: float32 (N,), metres.
        is_flat: bool (N,), is filled.
        spots: int32 (N,), is filled, see `Seeds`.
        heights: float32 (N,), also.
        lows: float32 (2 * (bins * sectors + 1),), working memory, for the lowest in each cell of the grid.
        heaps: float64 (4 * (_LEVELS + 1),), also, for the heights of those 3 to 20 m away, by 5 cm from -_HIGHEST on,
            and behind with the others.
        block: int32 (_BLOCK + 1,), working memory: points of flat cells, listed without a branch.
        low: float64 (bins * sectors,), is filled with the lowest of all, infinite without any.

    Returns:
        How many `spots` there are, and the ground's height under the sensor, see `Seeds`.
    """
    is_flat[:] = False
    lows[:] = _NOWHERE
    heaps[:] = 0.0
    count = 0
    for start in range(0, len(flat), _BLOCK):
        end = min(start + _BLOCK, len(flat))
        for n in range(_list(flat[start:end], index[start:end], block)):
            i, m = np.uint32(block[n]), np.uint32(count)  # no branch for numbers below 0
            height, away = z[i], distance[i]
            is_flat[i] = True
            spot = np.uint32(place[i] + _NEXT) * _TWO + (m & _ODD)
            spots[m], heights[m] = spot, height
            lows[spot] = min(lows[spot], height)
            near = (away > _FROM) & (away < _TO) & (height > -_HIGHEST) & (height < _TOP)
            level = np.uint32(((height if near else _TOP) + _HIGHEST) * _PER_METRE)  # no branch here, either
            heaps[level * _FOUR + (m & _LAST_OF_FOUR)] += away  # near rows are denser than their area
            count += 1
    for p in range(len(low)):
        low[p] = min(lows[2 * p + 2], lows[2 * p + 3])
    return count, _height_under_sensor(heaps)


@compiled_within
def _list(flat: NDArray[np.bool_], index: NDArray[np.int32], block: NDArray[np.int32]) -> int:
    count = 0
    for k in range(len(flat)):
        block[np.uint64(count)] = index[k]
        count += flat[k]
    return count


@compiled_within
def _height_under_sensor(heaps: NDArray[np.float64]) -> float:
    """Where flat points are most frequent, of three levels together; NaN without any [m]."""
    best, most = np.nan, 0.0
    for level in range(1, _LEVELS - 1):
        heap = 0.0
        for k in range(4 * (level - 1), 4 * (level + 2)):
            heap += heaps[k]
        if heap > most:
            best, most = level / 20.0 - 10.0 + 0.025, heap
    return best
