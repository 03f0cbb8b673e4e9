"""The beams of a sweep: from its rings, its organised rows, the order of its points, or heaps of elevations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled
from dseg_core.lidar.points import Points, points_of
from dseg_core.lidar.scratch import Scratch
from dseg_core.records import Sweep

_FEWEST_ROWS, _MOST_ROWS = 2, 512
_FEWEST_PER_ROW = 16

# In single precision, and a loop without branches: it runs with vector instructions.
_ZERO, _HALF = np.array([0.0, np.pi], dtype=np.float32)
_JUMP = np.float32(1.2 * np.pi)  # of the azimuth, where a beam starts
_STEADY = np.float32(np.tan(np.deg2rad(0.3)))  # change of a beam's elevation from point to point, as a tangent

_scratch = Scratch()


@dataclass(frozen=True, eq=False)
class Rows:
    """The beams of a sweep.

    `row`: uint16 (N,), 0 is the top beam; any for points without a measurement. `elevation`: float32 (R,), mean
    elevation of each beam [rad], falling. `step`: angle between neighbouring points of a beam [rad].
    """

    row: NDArray[np.uint16]
    elevation: NDArray[np.float32]
    step: float

    def __len__(self) -> int:
        return len(self.elevation)

    def apart(self) -> float:
        """The usual angle between neighbouring beams [rad]."""
        steps = np.sort(self.elevation[:-1] - self.elevation[1:])
        n = len(steps)  # the median; NumPy's takes longer than sorting so few
        return max(float((steps[(n - 1) // 2] + steps[n // 2]) / np.float32(2)), 1e-3)


_known: WeakKeyDictionary[Sweep, Rows | None] = WeakKeyDictionary()


def rows_of(sweep: Sweep, points: Points | None = None) -> Rows | None:
    """Beams of a sweep.

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
        for labels in _organised(sweep.rows, len(sweep) // sweep.rows):
            if _level(labels, points):
                yield labels
    turns = _rows_by_turns(points)
    yield turns if len(turns) else _rows_by_elevation(points)


def _organised(rows: int, columns: int) -> Iterator[NDArray[np.int32]]:
    """Rows are beams, or, with drivers that send firing after firing, columns are."""
    yield np.repeat(np.arange(rows, dtype=np.int32), columns)
    yield np.tile(np.arange(columns, dtype=np.int32), rows)


def _level(labels: NDArray[np.int32], points: Points) -> bool:
    """Whether points of one label are of nearly one elevation, as those of a beam are: most of the variance is between.

    Not all of it: the beams of a tilted LiDAR, or of a mirror, are bent.
    """
    sums, counts = _sums(labels, points)
    present = counts > 0
    between = float((sums[present] ** 2 / counts[present]).sum())
    squares, mean = float(points.tangent @ points.tangent), float(sums.sum() / max(counts.sum(), 1))
    return squares - between <= 0.3 * (squares - float(counts.sum()) * mean * mean)


def _sorted_rows(labels: NDArray[np.int32], points: Points) -> Rows | None:
    """Beams from any numbering, sorted from top to bottom by their mean elevation; those without points left out."""
    sums, counts = _sums(labels, points)
    present = np.flatnonzero(counts)
    if not _FEWEST_ROWS <= len(present) <= _MOST_ROWS:
        return None
    mean = sums[present] / counts[present]
    order = np.argsort(-mean, kind="stable")
    place = np.zeros(len(counts), dtype=np.uint16)
    place[present[order]] = np.arange(len(present), dtype=np.uint16)
    row = np.empty(len(labels), np.uint16)
    fullest = _scratch.take("fullest", int(counts.max()), np.float32)
    _renumber(labels, points.azimuth, points.distance, place, np.int32(counts.argmax()), row, fullest)
    return Rows(row, np.arctan(mean[order]).astype(np.float32), _step(fullest))


def _sums(labels: NDArray[np.int32], points: Points) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Sum of tangents and number of measurements of each beam."""
    beams = int(labels.max()) + 1
    sums, counts = np.zeros(beams), np.zeros(beams, np.int32)
    _sum_up(labels, points.distance, points.tangent, sums, counts)
    return sums, counts


@compiled
def _sum_up(
    labels: NDArray[np.int32],
    distance: NDArray[np.float32],
    tangent: NDArray[np.float32],
    sums: NDArray[np.float64],
    counts: NDArray[np.int32],
) -> None:
    """Sum of tangents (0 without a measurement) and number of measurements of each beam."""
    current, count = labels[0], np.int32(0)  # of the run of points that are of one beam
    even = odd = 0.0  # two sums: no addition has to wait for the one before
    for i in range(len(labels)):
        if labels[i] != current:
            sums[current] += even + odd
            counts[current] += count
            current, even, odd, count = labels[i], 0.0, 0.0, np.int32(0)
        even, odd = odd + tangent[i], even
        count += np.int32(distance[i] > _ZERO)
    sums[current] += even + odd
    counts[current] += count


@compiled
def _renumber(
    labels: NDArray[np.int32],
    azimuth: NDArray[np.float32],
    distance: NDArray[np.float32],
    place: NDArray[np.uint16],
    beam: np.int32,
    row: NDArray[np.uint16],
    azimuths: NDArray[np.float32],
) -> None:
    """The row of each point, and the azimuths of one beam's measured points."""
    k = 0
    for i in range(len(labels)):
        row[i] = place[labels[i]]
        if labels[i] == beam and distance[i] > _ZERO:
            azimuths[k] = azimuth[i]
            k += 1


def _step(azimuth: NDArray[np.float32]) -> float:
    """The angle between neighbouring points of a beam [rad]: the median."""
    azimuth = np.sort(azimuth)
    steps = np.sort(azimuth[1:].astype(np.float64) - azimuth[:-1])
    steps = steps[np.searchsorted(steps, 5e-4, side="right") :]  # second returns and duplicates are no step
    n = len(steps)
    return float(steps[(n - 1) // 2] + steps[n // 2]) / 2 if n else float(np.deg2rad(0.2))


def _rows_by_turns(points: Points) -> NDArray[np.int32]:
    """Beams of a cloud stored beam after beam: the azimuth starts anew once per beam; empty for other orders.

    Elevation must hardly change from point to point of a beam, as it does in any other order; not be the same all
    round: in motion-compensated or tilted sweeps it drifts by degrees over a turn.
    """
    measured = np.flatnonzero(points.distance) if points.measured < len(points) else None
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


@compiled
def _turns(azimuth: NDArray[np.float32], tangent: NDArray[np.float32], labels: NDArray[np.int32]) -> bool:
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
    row, start = np.int32(0), 0
    for i in range(len(azimuth)):
        if i - start >= _FEWEST_PER_ROW and abs(azimuth[i] - azimuth[i - 1]) > _JUMP:
            row, start = row + np.int32(1), i
        labels[i] = row
    return bool(_FEWEST_ROWS <= row + 1 <= _MOST_ROWS)


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
