"""A sweep as an image of ranges: rows are beams from top to bottom, columns are azimuths around the turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numba
import numpy as np
from numpy.typing import NDArray

from dseg_core.records import Sweep

if TYPE_CHECKING:
    Floats = NDArray[np.float32]

_FEWEST_ROWS, _MOST_ROWS = 2, 512
_FEWEST_PER_ROW = 16
_FEWEST_COLUMNS, _MOST_COLUMNS = 64, 8192
NEAREST, _FARTHEST = 0.3, 1e4
"""Metres between which points are measurements. No LiDAR sees nearer; drivers put misses there."""

_STEADY = float(np.tan(np.deg2rad(0.3)))  # change of a beam's elevation from point to point, as a tangent


@dataclass(frozen=True, eq=False)
class Rows:
    """The beams of a sweep.

    `row`: int32 (N,), 0 is the top beam; any for points without a measurement. `elevation`: float32 (R,), mean
    elevation of each beam [rad], falling. `azimuth`: float32 (N,), 0..2 pi, counter-clockwise from x [rad]. `distance`:
    float32 (N,), metres from the sensor, 0 where there is no measurement (NaN, infinite, at the sensor itself). `step`:
    angle between neighbouring points of a beam [rad].
    """

    row: NDArray[np.int32]
    elevation: Floats
    azimuth: Floats
    distance: Floats
    step: float

    def __len__(self) -> int:
        return len(self.elevation)


@dataclass(frozen=True, eq=False)
class RangeImage:
    """Points in cells.

    `index`: int32 (R, C), nearest point of each cell, -1 where there is none. `column`: int32 (N,) of each point, -1
    without a measurement. `rows`: as given.
    """

    index: NDArray[np.int32]
    column: NDArray[np.int32]
    rows: Rows


_known: WeakKeyDictionary[Sweep, Rows | None] = WeakKeyDictionary()


def rows_of(sweep: Sweep) -> Rows | None:
    """Beams of a sweep: from its rings, its organised rows, the order of its points, or heaps of elevations.

    Points that come beam by beam, as in KITTI's files, start a new beam where the azimuth jumps back over its start.
    The result is kept for as long as the sweep is: proposals and every camera's regions ask for it.

    Returns:
        None for clouds that show no beams, as those of solid-state and non-repetitive scanners.
    """
    if sweep not in _known:
        _known[sweep] = _find_rows(sweep)
    return _known[sweep]


def range_image(xyz: Floats, rows: Rows, columns: int = 0) -> RangeImage:
    """Sort points into cells; the nearest stands for those that share one, of equally near ones the lowest.

    Args:
        xyz: float32 (N, 3), metres, LiDAR frame.
        rows: The beam of every point.
        columns: Cells per turn; 0 takes the points' own spacing.
    """
    columns = columns or int(np.clip(round(2 * np.pi / rows.step), _FEWEST_COLUMNS, _MOST_COLUMNS))
    phase = _phase(rows.azimuth, rows.distance, columns)
    index, column = _fill(xyz, rows.azimuth, rows.distance, rows.row, len(rows), columns, phase)
    return RangeImage(index, column, rows)


def _find_rows(sweep: Sweep) -> Rows | None:
    if not len(sweep):
        return None
    azimuth, distance, tangent = polar(sweep.xyz)
    if sweep.ring is not None:
        found = _sorted_rows(sweep.ring.astype(np.int32), azimuth, distance, tangent)
        if found is not None:
            return found
    if sweep.rows > 1 and len(sweep) % sweep.rows == 0:
        labels = np.repeat(np.arange(sweep.rows, dtype=np.int32), len(sweep) // sweep.rows)
        found = _sorted_rows(labels, azimuth, distance, tangent)
        if found is not None:
            return found
    labels = _rows_by_turns(azimuth, distance, tangent)
    if not len(labels):
        labels = _rows_by_elevation(distance, tangent)
    return _sorted_rows(labels, azimuth, distance, tangent) if len(labels) else None


def _sorted_rows(labels: NDArray[np.int32], azimuth: Floats, distance: Floats, tangent: Floats) -> Rows | None:
    """Beams from any numbering, sorted from top to bottom by their mean elevation; those without points left out."""
    sums, counts = _sums(labels, distance, tangent, int(labels.max()) + 1)
    present = np.flatnonzero(counts)
    if not _FEWEST_ROWS <= len(present) <= _MOST_ROWS:
        return None
    mean = sums[present] / counts[present]
    order = np.argsort(-mean, kind="stable")
    place = np.zeros(len(counts), dtype=np.int32)
    place[present[order]] = np.arange(len(present), dtype=np.int32)
    step = _step(azimuth[_of_beam(labels, distance, int(np.argmax(counts)), int(counts.max()))])
    return Rows(place[labels], np.arctan(mean[order]).astype(np.float32), azimuth, distance, step)


def _step(azimuth: Floats) -> float:
    """The angle between neighbouring points of a beam [rad]."""
    steps = np.diff(np.sort(azimuth.astype(np.float64)))
    steps = steps[steps > 5e-4]  # second returns and duplicates are no step
    return float(np.median(steps)) if len(steps) else float(np.deg2rad(0.2))


def _phase(azimuth: Floats, distance: Floats, columns: int) -> float:
    """Where points lie between columns, so that they can be put in mid-cell: a part of a column, from a sample."""
    sample = azimuth[:: max(1, len(azimuth) // 4000)][distance[:: max(1, len(azimuth) // 4000)] > 0]
    turns = complex(np.exp(1j * columns * sample.astype(np.float64)).sum()) / max(len(sample), 1)
    return float(0.5 - np.angle(turns) / (2 * np.pi)) if abs(turns) > 0.2 else 0.0


# In single precision throughout: one double among them would make all of it double, and half as fast.
_A1, _A3, _A5, _A7, _A9, _A11 = np.array(
    [0.99997726, -0.33262347, 0.19354346, -0.11643287, 0.05265332, -0.0117212], dtype=np.float32
)
_QUARTER, _HALF, _TURN = np.array([0.5 * np.pi, np.pi, 2 * np.pi], dtype=np.float32)


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _arctan2(y: float, x: float) -> Any:
    """In 0..2 pi, to 2e-5 rad, ten times as fast as the library's."""
    a, b = abs(x), abs(y)
    t = min(a, b) / max(a, b)
    s = t * t
    r = t * (_A1 + s * (_A3 + s * (_A5 + s * (_A7 + s * (_A9 + s * _A11)))))
    if b > a:
        r = _QUARTER - r
    if x < 0:
        r = _HALF - r
    return _TURN - r if y < 0 else r


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def polar(xyz: Floats) -> tuple[Floats, Floats, Floats]:
    """Azimuth in 0..2 pi [rad], distance [m] (0: no measurement) and tangent of the elevation, float32 (N,) each."""
    n = len(xyz)
    azimuth = np.zeros(n, np.float32)
    distance = np.zeros(n, np.float32)
    tangent = np.zeros(n, np.float32)
    for i in range(n):
        x, y, z = xyz[i, 0], xyz[i, 1], xyz[i, 2]
        planar = x * x + y * y
        d = np.sqrt(planar + z * z)
        if NEAREST < d < _FARTHEST and planar > 1e-6:  # refuses NaN, too
            azimuth[i] = _arctan2(y, x)
            distance[i] = d
            tangent[i] = z / np.sqrt(planar)
    return azimuth, distance, tangent


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sums(
    labels: NDArray[np.int32], distance: Floats, tangent: Floats, beams: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum of tangents and number of measurements of each beam."""
    sums = np.zeros(beams, np.float64)
    counts = np.zeros(beams, np.int64)
    for i in range(len(labels)):
        if distance[i] > 0:
            sums[labels[i]] += tangent[i]
            counts[labels[i]] += 1
    return sums, counts


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _of_beam(labels: NDArray[np.int32], distance: Floats, beam: int, count: int) -> NDArray[np.int64]:
    """The measurements of one beam, which has `count`."""
    found = np.empty(count, np.int64)
    n = 0
    for i in range(len(labels)):
        if labels[i] == beam and distance[i] > 0:
            found[n] = i
            n += 1
    return found


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _rows_by_turns(azimuth: Floats, distance: Floats, tangent: Floats) -> NDArray[np.int32]:
    """Beams of a cloud stored beam after beam: the azimuth starts anew once per beam; empty for other orders.

    Elevation must hardly change from point to point of a beam, as it does in any other order; not be the same all
    round: in motion-compensated or tilted sweeps it drifts by degrees over a turn.
    """
    labels = np.zeros(len(azimuth), np.int32)
    empty = np.zeros(0, np.int32)
    row = since = points = forwards = backwards = steady = 0
    before, slope = np.float32(-1.0), np.float32(0.0)
    for i in range(len(azimuth)):
        if distance[i] > 0:
            step = azimuth[i] - before
            if before < 0:
                pass
            elif abs(step) > 1.2 * np.pi and since >= _FEWEST_PER_ROW:
                row += 1
                since = 0
                if row == _MOST_ROWS:
                    return empty
            elif abs(step) < np.pi:
                forwards += step > 0
                backwards += step < 0
                steady += abs(tangent[i] - slope) < _STEADY * (1 + slope * slope)
                points += 1
            before, slope = azimuth[i], tangent[i]
            since += 1
        labels[i] = row
    if row + 1 < _FEWEST_ROWS or steady < 0.9 * points or max(forwards, backwards) < 0.9 * (forwards + backwards):
        return empty
    return labels


def _rows_by_elevation(distance: Floats, tangent: Floats) -> NDArray[np.int32]:
    """Beams of a cloud in any order whose elevations gather in narrow, well parted heaps; else empty."""
    none = np.zeros(0, dtype=np.int32)
    measured = distance > 0
    if np.count_nonzero(measured) < 100:
        return none
    width = np.deg2rad(0.02)
    bins = np.floor((np.arctan(tangent) + np.pi / 2) / width).astype(np.int64)
    histogram = np.bincount(bins[measured], minlength=int(np.pi / width) + 2)
    occupied = histogram > 0.02 * histogram.max()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], occupied, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    if not 4 <= len(starts) <= _MOST_ROWS:
        return none
    widths, gaps = ends - starts, starts[1:] - ends[:-1]
    narrow = widths <= np.median(gaps)
    held = sum(int(histogram[a:b].sum()) for a, b in zip(starts[narrow], ends[narrow], strict=True))
    if held < 0.95 * histogram.sum():
        return none
    middles = (starts + ends - 1) / 2
    return np.asarray(np.searchsorted((middles[1:] + middles[:-1]) / 2, bins), dtype=np.int32)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fill(
    xyz: Floats,
    azimuth: Floats,
    distance: Floats,
    row: NDArray[np.int32],
    rows: int,
    columns: int,
    phase: float,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    index = np.full((rows, columns), -1, dtype=np.int32)
    column = np.full(len(xyz), -1, dtype=np.int32)
    scale = columns / (2 * np.pi)
    for i in range(len(xyz)):
        if distance[i] == 0:
            continue
        c = int(azimuth[i] * scale + phase + columns)
        while c >= columns:
            c -= columns
        column[i] = c
        r = row[i]
        j = index[r, c]
        if j < 0 or distance[i] < distance[j] or (distance[i] == distance[j] and _before(xyz, i, j)):
            index[r, c] = i
    return index, column


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _before(xyz: Floats, i: int, j: int) -> bool:
    """An order of equally near points that does not depend on theirs in the cloud."""
    if xyz[i, 2] != xyz[j, 2]:
        return bool(xyz[i, 2] < xyz[j, 2])
    return bool(xyz[i, 0] < xyz[j, 0] or (xyz[i, 0] == xyz[j, 0] and xyz[i, 1] < xyz[j, 1]))
