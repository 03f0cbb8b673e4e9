"""What the field of the ground's heights grows from: the lowest flat points of cells, the height under the sensor."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.marked import AT_ONCE, list_words
from dseg_core.lidar.points import Points
from dseg_core.lidar.polar_grid import SECTORS, PolarGrid
from dseg_core.lidar.scratch import Scratch

_HIGHEST = np.float32(10.0)  # metres that the LiDAR may be over the ground: also on cranes and lorries
_LEVELS, _PER_METRE = 20 * 11, np.float32(20)  # 5 cm each, up to 1 m over the sensor
_TOP, _FROM, _TO, _NOWHERE = np.array([1.0, 3.0, 20.0, np.inf], dtype=np.float32)
_BLOCK = 2048
_LANES, _HEAP_LANES = 2, 4
_NEXT, _EIGHT, _TWO, _FOUR, _OTHER = np.array([1, AT_ONCE, _LANES, _HEAP_LANES, _LEVELS], dtype=np.int32)
_LAST_OF_FOUR, _NO = np.int32(3), np.uint64(0)

_scratch = Scratch()


class Seeds(NamedTuple):
    """What the field of heights grows from.

    `is_flat`: bool (N,), points. `some`: int32 (M,), from which on any of AT_ONCE points are flat; the last ones, fewer
    than that, are looked at in any case. `spots`: int32 (N,), where sums over the cells of the polar grid have each
    flat point's: 2 p + 2 or 2 p + 3 for cell p, by turns; 0 or 1 for those not on the grid and for others. `heights`:
    float32 (N,), z of all. `low`: float64 (bins, sectors), the lowest flat point of each cell, infinite without any.
    `sensor`: the ground's height under the sensor, NaN where nothing is flat 3 to 20 m away. Metres.
    """

    is_flat: NDArray[np.bool_]
    some: NDArray[np.int32]
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
        index: int32, of the same shape: their points, -1 where there is none.
    """
    n, cells = len(points), (len(grid.edges) - 1) * SECTORS
    marks, spots = _scratch.take("marks", n + AT_ONCE, np.bool_), _scratch.take("spots", n, np.int32)
    levels, low = _scratch.take("levels", _BLOCK, np.int32), _scratch.take("low", cells, np.float64)
    lows = _scratch.take("lows", _LANES * (cells + 1), np.float32)
    heaps = _scratch.take("heaps", _HEAP_LANES * (_LEVELS + 1), np.float64)
    some, z, is_flat = _scratch.take("some", n // AT_ONCE + 1, np.int32), points.axes[2], marks[AT_ONCE:]
    words = is_flat[: n // AT_ONCE * AT_ONCE].view(np.uint64)
    count, sensor = _nominate(
        flat.reshape(-1), index.reshape(-1), grid.place, z, points.distance, marks, words, some, spots, levels, lows,
        heaps, low,
    )  # fmt: skip
    return Seeds(is_flat, some[:count], spots, z, low.reshape(-1, SECTORS), sensor)


@compiled
def _nominate(
    flat: NDArray[np.bool_],
    index: NDArray[np.int32],
    place: NDArray[np.int32],
    z: NDArray[np.float32],
    distance: NDArray[np.float32],
    marks: NDArray[np.bool_],
    words: NDArray[np.uint64],
    some: NDArray[np.int32],
    spots: NDArray[np.int32],
    levels: NDArray[np.int32],
    lows: NDArray[np.float32],
    heaps: NDArray[np.float64],
    low: NDArray[np.float64],
) -> tuple[int, float]:
    """Points of flat cells, and what the field grows from.

    Neighbouring points lie in the same cells, and what is added to a number that was just written waits for it: so
    points by turns add to several tables.

    Args:
        flat: bool (R * C,), cells of the range image.
        index: int32 (R * C,), their points.
        place: int32 (N,), cells of the polar grid.
        z: float32 (N,), metres.
        distance: float32 (N,), metres.
        marks: bool (N + AT_ONCE,), is filled with which points are flat, behind AT_ONCE others.
        words: uint64 (N // AT_ONCE,), the same memory.
        some: int32 (N // AT_ONCE + 1,), is filled, see `Seeds`.
        spots: int32 (N,), is filled, see `Seeds`.
        levels: int32 (_BLOCK,), working memory: where `heaps` have each point's.
        lows: float32 (_LANES * (bins * sectors + 1),), also, for the lowest in each cell of the grid.
        heaps: float64 (_HEAP_LANES * (_LEVELS + 1),), also, for the heights of those 3 to 20 m away, by 5 cm from
            -_HIGHEST on, and behind with the others.
        low: float64 (bins * sectors,), is filled with the lowest of all, infinite without any.

    Returns:
        How many `some` are, and the ground's height under the sensor, see `Seeds`.
    """
    marks[:] = False
    lows[:] = _NOWHERE
    heaps[:] = 0.0
    _mark(flat, index, marks)
    count = 0
    for start in range(0, len(z), _BLOCK):
        end = min(start + _BLOCK, len(z))
        is_flat, spot, high = marks[start + AT_ONCE : end + AT_ONCE], spots[start:end], z[start:end]
        _find_spots(is_flat, place[start:end], spot)
        _find_levels(is_flat, high, distance[start:end], levels)
        listed = some[count : count + list_words(words[start // AT_ONCE : end // AT_ONCE], start, some[count:])]
        count += len(listed)
        _add_up(listed, start, end, spots, levels, z, distance, lows, heaps)
    for p in range(len(low)):
        low[p] = min(lows[2 * p + 2], lows[2 * p + 3])
    return count, _height_under_sensor(heaps)


@compiled_within
def _mark(flat: NDArray[np.bool_], index: NDArray[np.int32], marks: NDArray[np.bool_]) -> None:
    """Empty cells are none of the flat, and mark what is before the points: no branch, often guessed wrong."""
    for k in range(len(flat)):
        marks[np.uint32(index[k] + _EIGHT)] = flat[k]


# Loops of their own, without branches, that write to one array each: only such run with vector instructions.


@compiled_within
def _find_spots(is_flat: NDArray[np.bool_], place: NDArray[np.int32], spots: NDArray[np.int32]) -> None:
    for i in range(len(spots)):
        at = place[i] + _NEXT
        spots[i] = (at if is_flat[i] else np.int32(0)) * _TWO + (np.int32(i) & _NEXT)


@compiled_within
def _find_levels(
    is_flat: NDArray[np.bool_], z: NDArray[np.float32], distance: NDArray[np.float32], levels: NDArray[np.int32]
) -> None:
    for i in range(len(z)):
        near = is_flat[i] & (distance[i] > _FROM) & (distance[i] < _TO) & (z[i] > -_HIGHEST) & (z[i] < _TOP)
        level = np.int32(((z[i] if near else _TOP) + _HIGHEST) * _PER_METRE)
        levels[i] = level * _FOUR + (np.int32(i) & _LAST_OF_FOUR)


@compiled_within
def _add_up(
    some: NDArray[np.int32],
    start: int,
    end: int,
    spots: NDArray[np.int32],
    levels: NDArray[np.int32],
    z: NDArray[np.float32],
    distance: NDArray[np.float32],
    lows: NDArray[np.float32],
    heaps: NDArray[np.float64],
) -> None:
    """Points of a block, from `start` to `end`; `levels` are those of the block."""
    for n in range(len(some)):
        for k in range(AT_ONCE):
            m = np.uint32(some[n] + k)
            _add(np.uint32(spots[m]), np.uint32(levels[m - np.uint32(start)]), z[m], distance[m], lows, heaps)
    for i in range(end // AT_ONCE * AT_ONCE, end):
        _add(np.uint32(spots[i]), np.uint32(levels[i - start]), z[i], distance[i], lows, heaps)


@compiled_within
def _add(
    spot: np.uint32,
    level: np.uint32,
    z: np.float32,
    distance: np.float32,
    lows: NDArray[np.float32],
    heaps: NDArray[np.float64],
) -> None:
    lows[spot] = min(lows[spot], z)
    heaps[level] += distance  # near rows are denser than their area


@compiled_within
def _height_under_sensor(heaps: NDArray[np.float64]) -> float:
    """Where flat points are most frequent, of three levels together; NaN without any [m]."""
    best, most = np.nan, 0.0
    for level in range(1, _LEVELS - 1):
        heap = 0.0
        for k in range(_HEAP_LANES * (level - 1), _HEAP_LANES * (level + 2)):
            heap += heaps[k]
        if heap > most:
            best, most = level / 20.0 - 10.0 + 0.025, heap
    return best
