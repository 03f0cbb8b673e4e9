"""Ground of a sweep: a height field grown outwards from the vehicle, and the points that lie on it.

The plain method (Bogoslavskyi and Stachniss 2017, section III) follows each column upwards while the angle between
consecutive rows stays small; it takes flat car roofs and the feet of walls for ground where a column begins on them.
Here the same angle only nominates points. A polar grid keeps the lowest nominated height of each cell and accepts it,
from the vehicle outwards, when the slope from the accepted cells before it is one that vehicles can drive [ours]; a
point is ground when it lies near that field. So ground is found again behind cars, and noise below it is not followed.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dseg_core.lidar.range_image import RangeImage
from dseg_core.stage_options import ProposalOptions

SECTORS = 180
_REACH, _STEP = 120.0, 0.25  # metres that the grid covers, and the resolution of its table of bins

NONE, GROUND, OBJECT = 0, 1, 2


def ground(xyz: NDArray[np.float32], image: RangeImage, options: ProposalOptions) -> NDArray[np.uint8]:
    """Tell ground from objects.

    Args:
        xyz: float32 (N, 3), metres, LiDAR frame, z up.
        image: Range image of the same points.
        options: Angles and heights.

    Returns:
        uint8 (N,): NONE (not finite, too near, or noise under the ground), GROUND or OBJECT.
    """
    flat = _flat(xyz, image.index, np.tan(np.deg2rad(options.ground_angle)))
    bin_of, edges = _bins()
    sensor = _sensor_height(xyz, image.distance, flat)
    planar, sector = _sectors(xyz, image.cell, image.columns)
    low = _lowest(xyz, flat, planar, sector, bin_of, len(edges) - 1)
    height, accepted = _grow(low, edges, sensor, options.slope)
    _refine(height, accepted, xyz, flat, planar, sector, bin_of)
    return _classify(xyz, flat, planar, sector, height, edges, bin_of, options.ground_height)


def _bins() -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Bin of each quarter metre of planar distance, and the bins' edges: 1 m near the vehicle, wider farther out."""
    edges = [0.0]
    while edges[-1] < _REACH:
        edges.append(edges[-1] + max(1.0, 0.06 * edges[-1]))
    centres = np.arange(0.0, _REACH, _STEP) + _STEP / 2
    table = np.searchsorted(np.array(edges), centres, side="right") - 1
    return table.astype(np.int32), np.array(edges)


@njit(cache=True, nogil=True)
def _flat(xyz, index, tangent):  # type: ignore[no-untyped-def]
    """Points from which the next measured point of the same column, up or down, is reached at a small angle."""
    rows, columns = index.shape
    flat = np.zeros(len(xyz), np.bool_)
    for c in range(columns):
        below = -1
        below_row = 0
        for r in range(rows):
            i = index[r, c]
            if i < 0:
                continue
            if below >= 0 and r - below_row <= 4:
                dx, dy = xyz[i, 0] - xyz[below, 0], xyz[i, 1] - xyz[below, 1]
                dz = abs(xyz[i, 2] - xyz[below, 2])
                outward = dx * xyz[i, 0] + dy * xyz[i, 1] > 0
                if outward and dz < tangent * np.sqrt(dx * dx + dy * dy):
                    flat[i] = True
                    flat[below] = True
            below, below_row = i, r
    return flat


@njit(cache=True, nogil=True)
def _sensor_height(xyz, distance, flat):  # type: ignore[no-untyped-def]
    """Height of the ground under the vehicle: where flat points 3 to 20 m away are most frequent; NaN without any."""
    histogram = np.zeros(120)
    for i in range(len(xyz)):
        z = xyz[i, 2]
        if flat[i] and 3.0 < distance[i] < 20.0 and -5.0 < z < 1.0:
            histogram[int((z + 5.0) * 20)] += distance[i]  # near rows are denser than their area
    best, most = -1, 0.0
    for b in range(1, 119):
        heap = histogram[b - 1] + histogram[b] + histogram[b + 1]
        if heap > most:
            best, most = b, heap
    return best / 20.0 - 5.0 + 0.025 if best >= 0 else np.nan


@njit(cache=True, nogil=True)
def _sectors(xyz, cell, columns):  # type: ignore[no-untyped-def]
    """Planar distance (N,), -1 for points without a cell, and position between sectors (N,), both float32."""
    planar = np.empty(len(xyz), np.float32)
    sector = np.empty(len(xyz), np.float32)
    scale = SECTORS / columns
    for i in range(len(xyz)):
        if cell[i] < 0:
            planar[i] = -1.0
            continue
        planar[i] = np.sqrt(xyz[i, 0] * xyz[i, 0] + xyz[i, 1] * xyz[i, 1])
        sector[i] = (cell[i] % columns + 0.5) * scale
    return planar, sector


@njit(cache=True, nogil=True)
def _lowest(xyz, flat, planar, sector, bin_of, bins):  # type: ignore[no-untyped-def]
    """Lowest flat point of each cell of the polar grid, (SECTORS, bins), infinite where there is none."""
    low = np.full((SECTORS, bins), np.inf)
    for i in range(len(xyz)):
        if not flat[i] or planar[i] < 0 or planar[i] >= _REACH:
            continue
        s, b = int(sector[i]) % SECTORS, bin_of[int(planar[i] / _STEP)]
        low[s, b] = min(low[s, b], xyz[i, 2])
    return low


@njit(cache=True, nogil=True)
def _grow(low, edges, sensor, slope):  # type: ignore[no-untyped-def]
    """Accept cells from the vehicle outwards; heights of the others are carried on from those before and beside."""
    sectors, bins = low.shape
    height = np.full((sectors, bins), sensor)
    accepted = np.zeros((sectors, bins), np.bool_)
    last = np.zeros(sectors)  # how far out the sector's last accepted cell was
    before = np.full(sectors, sensor)
    for b in range(bins):
        middle = 0.5 * (edges[b] + edges[b + 1])
        width = edges[b + 1] - edges[b]
        for s in range(sectors):
            gap = middle - last[s]
            allowed = 0.15 + slope * min(gap, 3.0 * width)
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


@njit(cache=True, nogil=True)
def _refine(height, accepted, xyz, flat, planar, sector, bin_of):  # type: ignore[no-untyped-def]
    """Replace the lowest by the mean height of the accepted cells' flat points, which noise does not pull down."""
    sums, counts = np.zeros(height.shape), np.zeros(height.shape)
    for i in range(len(xyz)):
        if not flat[i] or planar[i] < 0 or planar[i] >= _REACH:
            continue
        s, b = int(sector[i]) % SECTORS, bin_of[int(planar[i] / _STEP)]
        if accepted[s, b] and xyz[i, 2] - height[s, b] < 0.2:
            sums[s, b] += xyz[i, 2]
            counts[s, b] += 1
    for s in range(height.shape[0]):
        for b in range(height.shape[1]):
            if counts[s, b]:
                height[s, b] = sums[s, b] / counts[s, b]


@njit(cache=True, nogil=True)
def _classify(xyz, flat, planar, sector, height, edges, bin_of, thickness):  # type: ignore[no-untyped-def]
    """Ground lies within `thickness` of the field; flat points within twice that, since kerbs are flat on top."""
    bins = height.shape[1]
    kind = np.zeros(len(xyz), np.uint8)
    for i in range(len(xyz)):
        d = planar[i]
        if d < 0:
            continue
        kind[i] = OBJECT
        if d >= _REACH or np.isnan(height[0, 0]):
            continue
        b = bin_of[int(d / _STEP)]
        along = (d - edges[b]) / (edges[b + 1] - edges[b]) - 0.5
        other = min(max(b + (1 if along > 0 else -1), 0), bins - 1)
        s = int(sector[i]) % SECTORS
        aside = sector[i] - int(sector[i]) - 0.5
        t = (s + (1 if aside > 0 else -1)) % SECTORS
        u, v = abs(along), abs(aside)
        field = (1 - v) * ((1 - u) * height[s, b] + u * height[s, other]) + v * (
            (1 - u) * height[t, b] + u * height[t, other]
        )
        above = xyz[i, 2] - field
        limit = (2.0 if flat[i] else 1.0) * thickness + 0.002 * max(d - 20.0, 0.0)
        if above < -0.5 - 0.02 * d:
            kind[i] = NONE
        elif above < limit:
            kind[i] = GROUND
    return kind


def ground_without_rows(xyz: NDArray[np.float32], options: ProposalOptions) -> NDArray[np.uint8]:
    """The same for clouds without rows: every point is nominated. Returns uint8 (N,) as `ground` does."""
    planar, sector, nominated = _sectors_of_points(xyz, options.min_range)
    bin_of, edges = _bins()
    distance = np.where(planar > 0, planar, 0).astype(np.float32)
    sensor = _sensor_height(xyz, distance, nominated)
    low = _lowest(xyz, nominated, planar, sector, bin_of, len(edges) - 1)
    height, accepted = _grow(low, edges, sensor, options.slope)
    _refine(height, accepted, xyz, nominated, planar, sector, bin_of)
    steep = np.zeros(len(xyz), dtype=np.bool_)
    return np.asarray(_classify(xyz, steep, planar, sector, height, edges, bin_of, options.ground_height))


def _sectors_of_points(
    xyz: NDArray[np.float32], min_range: float
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    finite = np.isfinite(xyz).all(axis=1)
    clean = np.where(finite[:, None], xyz, np.float32(0))
    usable = finite & (np.linalg.norm(clean, axis=1) >= max(min_range, 1e-3))
    planar = np.where(usable, np.hypot(clean[:, 0], clean[:, 1]), -1.0).astype(np.float32)
    sector = np.mod(np.arctan2(clean[:, 1], clean[:, 0]) * (SECTORS / (2 * np.pi)), SECTORS).astype(np.float32)
    return planar, sector, usable
