"""Range images: a sweep's points by beam row and azimuth column, whatever the LiDAR says about its rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dseg_core.records import Sweep

_MIN_ROWS, _MAX_ROWS = 4, 512
_FEWEST_COLUMNS, _MOST_COLUMNS = 64, 4096


@dataclass(frozen=True, eq=False)
class RangeImage:
    """A sweep seen from its LiDAR, row 0 the lowest beam, columns counter-clockwise and closed around the turn.

    `index`: int32 (R, C), the nearest point of each cell, -1 where there is none. `cell`: int32 (N,), each point's
    row * C + column, -1 for points that are not finite or too near. `distance`: float32 (N,), metres from the LiDAR, 0
    where cell is -1. `elevations`: float64 (R,), radians, mean of each row, ascending.
    """

    index: NDArray[np.int32]
    cell: NDArray[np.int32]
    distance: NDArray[np.float32]
    elevations: NDArray[np.float64]

    @property
    def rows(self) -> int:
        """Beams."""
        return int(self.index.shape[0])

    @property
    def columns(self) -> int:
        """Cells per turn."""
        return int(self.index.shape[1])


def beam_rows(sweep: Sweep) -> NDArray[np.int32] | None:
    """The beam of each point: from the ring field, an organised cloud, the points' order, or their elevation.

    Returns:
        int32 (N,), beams numbered as the driver or the order has it (not by elevation), or None when the cloud shows
        no beams, as those of solid-state and non-repetitive scanners.
    """
    n = len(sweep)
    if n == 0:
        return None
    if sweep.ring is not None and _MIN_ROWS <= len(np.unique(sweep.ring)) <= _MAX_ROWS:
        return sweep.ring.astype(np.int32)
    if _MIN_ROWS <= sweep.rows <= _MAX_ROWS and n % sweep.rows == 0:
        return (np.arange(n) // (n // sweep.rows)).astype(np.int32)
    xyz = np.ascontiguousarray(sweep.xyz, dtype=np.float32)
    rows = _rows_by_turns(xyz)
    return rows if len(rows) else _rows_by_elevation(xyz)


def range_image(sweep: Sweep, rows: NDArray[np.int32], columns: int = 0, min_range: float = 0.0) -> RangeImage:
    """Sort a sweep into a range image.

    Args:
        sweep: N points, LiDAR frame.
        rows: int32 (N,), from `beam_rows`.
        columns: Cells per turn; 0 fits them to the points' own spacing.
        min_range: Nearer points (metres) belong to no cell.
    """
    xyz = np.ascontiguousarray(sweep.xyz, dtype=np.float32)
    azimuth, distance, tangent, count = _polar(xyz, rows, int(rows.max()) + 1, min_range)
    present = np.flatnonzero(count)
    order = present[np.argsort(tangent[present], kind="stable")]
    row_of = np.full(len(count), -1, dtype=np.int32)
    row_of[order] = np.arange(len(order), dtype=np.int32)
    phase = 0.0
    fullest = int(np.argmax(count))
    if len(order) and (columns == 0 or count[fullest] > 2):
        fitted, phase = _spacing(azimuth[(rows == fullest) & (distance > 0)], columns)
        columns = columns or fitted
    columns = columns or _FEWEST_COLUMNS
    index, cell = _fill(xyz, azimuth, distance, rows, row_of, len(order), columns, phase)
    return RangeImage(index, cell, distance, np.arctan(tangent[order]))


def _spacing(azimuth: NDArray[np.float32], columns: int) -> tuple[int, float]:
    """Columns per turn (the given number unless 0), and the phase that puts the row's points in mid-cell."""
    steps = np.diff(np.sort(azimuth.astype(np.float64)))
    steps = steps[steps > 5e-4]  # a beam's second return and duplicates are no step
    step = float(np.median(steps)) if len(steps) else 2 * np.pi / 2048
    fitted = columns or int(np.clip(round(2 * np.pi / step), _FEWEST_COLUMNS, _MOST_COLUMNS))
    turns = np.exp(1j * azimuth.astype(np.float64) * fitted).mean()
    return fitted, float(0.5 - np.angle(turns) / (2 * np.pi)) if abs(turns) > 0.2 else 0.0


@njit(cache=True, nogil=True, inline="always")
def _arctan2(y, x):  # type: ignore[no-untyped-def]
    """In 0..2 pi, to 2e-5 rad, ten times as fast as the library's."""
    a, b = abs(x), abs(y)
    big = max(a, b)
    if big == 0.0:
        return 0.0
    t = min(a, b) / big
    s = t * t
    r = t * (0.99997726 + s * (-0.33262347 + s * (0.19354346 + s * (-0.11643287 + s * (0.05265332 - s * 0.0117212)))))
    if b > a:
        r = 0.5 * np.pi - r
    if x < 0:
        r = np.pi - r
    return 2 * np.pi - r if y < 0 else r


@njit(cache=True, nogil=True)
def _polar(xyz, rows, beams, min_range):  # type: ignore[no-untyped-def]
    """Azimuth (N,), distance (N,), and each beam's mean tangent of elevation and number of points."""
    n = len(xyz)
    azimuth = np.zeros(n, np.float32)
    distance = np.zeros(n, np.float32)
    tangent = np.zeros(beams)
    count = np.zeros(beams, np.int64)
    nearest = max(min_range, 1e-3)
    for i in range(n):
        x, y, z = xyz[i, 0], xyz[i, 1], xyz[i, 2]
        planar = x * x + y * y
        d = np.sqrt(planar + z * z)
        if not nearest <= d < 1e4 or planar < 1e-6:  # also refuses NaN
            continue
        azimuth[i] = _arctan2(y, x)
        distance[i] = d
        tangent[rows[i]] += z / np.sqrt(planar)
        count[rows[i]] += 1
    for b in range(beams):
        if count[b]:
            tangent[b] /= count[b]
    return azimuth, distance, tangent, count


@njit(cache=True, nogil=True)
def _fill(xyz, azimuth, distance, rows, row_of, beams, columns, phase):  # type: ignore[no-untyped-def]
    """Index image and cells. The nearest point has a cell; of equally near ones the lowest, then the first in x."""
    index = np.full((beams, columns), -1, np.int32)
    cell = np.full(len(distance), -1, np.int32)
    scale = columns / (2 * np.pi)
    for i in range(len(distance)):
        if distance[i] == 0:
            continue
        r = row_of[rows[i]]
        c = int(azimuth[i] * scale + phase + columns) % columns
        cell[i] = r * columns + c
        j = index[r, c]
        if (
            j < 0
            or distance[i] < distance[j]
            or (
                distance[i] == distance[j]
                and (xyz[i, 2] < xyz[j, 2] or (xyz[i, 2] == xyz[j, 2] and xyz[i, 0] < xyz[j, 0]))
            )
        ):
            index[r, c] = i
    return index, cell


@njit(cache=True, nogil=True)
def _rows_by_turns(xyz):  # type: ignore[no-untyped-def]
    """Rows of a cloud stored beam after beam (KITTI's order): azimuth starts anew once per beam; else empty.

    Elevation must rise or fall from beam to beam, or else the turns are those of several sweeps or of packets.
    """
    n = len(xyz)
    rows = np.zeros(n, np.int32)
    empty = np.zeros(0, np.int32)
    previous, row, since = -1.0, 0, 0
    shortest = max(n // 2000, 4)
    sums, counts = np.zeros(_MAX_ROWS), np.zeros(_MAX_ROWS)
    ups = downs = 0
    for i in range(n):
        x, y, z = xyz[i, 0], xyz[i, 1], xyz[i, 2]
        planar = np.sqrt(x * x + y * y)
        if not planar > 1e-3 or not abs(z) < 1e4:
            rows[i] = row
            continue
        azimuth = _arctan2(y, x)
        if previous >= 0:
            step = azimuth - previous
            ups += 0 < step < np.pi
            downs += -np.pi < step < 0
            if abs(step) > np.pi and since > shortest:
                row += 1
                since = 0
                if row == _MAX_ROWS:
                    return empty
        previous = azimuth
        since += 1
        rows[i] = row
        sums[row] += z / planar
        counts[row] += 1
    if row + 1 < 4 or max(ups, downs) < 0.95 * (ups + downs):
        return empty
    falls = rises = 0
    for r in range(row):
        if counts[r] and counts[r + 1]:
            if sums[r + 1] / counts[r + 1] < sums[r] / counts[r]:
                falls += 1
            else:
                rises += 1
    return rows if max(falls, rises) >= 0.95 * (falls + rises) else empty


def _rows_by_elevation(xyz: NDArray[np.float32]) -> NDArray[np.int32] | None:
    """Rows of an unordered cloud whose elevations gather in narrow, well parted heaps; else None."""
    with np.errstate(divide="ignore", invalid="ignore"):
        elevation = np.arctan(xyz[:, 2] / np.hypot(xyz[:, 0], xyz[:, 1]))
    usable = np.isfinite(elevation) & np.isfinite(xyz).all(axis=1)
    if np.count_nonzero(usable) < 100:
        return None
    width = np.deg2rad(0.02)
    bins = np.zeros(len(xyz), dtype=np.int64)
    bins[usable] = np.floor((elevation[usable] + np.pi / 2) / width).astype(np.int64)
    histogram = np.bincount(bins[usable], minlength=int(np.pi / width) + 2)
    occupied = histogram > 0.02 * histogram.max()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], occupied, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    beams = len(starts)
    if not _MIN_ROWS <= beams <= _MAX_ROWS:
        return None
    gaps = starts[1:] - ends[:-1]
    held = sum(histogram[a:b].sum() for a, b in zip(starts, ends, strict=True)) / histogram.sum()
    if held < 0.95 or np.median(ends - starts) > np.median(gaps):
        return None
    middles = (starts + ends - 1) / 2
    rows = np.searchsorted((middles[1:] + middles[:-1]) / 2, bins).astype(np.int32)
    return rows
