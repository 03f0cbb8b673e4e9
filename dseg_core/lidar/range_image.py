"""A sweep as an image of ranges: rows are beams from top to bottom, columns are azimuths around the turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numba
import numpy as np
from numpy.typing import NDArray

from dseg_core.lidar.scratch import Scratch
from dseg_core.records import Sweep

if TYPE_CHECKING:
    Floats = NDArray[np.float32]

_FEWEST_ROWS, _MOST_ROWS = 2, 512
_FEWEST_PER_ROW = 16
_FEWEST_COLUMNS, _MOST_COLUMNS = 64, 8192
NEAREST, _FARTHEST = 0.3, 1e4
"""Metres between which points are measurements. No LiDAR sees nearer; drivers put misses there."""


_scratch = Scratch()


@dataclass(frozen=True, eq=False)
class Points:
    """A cloud in the form that fast loops need. Its memory is used anew for the thread's next cloud.

    `axes`: float32 (3, N), x, y and z, metres, each in one piece of memory: loops over them use the processor's vector
    instructions, over (N, 3) they cannot. `azimuth`: float32 (N,), 0..2 pi, counter-clockwise from x [rad]. `distance`:
    float32 (N,), metres from the sensor, 0 where there is no measurement (NaN, infinite, at the sensor itself).
    `tangent`: float32 (N,), of the elevation.
    """

    axes: Floats
    azimuth: Floats
    distance: Floats
    tangent: Floats

    def __len__(self) -> int:
        return len(self.azimuth)


@dataclass(frozen=True, eq=False)
class Rows:
    """The beams of a sweep.

    `row`: uint16 (N,), 0 is the top beam; any for points without a measurement. `elevation`: float32 (R,), mean
    elevation of each beam [rad], falling. `step`: angle between neighbouring points of a beam [rad].
    """

    row: NDArray[np.uint16]
    elevation: Floats
    step: float

    def __len__(self) -> int:
        return len(self.elevation)

    def apart(self) -> float:
        """The usual angle between neighbouring beams [rad]."""
        return max(float(np.median(self.elevation[:-1] - self.elevation[1:])), 1e-3)


@dataclass(frozen=True, eq=False)
class RangeImage:
    """Points in cells. Its memory is used anew for the thread's next range image.

    `index`: int32 (R, C), nearest point of each cell, -1 where there is none. `axes`: float32 (3, R, C), its x, y and
    z; any where there is none. `distance`: float32 (R, C), 0 where there is none. `cell`: int32 (N,), of each point,
    row * C + column, -1 without a measurement. `points`: as given.
    """

    index: NDArray[np.int32]
    axes: Floats
    distance: Floats
    cell: NDArray[np.int32]
    points: Points


_known: WeakKeyDictionary[Sweep, Rows | None] = WeakKeyDictionary()


def points_of(xyz: Floats) -> Points:
    """Take a cloud, float32 (N, 3), metres, LiDAR frame, apart."""
    n = len(xyz)
    axes = _scratch.take("axes", (3, n), np.float32)
    np.copyto(axes, xyz.T)
    azimuth, distance, tangent = (_scratch.take(k, n, np.float32) for k in ("azimuth", "distance", "tangent"))
    _polar(axes, azimuth, distance, tangent)
    return Points(axes, azimuth, distance, tangent)


def rows_of(sweep: Sweep, points: Points | None = None) -> Rows | None:
    """Beams of a sweep: from its rings, its organised rows, the order of its points, or heaps of elevations.

    Points that come beam by beam, as in KITTI's files, start a new beam where the azimuth jumps back over its start.
    The result is kept for as long as the sweep is: proposals and every camera's regions ask for it.

    Args:
        sweep: The sweep.
        points: Its points where the caller has them.

    Returns:
        None for clouds that show no beams, as those of solid-state and non-repetitive scanners.
    """
    if sweep not in _known:
        _known[sweep] = _find_rows(sweep, points or points_of(sweep.xyz)) if len(sweep) else None
    return _known[sweep]


def range_image(points: Points, rows: Rows, columns: int = 0) -> RangeImage:
    """Sort points into cells; the nearest stands for those that share one, of equally near ones the lowest.

    Args:
        points: The points.
        rows: The beam of each.
        columns: Cells per turn; 0 takes the points' own spacing.
    """
    columns = columns or int(np.clip(round(2 * np.pi / rows.step), _FEWEST_COLUMNS, _MOST_COLUMNS))
    scale, phase = np.float32(columns / (2 * np.pi)), np.float32(_phase(points, columns))
    cell = _scratch.take("cell", len(points), np.int32)
    _cells(points.azimuth, points.distance, rows.row, np.int32(columns), scale, phase, cell)
    shape = (len(rows), columns)
    index, distance = _scratch.take("index", shape, np.int32), _scratch.take("nearest", shape, np.float32)
    axes = _scratch.take("corners", (3, *shape), np.float32)
    _fill(points.axes, points.distance, cell, index.reshape(-1), axes.reshape(3, -1), distance.reshape(-1))
    return RangeImage(index, axes, distance, cell, points)


def _find_rows(sweep: Sweep, points: Points) -> Rows | None:
    for labels in _numberings(sweep, points):
        found = _sorted_rows(labels, points) if len(labels) else None
        if found is not None:
            return found
    return None


def _numberings(sweep: Sweep, points: Points) -> Iterator[NDArray[np.int32]]:
    """Every way to number beams that the sweep offers, the surest first; empty where it turns out to offer none."""
    if sweep.ring is not None:
        yield sweep.ring.astype(np.int32)
    if sweep.rows > 1 and len(sweep) % sweep.rows == 0:
        yield np.repeat(np.arange(sweep.rows, dtype=np.int32), len(sweep) // sweep.rows)
    turns = _rows_by_turns(points)
    yield turns if len(turns) else _rows_by_elevation(points)


def _sorted_rows(labels: NDArray[np.int32], points: Points) -> Rows | None:
    """Beams from any numbering, sorted from top to bottom by their mean elevation; those without points left out."""
    sums, counts = _sums(labels, points.distance, points.tangent, int(labels.max()) + 1)
    present = np.flatnonzero(counts)
    if not _FEWEST_ROWS <= len(present) <= _MOST_ROWS:
        return None
    mean = sums[present] / counts[present]
    order = np.argsort(-mean, kind="stable")
    place = np.zeros(len(counts), dtype=np.uint16)
    place[present[order]] = np.arange(len(present), dtype=np.uint16)
    step = _step(_of_beam(labels, points.azimuth, points.distance, int(np.argmax(counts)), int(counts.max())))
    return Rows(place.take(labels), np.arctan(mean[order]).astype(np.float32), step)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _of_beam(labels: NDArray[np.int32], azimuth: Floats, distance: Floats, beam: int, count: int) -> Floats:
    """Azimuths of a beam's `count` measured points."""
    found, k = np.empty(count, np.float32), 0
    for i in range(len(labels)):
        if labels[i] == beam and distance[i] > 0:
            found[k] = azimuth[i]
            k += 1
    return found


def _step(azimuth: Floats) -> float:
    """The angle between neighbouring points of a beam [rad]."""
    steps = np.diff(np.sort(azimuth.astype(np.float64)))
    steps = steps[steps > 5e-4]  # second returns and duplicates are no step
    return float(np.median(steps)) if len(steps) else float(np.deg2rad(0.2))


def _phase(points: Points, columns: int) -> float:
    """Where points lie between columns, so that they can be put in mid-cell: a part of a column, from a sample."""
    every = max(1, len(points) // 4000)
    sample = np.float32(columns) * points.azimuth[::every][points.distance[::every] > 0]
    across, along = float(np.sin(sample).sum()), float(np.cos(sample).sum())
    return 0.5 - np.arctan2(across, along) / (2 * np.pi) if np.hypot(across, along) > 0.2 * len(sample) else 0.0


# In single precision throughout: one double among them would make all of it double, and half as fast. And without
# branches, which keep a loop from being done sixteen points at a time.
_A1, _A3, _A5, _A7, _A9, _A11 = np.array(
    [0.99997726, -0.33262347, 0.19354346, -0.11643287, 0.05265332, -0.0117212], dtype=np.float32
)
_QUARTER, _HALF, _TURN = np.array([0.5 * np.pi, np.pi, 2 * np.pi], dtype=np.float32)
_JUMP = np.float32(1.2 * np.pi)  # of the azimuth, where a beam starts
_STEADY = np.float32(np.tan(np.deg2rad(0.3)))  # change of a beam's elevation from point to point, as a tangent
_ZERO, _AXIS, _NEAR_SQUARE, _FAR_SQUARE = np.array([0.0, 1e-6, NEAREST**2, _FARTHEST**2], dtype=np.float32)


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _polar(axes: Floats, azimuth: Floats, distance: Floats, tangent: Floats) -> None:
    """Azimuth to 2e-5 rad."""
    for i in range(len(azimuth)):
        x, y, z = axes[0, i], axes[1, i], axes[2, i]
        planar = x * x + y * y
        square = planar + z * z
        measured = (square > _NEAR_SQUARE) & (square < _FAR_SQUARE) & (planar > _AXIS)  # refuses NaN, too
        a, b = abs(x), abs(y)
        t = min(a, b) / max(a, b)
        s = t * t
        r = t * (_A1 + s * (_A3 + s * (_A5 + s * (_A7 + s * (_A9 + s * _A11)))))
        r = _QUARTER - r if b > a else r
        r = _HALF - r if x < _ZERO else r
        r = _TURN - r if y < _ZERO else r
        azimuth[i] = r if measured else _ZERO
        distance[i] = np.sqrt(square) if measured else _ZERO
        tangent[i] = z / np.sqrt(planar) if measured else _ZERO


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sums(
    labels: NDArray[np.int32], distance: Floats, tangent: Floats, beams: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum of tangents (0 without a measurement) and number of measurements of each beam."""
    sums = np.zeros(beams, np.float64)
    counts = np.zeros(beams, np.int64)
    current, total, count = 0, 0.0, 0  # of the run of points that are of one beam
    for i in range(len(labels)):
        if labels[i] != current:
            sums[current] += total
            counts[current] += count
            current, total, count = labels[i], 0.0, 0
        total += tangent[i]
        count += distance[i] > 0
    sums[current] += total
    counts[current] += count
    return sums, counts


def _rows_by_turns(points: Points) -> NDArray[np.int32]:
    """Beams of a cloud stored beam after beam: the azimuth starts anew once per beam; empty for other orders.

    Elevation must hardly change from point to point of a beam, as it does in any other order; not be the same all
    round: in motion-compensated or tilted sweeps it drifts by degrees over a turn.
    """
    measured = np.flatnonzero(points.distance) if not points.distance.all() else None
    azimuth, tangent = points.azimuth, points.tangent
    if measured is not None:
        azimuth, tangent = azimuth[measured], tangent[measured]
    labels = _scratch.take("turns", len(azimuth), np.int32)
    if not _turns(azimuth, tangent, labels):
        return np.zeros(0, np.int32)
    if measured is None:
        return labels
    spread = np.zeros(len(points), np.int32)
    spread[measured] = labels
    return spread


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _turns(azimuth: Floats, tangent: Floats, labels: NDArray[np.int32]) -> bool:
    """Number the turns of measured points; False where they are not stored beam after beam."""
    points = forwards = backwards = steady = np.int32(0)
    for i in range(1, len(azimuth)):
        step, slope = azimuth[i] - azimuth[i - 1], tangent[i - 1]
        within = abs(step) < _HALF
        points += np.int32(within)
        forwards += np.int32(within & (step > _ZERO))
        backwards += np.int32(within & (step < _ZERO))
        steady += np.int32(within & (abs(tangent[i] - slope) < _STEADY + _STEADY * slope * slope))
    if steady < 0.9 * points or max(forwards, backwards) < 0.9 * (forwards + backwards):
        return False
    row, start = 0, 0
    for i in range(len(azimuth)):
        if i - start >= _FEWEST_PER_ROW and abs(azimuth[i] - azimuth[i - 1]) > _JUMP:
            row, start = row + 1, i
        labels[i] = row
    return _FEWEST_ROWS <= row + 1 <= _MOST_ROWS


def _rows_by_elevation(points: Points) -> NDArray[np.int32]:
    """Beams of a cloud in any order whose elevations gather in narrow, well parted heaps; else empty."""
    none = np.zeros(0, dtype=np.int32)
    measured = points.distance > 0
    if np.count_nonzero(measured) < 100:
        return none
    width = np.deg2rad(0.02)
    bins = np.floor((np.arctan(points.tangent) + np.pi / 2) / width).astype(np.int64)
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


@numba.njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _cells(
    azimuth: Floats,
    distance: Floats,
    row: NDArray[np.uint16],
    columns: np.int32,
    scale: np.float32,
    phase: np.float32,
    cell: NDArray[np.int32],
) -> None:
    for i in range(len(cell)):
        c = np.int32(azimuth[i] * scale + phase)
        c = c - columns if c >= columns else c
        k = np.int32(row[i]) * columns + c
        cell[i] = k if distance[i] > _ZERO else np.int32(-1)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fill(
    axes: Floats, distance: Floats, cell: NDArray[np.int32], index: NDArray[np.int32], corners: Floats, nearest: Floats
) -> None:
    index[:] = -1
    nearest[:] = 0
    for i in range(len(cell)):
        k = cell[i]
        if k < 0:
            continue
        d = distance[i]
        if nearest[k] == 0 or d < nearest[k] or (d == nearest[k] and _before(axes, i, index[k])):
            index[k] = i
            nearest[k] = d
            corners[0, k], corners[1, k], corners[2, k] = axes[0, i], axes[1, i], axes[2, i]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _before(axes: Floats, i: int, j: int) -> bool:
    """An order of equally near points that does not depend on theirs in the cloud."""
    for k in (2, 0, 1):
        if axes[k, i] != axes[k, j]:
            return bool(axes[k, i] < axes[k, j])
    return False
