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

from dseg_core.lidar.range_image import RangeImage

NONE, GROUND, OBJECT = 0, 1, 2

_SECTORS = 180
_REACH, _STEP = 120.0, 0.25  # metres that the grid covers, and the resolution of its table of bins
_NOMINATE = 4 / 3  # the angle that nominates points, of the steepest slope: single pairs of points are noisy


def ground_of(xyz: NDArray[np.float32], image: RangeImage, slope: float, kerb: float) -> NDArray[np.uint8]:
    """Tell ground from objects.

    Args:
        xyz: float32 (N, 3), metres, LiDAR frame, z up.
        image: Range image of the same points.
        slope: Steepest ground, radians.
        kerb: How far flat points may lie above the field, metres; other points half as far.

    Returns:
        uint8 (N,): NONE (no measurement, or noise under the ground), GROUND or OBJECT.
    """
    azimuth, distance = image.rows.azimuth, image.rows.distance
    bin_of, edges = _bins()
    flat = _flat(xyz, image.index, np.tan(_NOMINATE * slope))
    planar, low, sensor = _lowest(xyz, azimuth, distance, flat, bin_of, len(edges) - 1)
    height, accepted = _grow(low, edges, sensor, np.tan(slope))
    _refine(height, accepted, xyz, azimuth, flat, planar, bin_of)
    return np.asarray(_classify(xyz, azimuth, flat, planar, height, edges, bin_of, kerb))


def _bins() -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Bin of each quarter metre of planar distance, and the bins' edges: 1 m near the vehicle, wider farther out."""
    edges = [0.0]
    while edges[-1] < _REACH:
        edges.append(edges[-1] + max(1.0, 0.06 * edges[-1]))
    centres = np.arange(0.0, _REACH, _STEP) + _STEP / 2
    table = np.searchsorted(np.array(edges), centres, side="right") - 1
    return table.astype(np.int32), np.array(edges)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _flat(xyz: NDArray[np.float32], index: NDArray[np.int32], tangent: float) -> NDArray[np.bool_]:
    """Points from which the next measured point of the same column, up or down, is reached at a small angle."""
    rows, columns = index.shape
    flat = np.zeros(len(xyz), np.bool_)
    below = np.full(columns, -1, np.int32)
    below_row = np.zeros(columns, np.int32)
    for r in range(rows - 1, -1, -1):  # row by row, as they lie in memory
        for c in range(columns):
            i, j = index[r, c], below[c]
            if i < 0:
                continue
            if j >= 0 and below_row[c] - r <= 4:
                dx, dy = xyz[i, 0] - xyz[j, 0], xyz[i, 1] - xyz[j, 1]
                dz = xyz[i, 2] - xyz[j, 2]
                outward = dx * xyz[i, 0] + dy * xyz[i, 1] > 0
                if outward and dz * dz < tangent * tangent * (dx * dx + dy * dy):
                    flat[i] = True
                    flat[j] = True
            below[c], below_row[c] = i, r
    return flat


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _lowest(
    xyz: NDArray[np.float32],
    azimuth: NDArray[np.float32],
    distance: NDArray[np.float32],
    flat: NDArray[np.bool_],
    bin_of: NDArray[np.int32],
    bins: int,
) -> tuple[NDArray[np.float32], NDArray[np.float64], float]:
    """What the field grows from.

    Returns:
        Planar distance (N,), -1 without a measurement; the lowest flat point of each cell of the polar grid (sectors,
        bins), infinite where there is none; and the ground's height under the sensor, where flat points 3 to 20 m
        away are most frequent, NaN without any.
    """
    planar = np.full(len(xyz), np.float32(-1.0))
    low = np.full((_SECTORS, bins), np.inf)
    histogram = np.zeros(120)
    scale = _SECTORS / (2 * np.pi)
    for i in range(len(xyz)):
        if distance[i] == 0:
            continue
        planar[i] = np.sqrt(xyz[i, 0] * xyz[i, 0] + xyz[i, 1] * xyz[i, 1])
        if not flat[i] or planar[i] >= _REACH:
            continue
        z = xyz[i, 2]
        s, b = min(int(azimuth[i] * scale), _SECTORS - 1), bin_of[int(planar[i] / _STEP)]
        low[s, b] = min(low[s, b], z)
        if 3.0 < distance[i] < 20.0 and -5.0 < z < 1.0:
            histogram[int((z + 5.0) * 20)] += distance[i]  # near rows are denser than their area
    best, most = -1, 0.0
    for b in range(1, 119):
        heap = histogram[b - 1] + histogram[b] + histogram[b + 1]
        if heap > most:
            best, most = b, heap
    return planar, low, best / 20.0 - 5.0 + 0.025 if best >= 0 else np.nan


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _grow(
    low: NDArray[np.float64], edges: NDArray[np.float64], sensor: float, slope: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Accept cells from the vehicle outwards; heights of the others are carried on from those before and beside."""
    sectors, bins = low.shape
    height = np.full((sectors, bins), sensor)
    accepted = np.zeros((sectors, bins), np.bool_)
    last = np.zeros(sectors)  # how far out the sector's last accepted cell was; 0: none yet
    before = np.full(sectors, sensor)
    for b in range(bins):
        middle, width = 0.5 * (edges[b] + edges[b + 1]), edges[b + 1] - edges[b]
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
        for s in range(sectors):
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
def _refine(
    height: NDArray[np.float64],
    accepted: NDArray[np.bool_],
    xyz: NDArray[np.float32],
    azimuth: NDArray[np.float32],
    flat: NDArray[np.bool_],
    planar: NDArray[np.float32],
    bin_of: NDArray[np.int32],
) -> None:
    """Replace the lowest by the mean height of the accepted cells' flat points, which noise does not pull down."""
    sums, counts = np.zeros(height.shape), np.zeros(height.shape)
    scale = _SECTORS / (2 * np.pi)
    for i in range(len(xyz)):
        if not flat[i] or planar[i] < 0 or planar[i] >= _REACH:
            continue
        s, b = min(int(azimuth[i] * scale), _SECTORS - 1), bin_of[int(planar[i] / _STEP)]
        if accepted[s, b] and xyz[i, 2] - height[s, b] < 0.2:
            sums[s, b] += xyz[i, 2]
            counts[s, b] += 1
    for s in range(height.shape[0]):
        for b in range(height.shape[1]):
            if counts[s, b]:
                height[s, b] = sums[s, b] / counts[s, b]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _classify(
    xyz: NDArray[np.float32],
    azimuth: NDArray[np.float32],
    flat: NDArray[np.bool_],
    planar: NDArray[np.float32],
    height: NDArray[np.float64],
    edges: NDArray[np.float64],
    bin_of: NDArray[np.int32],
    kerb: float,
) -> NDArray[np.uint8]:
    """Ground lies near the field, interpolated; flat points may be higher, since kerbs are flat on top."""
    bins = height.shape[1]
    kind = np.zeros(len(xyz), np.uint8)
    scale = _SECTORS / (2 * np.pi)
    known = not np.isnan(height[0, 0])
    highest = height.max() + kerb + 0.002 * _REACH if known else -np.inf
    for i in range(len(xyz)):
        d = planar[i]
        if d < 0:
            continue
        kind[i] = OBJECT
        if d >= _REACH or not xyz[i, 2] < highest:
            continue
        b = bin_of[int(d / _STEP)]
        along = (d - edges[b]) / (edges[b + 1] - edges[b]) - 0.5
        other = min(max(b + (1 if along > 0 else -1), 0), bins - 1)
        sector = azimuth[i] * scale
        s = min(int(sector), _SECTORS - 1)
        aside = sector - s - 0.5
        t = s + (1 if aside > 0 else -1)
        t = 0 if t == _SECTORS else _SECTORS - 1 if t < 0 else t
        u, v = abs(along), abs(aside)
        near = (1 - u) * height[s, b] + u * height[s, other]
        beside = (1 - u) * height[t, b] + u * height[t, other]
        above = xyz[i, 2] - (1 - v) * near - v * beside
        if above < -0.5 - 0.02 * d:
            kind[i] = NONE
        elif above < (kerb if flat[i] else 0.5 * kerb) + 0.002 * max(d - 20.0, 0.0):
            kind[i] = GROUND
    return kind
