"""The beams of a sweep: from its rings, its organised rows, the order of its points, or heaps of elevations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled
from dseg_core.lidar.beam_sums import runs_of_labels, sums_of_labels, sums_of_runs
from dseg_core.lidar.one_origin import has_one_origin
from dseg_core.lidar.points import Points, points_of
from dseg_core.lidar.rows_by_order import FEWEST_ROWS, MOST_ROWS, rows_by_elevation, rows_by_turns, without
from dseg_core.lidar.scratch import Scratch
from dseg_core.lidar.usual_step import usual_step
from dseg_core.records import Sweep

_ZERO = np.float32(0.0)

# Share of the variance of elevations that is within beams: those of a tilted LiDAR, or of a mirror, are bent. Rings of
# several LiDARs in one cloud are worse.
_BENT, _BENT_RINGS = 0.3, 0.8
_TURNED = 0.1  # of the beams: as many may follow in elevation against the way of the others, by what they happen to see

RINGS, ORGANISED = "their rings", "the organised cloud"
ORDER, ELEVATIONS = "the order of points", "the elevations of points"
"""What beams are known by."""

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

    def mirrored(self) -> Rows:
        """Those of the points with z turned round, of a LiDAR that hangs upside down: its highest beam is first."""
        return Rows(np.uint16(len(self) - 1) - self.row, -self.elevation[::-1], self.step)

    def apart(self) -> float:
        """The usual angle between neighbouring beams [rad]."""
        steps = np.sort(self.elevation[:-1] - self.elevation[1:])
        n = len(steps)  # the median; NumPy's takes longer than sorting so few
        return max(float((steps[(n - 1) // 2] + steps[n // 2]) / np.float32(2)), 1e-3)


@dataclass(frozen=True, eq=False)
class FoundRows:
    """What is known of a sweep's beams, and by what.

    `rows`: None where there are none. `source`: what they are known by, one of the names above, empty without any.
    `refused`: what named beams that its points do not fit.
    """

    rows: Rows | None = None
    source: str = ""
    refused: tuple[str, ...] = ()


_known: WeakKeyDictionary[Sweep, FoundRows] = WeakKeyDictionary()


def rows_of(sweep: Sweep, points: Points | None = None) -> Rows | None:
    """Beams of a sweep, as `found_rows` finds them.

    Returns:
        None for clouds that show no beams, as those of solid-state and non-repetitive scanners.
    """
    return found_rows(sweep, points).rows


def found_rows(sweep: Sweep, points: Points | None = None) -> FoundRows:
    """Beams of a sweep, and what they are known by.

    Points that come beam by beam, as in KITTI's files, start a new beam where the azimuth jumps back over its start.
    The result is kept for as long as the sweep is: proposals and every camera's regions ask for it.

    Args:
        sweep: The sweep.
        points: Its points where the caller has them.
    """
    if sweep not in _known:
        _known[sweep] = _find_rows(sweep, points or points_of(sweep.xyz)) if len(sweep) else FoundRows()
    return _known[sweep]


def beams_of_cells(
    cell: NDArray[np.int32] | NDArray[np.int64], columns: int, points: Points
) -> NDArray[np.int32] | None:
    """Beams of what is measured of an organised cloud: its rows, or, with drivers that send firing by firing, columns.

    Args:
        cell: (N,), row * columns + column of each point.
        columns: Of the cloud.
        points: The points.

    Returns:
        The numbers (N,) of whichever are more level; None where neither are.
    """
    found: list[tuple[float, int, NDArray[np.int32]]] = []
    cell = cell.astype(np.int32, copy=False)
    row = cell // np.int32(columns)
    for labels in (row, cell - row * np.int32(columns)):  # NumPy's remainder takes ten times as long
        sums, counts = sums_of_labels(labels, points)
        if np.count_nonzero(counts) <= MOST_ROWS and (bent := _bent(sums, counts, points)) <= _BENT:
            found.append((round(bent, 3), len(found), labels))
    return min(found)[2] if found else None


def _find_rows(sweep: Sweep, points: Points) -> FoundRows:
    refused = list[str]()
    for source, labels, most_bent in _numberings(sweep, points):
        runs = runs_of_labels(labels)
        if runs is not None:
            found = _rows_of_runs(*runs, int(runs[1].max()) + 1, points, most_bent)
        else:
            found = _rows_of_labels(labels.astype(np.int32, copy=False), points, most_bent)
        if found is not None:
            return FoundRows(found, source, tuple(refused))
        refused.append(source)
    starts, stray = rows_by_turns(points)
    if len(starts):
        source, found = ORDER, _rows_of_turns(starts, stray, points)
    else:
        labels = rows_by_elevation(points)
        source, found = ELEVATIONS, _rows_of_labels(labels, points, np.inf) if len(labels) else None
        if not len(labels):
            return FoundRows(refused=tuple(refused))
    return FoundRows(found, source, tuple(refused)) if found is not None else FoundRows(refused=(*refused, source))


def _rows_of_turns(starts: NDArray[np.int32], stray: NDArray[np.bool_] | None, points: Points) -> Rows | None:
    """Beams as `rows_by_turns` finds them; strays are of the beam that is nearest to them."""
    beams = len(starts) - 1
    kept = points if stray is None else without(points, stray)
    rows = _rows_of_runs(starts, np.arange(beams, dtype=np.int32), beams, kept, np.inf)
    if rows is None or stray is None:
        return rows
    upwards = rows.elevation[::-1]
    above = np.searchsorted((upwards[1:] + upwards[:-1]) / 2, np.arctan(points.tangent[stray]))
    row = rows.row.copy()
    row[stray] = (len(rows) - 1 - above).astype(np.uint16)
    return replace(rows, row=row)


def _numberings(sweep: Sweep, points: Points) -> Iterator[tuple[str, NDArray[np.int32] | NDArray[np.uint16], float]]:
    """Numbers of beams that the sweep offers, the surest first, and how bent they may be."""
    if sweep.ring is not None:
        yield ORGANISED if sweep.ring_of_cells else RINGS, sweep.ring, _BENT_RINGS
    if sweep.rows > 1 and len(sweep) % sweep.rows == 0:
        organised = beams_of_cells(np.arange(len(sweep), dtype=np.int32), len(sweep) // sweep.rows, points)
        if organised is not None:
            yield ORGANISED, organised, _BENT


def _bent(sums: NDArray[np.float64], counts: NDArray[np.int32], points: Points) -> float:
    """Share of the variance of elevations that is within beams, from `beam_sums`: near 0 where all are level."""
    squares, n = float(points.tangent @ points.tangent), max(int(counts.sum()), 1)
    within = squares - float((sums**2 / np.maximum(counts, 1)).sum())
    return within / max(squares - float(sums.sum()) ** 2 / n, 1e-4 * squares, 1e-9)


def _rows_of_labels(labels: NDArray[np.int32], points: Points, most_bent: float) -> Rows | None:
    """Beams from any numbering, sorted from top to bottom by their mean elevation; those without points left out."""
    sums, counts = sums_of_labels(labels, points)
    order = _in_order(sums, counts, points, most_bent)
    if order is None:
        return None
    place, elevation, beam, level = order
    row = np.empty(len(labels), np.uint16)
    fullest = _scratch.take("fullest", int(counts[beam]), np.float32)
    _renumber(labels, points.azimuth, points.distance, place, np.int32(beam), row, fullest)
    return _believed(row, elevation, fullest, level, points)


def _rows_of_runs(
    starts: NDArray[np.int32], beam: NDArray[np.int32], beams: int, points: Points, most_bent: float
) -> Rows | None:
    """The same of beams whose points follow one another: see `runs_of_labels`."""
    sums, counts = sums_of_runs(starts, beam, beams, points)
    order = _in_order(sums, counts, points, most_bent)
    if order is None:
        return None
    place, elevation, fullest, level = order
    row = np.empty(len(points), np.uint16)
    azimuths = _scratch.take("fullest", int(counts[fullest]) + 1, np.float32)
    _renumber_runs(starts, beam, points.azimuth, points.distance, place, np.int32(fullest), row, azimuths)
    return _believed(row, elevation, azimuths[:-1], level, points)


def _believed(
    row: NDArray[np.uint16],
    elevation: NDArray[np.float32],
    azimuth: NDArray[np.float32],
    in_order: bool,
    points: Points,
) -> Rows | None:
    """The beams; None where they are those of several LiDARs.

    Only these are looked at closely: beams that do not follow one another in order of elevation, as two LiDARs' do in
    which one's come after the other's, and those whose azimuths, that of their fullest (M,) here, do not go round once.
    """
    step, once = usual_step(azimuth)
    rows = Rows(row, elevation, step)
    if (in_order and once) or has_one_origin(row, len(rows), step, rows.apart(), points):
        return rows
    return None


def _in_order(
    sums: NDArray[np.float64], counts: NDArray[np.int32], points: Points, most_bent: float
) -> tuple[NDArray[np.uint16], NDArray[np.float32], int, bool] | None:
    """The row of each beam, the rows' elevations, the fullest beam, and whether the numbers go by elevation.

    None for what is too bent or few.
    """
    if most_bent < 1 and _bent(sums, counts, points) > most_bent:
        return None
    place, mean = np.zeros(len(counts), np.uint16), np.empty(MOST_ROWS)
    present, fullest, turned = _sort(sums, counts, place, mean)
    if not FEWEST_ROWS <= present <= MOST_ROWS:
        return None
    return place, np.arctan(mean[:present]).astype(np.float32), fullest, turned <= _TURNED * present


@compiled
def _sort(
    sums: NDArray[np.float64], counts: NDArray[np.int32], place: NDArray[np.uint16], mean: NDArray[np.float64]
) -> tuple[int, int, int]:
    """Sort beams by their mean tangent, the highest first.

    How many have measurements is returned, the fullest, and how many follow the one before against the way of most: all
    where a step is half of them wide.

    `place`: uint16 (L,), zeros, is filled with the place of each; `mean`: float64 (MOST_ROWS,), in their order. Where
    there are more, neither is.
    """
    present, fullest = 0, 0
    for label in range(len(counts)):
        present += counts[label] > 0
        fullest = label if counts[label] > counts[fullest] else fullest
    if present > len(mean):
        return present, fullest, 0
    order, count = np.empty(len(mean), np.int64), 0
    for label in range(len(counts)):
        if counts[label] > 0:
            tangent, k = sums[label] / counts[label], count
            while k > 0 and mean[k - 1] < tangent:  # they are few, and mostly in order
                mean[k], order[k] = mean[k - 1], order[k - 1]
                k -= 1
            mean[k], order[k] = tangent, label
            count += 1
    for k in range(count):
        place[order[k]] = k
    last, up, down, leaps = -1, 0, 0, 0
    for label in range(len(counts)):
        if counts[label] > 0:
            if last >= 0:
                up += place[label] < place[last]
                down += place[label] > place[last]
                wide = abs(np.int64(place[label]) - np.int64(place[last]))  # as unsigned numbers it would wrap
                leaps += bool(2 * wide > count)
            last = label
    return present, fullest, max(min(up, down), leaps * count)


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


@compiled
def _renumber_runs(
    starts: NDArray[np.int32],
    beams: NDArray[np.int32],
    azimuth: NDArray[np.float32],
    distance: NDArray[np.float32],
    place: NDArray[np.uint16],
    beam: np.int32,
    row: NDArray[np.uint16],
    azimuths: NDArray[np.float32],
) -> None:
    """The same, of runs of points of one beam each; `azimuths` has place for one more."""
    k = 0
    for run in range(len(beams)):
        row[starts[run] : starts[run + 1]] = place[beams[run]]
        if beams[run] == beam:
            for i in range(starts[run], starts[run + 1]):
                azimuths[k] = azimuth[i]
                k += distance[i] > _ZERO
