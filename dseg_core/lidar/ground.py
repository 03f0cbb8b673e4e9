"""Ground of a range image: a height field grown outwards from the vehicle, and the points that lie on it.

The plain method (Bogoslavskyi & Stachniss 2017, section III) follows each column upwards while the angle between
consecutive rows stays small; it takes flat car roofs and the feet of walls for ground where a column begins on them.
Here the same angle only nominates points. A polar grid keeps the lowest nominated height of each cell and accepts it,
from the vehicle outwards, when the slope from the accepted cells before it is one that vehicles can drive [ours]; a
point is ground when it lies near that field. So ground is found again behind cars, and noise below it is not followed.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from dseg_core.lidar.flat_cells import flat_cells
from dseg_core.lidar.range_image import RangeImage
from dseg_core.lidar.scratch import Scratch

NONE, GROUND, OBJECT, HIGH = 0, 1, 2, 3

_SECTORS = 180
_BESIDE = 5  # sectors to each side that a cell is compared with
_REACH, _STEP = 120.0, 0.25  # metres that the grid covers, and the resolution of its table of bins
_NOMINATE = 4 / 3  # the angle that nominates points, of the steepest slope: single pairs of points are noisy

# In single precision, so that the loops over points, which have no branches, run with vector instructions.
_LAST = np.int32(_SECTORS - 1)
_ROUND = np.float32(_SECTORS / (2 * np.pi))
_PER_STEP, _FAR = np.float32(1 / _STEP), np.float32(_REACH)
_ZERO, _MIDDLE, _ONE = np.array([0.0, 0.5, 1.0], dtype=np.float32)
_UNDER, _UNDER_FAR, _RISE, _RISE_FROM = np.array([-0.5, 0.02, 0.002, 20.0], dtype=np.float32)
_HEADS = np.float32(2.0)


def _bins() -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Bin of each quarter metre of planar distance, and the bins' edges: 1 m near the vehicle, wider farther out."""
    edges = [0.0]
    while edges[-1] < _REACH:
        edges.append(edges[-1] + max(1.0, 0.06 * edges[-1]))
    centres = np.arange(0.0, _REACH, _STEP) + _STEP / 2
    table = np.searchsorted(np.array(edges), centres, side="right") - 1
    return table.astype(np.int32), np.array(edges)


_BIN_OF, _EDGES = _bins()
_scratch = Scratch()


def ground_of(image: RangeImage, slope: float, kerb: float) -> NDArray[np.uint8]:
    """Tell ground from objects.

    Args:
        image: The points, z up.
        slope: Steepest ground, radians.
        kerb: How far flat points may lie above the field, metres; other points half as far.

    Returns:
        uint8 (N,): NONE (no measurement, or noise under the ground), GROUND, OBJECT, or HIGH: an object's point that
        is higher over the ground than people are.
    """
    points = image.points
    n, z = len(points), points.axes[2]
    bins = len(_EDGES) - 1
    flat = _scratch.take("flat", image.index.shape, np.bool_)
    flat_cells(image.axes, image.distance, np.float32(np.tan(_NOMINATE * slope) ** 2), flat)
    planar, place = _scratch.take("planar", n, np.float32), _scratch.take("place", n, np.int32)
    _places(points.axes, points.azimuth, points.distance, _BIN_OF, np.int32(bins), planar, place)
    is_flat, nominated = _scratch.take("is_flat", n, np.bool_), _scratch.take("nominated", n, np.int32)
    nominated = nominated[: _nominate(flat.reshape(-1), image.index.reshape(-1), place, is_flat, nominated)]
    low, sensor = _lowest(nominated, place, z, points.distance, bins)
    height, accepted = _grow(low, _EDGES, sensor, np.tan(slope), kerb)
    _refine(height, accepted, nominated, place, z)
    kind = _scratch.take("kind", n, np.uint8)
    _classify(z, points.azimuth, planar, place, is_flat, height, _EDGES, np.float32(kerb), kind)
    return kind


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _places(
    axes: NDArray[np.float32],
    azimuth: NDArray[np.float32],
    distance: NDArray[np.float32],
    bin_of: NDArray[np.int32],
    bins: np.int32,
    planar: NDArray[np.float32],
    place: NDArray[np.int32],
) -> None:
    """Planar distance, and cell of the polar grid, sector * bins + bin; -1 without a measurement or beyond it."""
    for i in range(len(azimuth)):
        x, y = axes[0, i], axes[1, i]
        measured = distance[i] > _ZERO
        d = np.sqrt(x * x + y * y)
        inside = measured & (d < _FAR)
        b = bin_of[np.uint32((d if inside else _ZERO) * _PER_STEP)]
        p = min(np.int32(azimuth[i] * _ROUND), _LAST) * bins + b
        planar[i] = d if measured else -_ONE
        place[i] = p if inside else np.int32(-1)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _nominate(
    flat: NDArray[np.bool_],
    index: NDArray[np.int32],
    place: NDArray[np.int32],
    is_flat: NDArray[np.bool_],
    nominated: NDArray[np.int32],
) -> int:
    """Points of flat cells: a mask, and those that lie on the polar grid, whose number is returned."""
    is_flat[:] = False
    count = 0
    for k in range(len(flat)):
        if flat[k]:
            i = index[k]
            is_flat[i] = True
            if place[i] >= 0:
                nominated[count] = i
                count += 1
    return count


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _lowest(
    points: NDArray[np.int32],
    place: NDArray[np.int32],
    z: NDArray[np.float32],
    distance: NDArray[np.float32],
    bins: int,
) -> tuple[NDArray[np.float64], float]:
    """What the field grows from.

    Returns:
        The lowest flat point of each cell of the polar grid (sectors, bins), infinite where there is none; and the
        ground's height under the sensor, where flat points 3 to 20 m away are most frequent, NaN without any.
    """
    low = np.full(_SECTORS * bins, np.inf)
    histogram = np.zeros(120)
    for i in points:
        low[place[i]] = min(low[place[i]], z[i])
        if 3.0 < distance[i] < 20.0 and -5.0 < z[i] < 1.0:
            histogram[int((z[i] + 5.0) * 20)] += distance[i]  # near rows are denser than their area
    best, most = -1, 0.0
    for b in range(1, 119):
        heap = histogram[b - 1] + histogram[b] + histogram[b + 1]
        if heap > most:
            best, most = b, heap
    return low.reshape((_SECTORS, bins)), best / 20.0 - 5.0 + 0.025 if best >= 0 else np.nan


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _grow(
    low: NDArray[np.float64], edges: NDArray[np.float64], sensor: float, slope: float, kerb: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Accept cells from the vehicle outwards; heights of the others are carried on from those before and beside."""
    sectors, bins = low.shape
    height = np.full((sectors, bins), sensor)
    accepted = np.zeros((sectors, bins), np.bool_)
    last = np.zeros(sectors)  # how far out the sector's last accepted cell was; 0: none yet
    before = np.full(sectors, sensor)
    steep = np.zeros(sectors, np.bool_)
    for b in range(bins):
        middle, width = 0.5 * (edges[b] + edges[b + 1]), edges[b + 1] - edges[b]
        rise = slope * middle * 2 * np.pi / sectors
        for s in range(sectors):
            gap = min(middle - last[s], 3.0 * width)
            # The vehicle stands on the ground, which does not rise at its side: what does is a car in the next lane.
            allowed = 0.15 + (slope if last[s] > 0 else 0.3 * slope) * gap
            if abs(low[s, b] - before[s]) <= allowed:
                height[s, b] = low[s, b]
                accepted[s, b] = True
        for s in range(sectors):  # beside accepted cells ground may begin anew, as behind a car
            if accepted[s, b] or low[s, b] == np.inf:
                continue
            for side in (-2, -1, 1, 2):
                t = (s + side) % sectors
                across = abs(side) * middle * 2 * np.pi / sectors
                if accepted[t, b] and abs(low[s, b] - height[t, b]) <= 0.1 + 0.5 * slope * across:
                    height[s, b] = low[s, b]
                    accepted[s, b] = True
                    break
        for s in range(sectors):  # what rises, and towers over ground beside it, is a bonnet or a sill
            rises = accepted[s, b] and height[s, b] - before[s] > kerb
            steep[s] = rises and _towers(height, accepted, s, b, rise, kerb)
        for s in range(sectors):
            accepted[s, b] &= not steep[s]
            if accepted[s, b]:
                before[s], last[s] = height[s, b], middle
        for s in range(sectors):
            if not accepted[s, b]:
                total, weight = before[s] * 0.5, 0.5
                for side in (-3, -2, -1, 1, 2, 3):
                    t = (s + side) % sectors
                    if accepted[t, b]:
                        total += height[t, b] / abs(side)
                        weight += 1.0 / abs(side)
                height[s, b] = total / weight
                if weight > 0.5:
                    before[s] = height[s, b]
    return height, accepted


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _towers(height: NDArray[np.float64], accepted: NDArray[np.bool_], s: int, b: int, rise: float, kerb: float) -> bool:
    """Whether a cell is higher than ground and a kerb can be over two or more cells beside it; one may be noise."""
    lower = 0
    for side in range(1, _BESIDE + 1):
        for t in ((s - side) % height.shape[0], (s + side) % height.shape[0]):
            lower += accepted[t, b] and height[s, b] - height[t, b] > kerb + side * rise
    return lower > 1


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _refine(
    height: NDArray[np.float64],
    accepted: NDArray[np.bool_],
    points: NDArray[np.int32],
    place: NDArray[np.int32],
    z: NDArray[np.float32],
) -> None:
    """Replace the lowest by the mean height of the accepted cells' flat points, which noise does not pull down."""
    sums, counts = np.zeros(height.size), np.zeros(height.size)
    low, taken = height.reshape(-1), accepted.reshape(-1)
    for i in points:
        p = place[i]
        if taken[p] and z[i] - low[p] < 0.2:
            sums[p] += z[i]
            counts[p] += 1
    for p in range(height.size):
        if counts[p]:
            low[p] = sums[p] / counts[p]


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _classify(
    z: NDArray[np.float32],
    azimuth: NDArray[np.float32],
    planar: NDArray[np.float32],
    place: NDArray[np.int32],
    flat: NDArray[np.bool_],
    height: NDArray[np.float64],
    edges: NDArray[np.float64],
    kerb: np.float32,
    kind: NDArray[np.uint8],
) -> None:
    """Ground lies near the field, interpolated; flat points may be higher, since kerbs are flat on top."""
    bins = np.int32(height.shape[1])
    field = height.astype(np.float32).reshape(-1)
    start, per_metre = edges[:-1].astype(np.float32), (1 / (edges[1:] - edges[:-1])).astype(np.float32)
    for i in range(len(z)):
        d, p = planar[i], max(place[i], np.int32(0))
        s = min(np.int32(azimuth[i] * _ROUND), _LAST)
        b = p - s * bins
        along = (d - start[np.uint32(b)]) * per_metre[np.uint32(b)] - _MIDDLE
        other = b + (np.int32(1) if along > _ZERO else np.int32(-1))
        other = min(max(other, np.int32(0)), bins - np.int32(1))
        aside = azimuth[i] * _ROUND - np.float32(s) - _MIDDLE
        t = s + (np.int32(1) if aside > _ZERO else np.int32(-1))
        t = np.int32(0) if t > _LAST else t
        t = _LAST if t < np.int32(0) else t
        u, v = abs(along), abs(aside)
        here, outward = field[np.uint32(s * bins + b)], field[np.uint32(s * bins + other)]
        beside, aslant = field[np.uint32(t * bins + b)], field[np.uint32(t * bins + other)]
        above = z[i] - (_ONE - v) * ((_ONE - u) * here + u * outward) - v * ((_ONE - u) * beside + u * aslant)
        highest = (kerb if flat[i] else _MIDDLE * kerb) + _RISE * max(d - _RISE_FROM, _ZERO)
        is_ground, noise = above < highest, above < _UNDER - _UNDER_FAR * d
        thing = np.uint8(HIGH) if above > _HEADS else np.uint8(OBJECT)
        found = np.uint8(NONE) if noise else np.uint8(GROUND) if is_ground else thing
        beyond = np.uint8(OBJECT) if d > _ZERO else np.uint8(NONE)
        kind[i] = found if place[i] >= np.int32(0) else beyond
