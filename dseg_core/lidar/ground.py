"""Ground of a range image: a height field grown outwards from the vehicle, and the points that lie on it.

The plain method (Bogoslavskyi & Stachniss 2017, section III) follows each column upwards while the angle between
consecutive rows stays small; it takes flat car roofs and the feet of walls for ground where a column begins on them.
Here the same angle only nominates points. A polar grid keeps the lowest nominated height of each cell and accepts it,
from the vehicle outwards, when the slope from the accepted cells before it is one that vehicles can drive [ours]; a
point is ground when it lies near that field. So ground is found again behind cars, and noise below it is not followed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.flat_cells import flat_cells
from dseg_core.lidar.ground_field import GrowMemory, grow, refine
from dseg_core.lidar.kind_from_field import GROUND, HIGH, NONE, OBJECT, kind_from_field
from dseg_core.lidar.points import Points
from dseg_core.lidar.range_image import RangeImage
from dseg_core.lidar.scratch import Scratch
from dseg_core.lidar.tilt import street_plane

__all__ = ["GROUND", "HIGH", "NONE", "OBJECT", "ground_of"]

SECTORS = 180
_REACH, _FAR_REACH, _STEP = 120.0, 240.0, 0.25  # metres that the grid covers, where points are farther, and resolution
NOMINATE = 4 / 3  # the angle that nominates points, of the steepest slope: single pairs of points are noisy

# In single precision, so that the loops over points, which have no branches, run with vector instructions.
_LAST = np.int32(SECTORS - 1)
_ROUND = np.float32(SECTORS / (2 * np.pi))
_PER_STEP = np.float32(1 / _STEP)
_BITS, _STEPS = np.int32(10), np.int32(2**10 - 1)  # that number the steps of the grid's reach
_ZERO, _NOWHERE = np.array([0.0, np.inf], dtype=np.float32)
_LANES, _BLOCK = 2, 4096
_HIGHEST = 10.0  # metres that the LiDAR may be over the ground: also on cranes and lorries
_LEVELS = 20 * 11  # 5 cm each, up to 1 m over the sensor


def _bins() -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """First cell of the bin of each quarter metre of planar distance, and the bins' edges: 1 m, wider farther out."""
    edges = [0.0]
    while edges[-1] < _FAR_REACH:
        edges.append(edges[-1] + max(1.0, 0.06 * edges[-1]))
    centres = np.arange(0.0, _FAR_REACH, _STEP) + _STEP / 2
    table = (np.searchsorted(np.array(edges), centres, side="right") - 1) * SECTORS
    return table.astype(np.int32), np.array(edges)


_FIRST_OF, _EDGES = _bins()
_NEAR_EDGES = _EDGES[: np.searchsorted(_EDGES, _REACH) + 1]
_scratch = Scratch()


def ground_of(image: RangeImage, slope: float, kerb: float) -> NDArray[np.uint8]:
    """Tell ground from objects.

    Args:
        image: The points, z up.
        slope: Steepest ground, radians.
        kerb: How far flat points may lie above the field, metres; other points half as far.

    Returns:
        uint8 (N,): NONE (no measurement, or noise under the ground), GROUND, OBJECT, or HIGH: an object's point that
        is higher over the ground than people are. The memory is used anew for the thread's next cloud.
    """
    flat = _scratch.take("flat", image.index.shape, np.bool_)
    flat_cells(image.axes, image.distance, np.float32(math.tan(NOMINATE * slope) ** 2), flat)
    grid = polar_grid(image.points)
    return kinds_of(image.points, grid, seeds_of(image.points, grid, flat, image.index), slope, kerb)


class PolarGrid(NamedTuple):
    """Each point's cell, int32 (N,), bin * sectors + sector, -1 for none.

    `edges`: float64 (bins + 1,), planar distances between bins, metres.
    """

    place: NDArray[np.int32]
    edges: NDArray[np.float64]


class Seeds(NamedTuple):
    """What the field of heights grows from.

    `is_flat`: bool (N,), points. `spots`, `heights`: int32 (K,) and float32 (K,), the cells on the polar grid and z of
    those that lie on it. `low`: float64 (bins, sectors), the lowest in each cell, infinite without any. `sensor`: the
    ground's height under the sensor, NaN where nothing is flat 3 to 20 m away. Metres.
    """

    is_flat: NDArray[np.bool_]
    spots: NDArray[np.int32]
    heights: NDArray[np.float32]
    low: NDArray[np.float64]
    sensor: float


def polar_grid(points: Points) -> PolarGrid:
    """Where points lie on the polar grid. Its memory is used anew for the thread's next cloud."""
    place = _scratch.take("place", len(points), np.int32)
    far = points.distance.max(initial=0) > _REACH  # else the bins out there would be grown over for nothing
    edges, reach = (_EDGES, _FAR_REACH) if far else (_NEAR_EDGES, _REACH)
    _places(points.azimuth, points.planar, _FIRST_OF, np.float32(reach), place)
    return PolarGrid(place, edges)


def seeds_of(points: Points, grid: PolarGrid, flat: NDArray[np.bool_], index: NDArray[np.int32]) -> Seeds:
    """Take what the field grows from. Its memory is used anew for the thread's next cloud.

    Args:
        points: The cloud.
        grid: Of it.
        flat: bool, any shape: cells of the range image, or all true.
        index: int32, of the same shape: their points.
    """
    n, shape = len(points), (len(grid.edges) - 1, SECTORS)
    is_flat = _scratch.take("is_flat", n, np.bool_)
    spots, heights = _scratch.take("spots", n + 1, np.int32), _scratch.take("heights", n + 1, np.float32)
    block, low = _scratch.take("block", _BLOCK + 1, np.int32), _scratch.take("low", shape, np.float64)
    lows, heaps = _scratch.take("lows", (_LANES, low.size), np.float32), np.zeros((_LANES, _LEVELS + 1))
    count, sensor = _nominate(
        flat.reshape(-1), index.reshape(-1), grid.place, points.axes[2], points.distance, is_flat, spots, heights,
        lows, heaps, block, low.reshape(-1),
    )  # fmt: skip
    return Seeds(is_flat, spots[:count], heights[:count], low, sensor)


def kinds_of(points: Points, grid: PolarGrid, seeds: Seeds, slope: float, kerb: float) -> NDArray[np.uint8]:
    """Grow the field, and tell what each point is by it; as `ground_of`."""
    edges = grid.edges
    height, accepted = _grown(seeds.low, edges, seeds.sensor, slope, kerb, "level")
    plane = street_plane(seeds.low, edges, seeds.sensor, math.tan(NOMINATE * slope))
    if plane is not None:  # a tilted LiDAR's, or that of a hill before a level one: it tells which grows farther
        over_plane, more = _grown(seeds.low - plane, edges, 0.0, slope, kerb, "tilted")
        if np.count_nonzero(more) > np.count_nonzero(accepted):
            height, accepted = over_plane + plane, more
    refine(seeds.spots, seeds.heights, accepted, height)
    return kind_from_field(points, grid.place, seeds.is_flat, height, edges, kerb)


def _grown(
    low: NDArray[np.float64], edges: NDArray[np.float64], sensor: float, slope: float, kerb: float, name: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Heights of the field and which cells are accepted, see `grow`, in the memory of that name."""
    height, accepted = _scratch.take(name, low.shape, np.float64), _scratch.take(name, low.shape, np.bool_)
    grow(low, edges, sensor, math.tan(slope), kerb, GrowMemory.of(SECTORS, sensor), height, accepted)
    return height, accepted


@compiled
def _places(
    azimuth: NDArray[np.float32],
    planar: NDArray[np.float32],
    first_of: NDArray[np.int32],
    reach: np.float32,
    place: NDArray[np.int32],
) -> None:
    """Cell of the polar grid, bin * sectors + sector; -1 without a measurement or beyond it."""
    for i in range(len(azimuth)):
        inside = (planar[i] > _ZERO) & (planar[i] < reach)
        step = np.int32((planar[i] if inside else _ZERO) * _PER_STEP)
        sector = min(np.int32(azimuth[i] * _ROUND), _LAST)
        place[i] = sector << _BITS | step if inside else np.int32(-1)
    for i in range(len(place)):  # a loop of its own: no vector instruction looks things up
        at = max(place[i], np.int32(0))
        p = (at >> _BITS) + first_of[np.uint32(at & _STEPS)]
        place[i] = p if place[i] >= np.int32(0) else np.int32(-1)


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
    points by turns add to several tables.

    Args:
        flat: bool (R * C,), cells of the range image.
        index: int32 (R * C,), their points.
        place: int32 (N,), see `_places`.
        z: float32 (N,), metres.
        distance: float32 (N,), metres.
        is_flat: bool (N,), is filled.
        spots: int32 (N + 1,), is filled with the places of the flat points that lie on the polar grid.
        heights: float32 (N + 1,), with their heights.
        lows: float32 (_LANES, bins * sectors), working memory, for the lowest of them in each cell of the grid.
        heaps: float64 (_LANES, _LEVELS + 1), zeros, is filled with the heights of those 3 to 20 m away, by 5 cm from
            -_HIGHEST on, and behind with the others.
        block: int32 (_BLOCK + 1,), working memory: points of flat cells, listed without a branch.
        low: float64 (bins * sectors,), is filled with the lowest of all, infinite without any.

    Returns:
        How many `spots` there are, and the ground's height under the sensor, see `Seeds`.
    """
    is_flat[:] = False
    lows[:] = _NOWHERE
    count = 0
    for start in range(0, len(flat), _BLOCK):
        listed = 0
        for k in range(start, min(start + _BLOCK, len(flat))):
            block[np.uint64(listed)] = index[k]
            listed += flat[k]
        for m in range(listed):
            i, lane = np.uint32(block[m]), np.uint32(m % _LANES)  # no branch for numbers below 0
            is_flat[i] = True
            at, height, away = place[i], z[i], distance[i]
            is_on = at >= np.int32(0)
            spots[np.uint64(count)], heights[np.uint64(count)] = at, height
            count += is_on
            spot = np.uint32(max(at, np.int32(0)))
            lows[lane, spot] = min(lows[lane, spot], height if is_on else _NOWHERE)
            near = (away > 3.0) & (away < 20.0) & (height > -_HIGHEST) & (height < 1.0)
            heap = np.uint32((height + _HIGHEST) * 20 if near else _LEVELS)  # no branch here, either
            heaps[lane, heap] += away  # near rows are denser than their area
    for p in range(len(low)):
        low[p] = min(lows[0, p], lows[1, p])
    return count, _height_under_sensor(heaps)


@compiled_within
def _height_under_sensor(heaps: NDArray[np.float64]) -> float:
    """Where flat points are most frequent, of three levels together; NaN without any [m]."""
    best, most = np.nan, 0.0
    for level in range(1, _LEVELS - 1):
        heap = 0.0
        for near in range(level - 1, level + 2):
            heap += heaps[0, near] + heaps[1, near]
        if heap > most:
            best, most = level / 20.0 - _HIGHEST + 0.025, heap
    return best
