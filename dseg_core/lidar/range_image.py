"""A sweep as an image of ranges: rows are beams from top to bottom, columns are azimuths around the turn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.points import Points
from dseg_core.lidar.rows import Rows
from dseg_core.lidar.scratch import Scratch
from dseg_core.stage_options.proposals import FEWEST_COLUMNS

_MOST_COLUMNS = 8192
_ALIKE, _APART = 128, 16
"""Rows of a multiple of so many cells are so much longer: the cells of a column would share a few places in the cache,
and clouds that are stored column after column would take twice as long."""
_PER_TURN, _QUARTER_TURN = 0.5 / math.pi, 0.5 * math.pi
_S3, _S5, _S7, _S9 = (-1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880)  # by factors: divisions would take most time
_C2, _C4, _C6, _C8, _C10 = (-1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800)
_ONE = 2.0**40  # as an integer
_ZERO, _FARTHEST = np.array([0.0, np.inf], dtype=np.float32)

_scratch = Scratch()


@dataclass(frozen=True, eq=False)
class RangeImage:
    """Points in cells. Its memory is used anew for the thread's next range image.

    `index`: int32 (R, C), nearest point of each cell, -1 where there is none. `axes`: float32 (3, R, C), its x, y and
    z; any where there is none. `distance`: float32 (R, C), 0 where there is none. `cell`: int32 (N,), of each point,
    row * C + column, -1 without a measurement. `points`: as given. `columns`: of a turn; those beyond are empty.
    """

    index: NDArray[np.int32]
    axes: NDArray[np.float32]
    distance: NDArray[np.float32]
    cell: NDArray[np.int32]
    points: Points
    columns: int


def range_image(points: Points, rows: Rows, columns: int = 0) -> RangeImage:
    """Sort points into cells; the nearest stands for those that share one, of equally near ones the lowest.

    Args:
        points: The points.
        rows: The beam of each.
        columns: Cells per turn, FEWEST_COLUMNS at least; 0 takes the points' own spacing.
    """
    columns = columns or min(max(round(2 * np.pi / rows.step), FEWEST_COLUMNS), _MOST_COLUMNS)
    scale, phase = (
        np.float32(columns / (2 * np.pi)),
        np.float32(_phase(points.azimuth, points.distance, np.float32(columns))),
    )
    cell = _scratch.take("cell", len(points), np.int32)
    shape = (len(rows), columns if columns % _ALIKE else columns + _APART)
    by_firings = _cells(
        points.azimuth, points.distance, rows.row, np.int32(columns), np.int32(shape[1]), scale, phase, cell
    )
    index, distance = _scratch.take("index", shape, np.int32), _scratch.take("nearest", shape, np.float32)
    axes = _scratch.take("corners", (3, *shape), np.float32)
    cells, corners = index.reshape(-1), axes.reshape(3, -1)
    _seat(points.axes, points.distance, cell, cells, distance.reshape(-1))
    if by_firings:
        _copy_by_points(points.axes, cell, cells, corners)
    else:
        _copy_by_cells(points.axes, cells, corners)
    return RangeImage(index, axes, distance, cell, points, columns)


@compiled
def _phase(azimuth: NDArray[np.float32], distance: NDArray[np.float32], columns: np.float32) -> float:
    """Where points lie between columns, so that they can be put in mid-cell: a part of a column, from a sample.

    Sine and cosine are those of a quarter of the angle by their series, to 1e-8, and doubled twice. Sums are of
    integers: those of other numbers may not be put in another order, as vector instructions do it.
    """
    every = max(len(azimuth) // 4000, 1)
    count = across = along = np.int64(0)
    for k in range((len(azimuth) - 1) // every + 1):
        i = np.uint32(k * every)
        turns = np.float64(columns * azimuth[i]) * _PER_TURN
        q = (turns - np.rint(turns)) * _QUARTER_TURN
        s = q * q
        sine = q * (1 + s * (_S3 + s * (_S5 + s * (_S7 + s * _S9))))
        cosine = 1 + s * (_C2 + s * (_C4 + s * (_C6 + s * (_C8 + s * _C10))))
        sine, cosine = 2 * sine * cosine, cosine * cosine - sine * sine
        weight = _ONE if distance[i] > _ZERO else 0.0
        across += np.int64(weight * 2 * sine * cosine)
        along += np.int64(weight * (cosine * cosine - sine * sine))
        count += distance[i] > _ZERO
    alike = math.hypot(across, along) > 0.2 * _ONE * count
    return 0.5 - math.atan2(across, along) * _PER_TURN if alike else 0.0


@compiled
def _cells(
    azimuth: NDArray[np.float32],
    distance: NDArray[np.float32],
    row: NDArray[np.uint16],
    columns: np.int32,
    stride: np.int32,
    scale: np.float32,
    phase: np.float32,
    cell: NDArray[np.int32],
) -> bool:
    """Whether points come firing by firing is returned: mostly, the next one is of another beam."""
    for i in range(len(cell)):
        c = np.int32(azimuth[i] * scale + phase)
        c = c - columns if c >= columns else c
        k = np.int32(row[i]) * stride + c
        cell[i] = k if distance[i] > _ZERO else np.int32(-1)
    some, others = min(len(row), 2048), 0
    for i in range(some - 1):
        others += row[i] != row[i + 1]
    return 2 * others > some


@compiled
def _seat(
    axes: NDArray[np.float32],
    distance: NDArray[np.float32],
    cell: NDArray[np.int32],
    index: NDArray[np.int32],
    nearest: NDArray[np.float32],
) -> None:
    """Without branches, which would often be guessed wrong where points share cells; equally near ones are rare."""
    index[:] = -1
    nearest[:] = _FARTHEST
    for i in range(len(cell)):
        if cell[i] < 0:
            continue
        at, d = np.uint32(cell[i]), distance[i]
        other, before = index[at], nearest[at]
        chosen = i if d < before else other
        if d == before:
            chosen = i if _before(axes, i, other) else other
        index[at] = chosen
        nearest[at] = min(d, before)
    for k in range(len(nearest)):
        nearest[k] = nearest[k] if nearest[k] < _FARTHEST else _ZERO


@compiled_within
def _before(axes: NDArray[np.float32], i: int, j: int) -> bool:
    """An order of equally near points that does not depend on theirs in the cloud."""
    for k in (2, 0, 1):
        if axes[k, i] != axes[k, j]:
            return bool(axes[k, i] < axes[k, j])
    return False


# Numbers are copied as integers, which takes fewer steps.


@compiled
def _copy_by_cells(axes: NDArray[np.float32], index: NDArray[np.int32], corners: NDArray[np.float32]) -> None:
    """Coordinates of each cell's point, where neighbouring cells have neighbouring points."""
    of_points, of_cells = axes.view(np.int32), corners.view(np.int32)
    x, y, z, xs, ys, zs = of_points[0], of_points[1], of_points[2], of_cells[0], of_cells[1], of_cells[2]
    for k in range(len(index)):
        j = np.uint32(max(index[k], np.int32(0)))
        xs[k], ys[k], zs[k] = x[j], y[j], z[j]


@compiled
def _copy_by_points(
    axes: NDArray[np.float32], cell: NDArray[np.int32], index: NDArray[np.int32], corners: NDArray[np.float32]
) -> None:
    """The same in half the time for clouds that come firing by firing: the points' memory is read in its order."""
    of_points, of_cells = axes.view(np.int32), corners.view(np.int32)
    x, y, z, xs, ys, zs = of_points[0], of_points[1], of_points[2], of_cells[0], of_cells[1], of_cells[2]
    for i in range(len(cell)):  # what is no measurement copies the first cell's again
        k = np.uint32(max(cell[i], np.int32(0)))
        j = np.uint32(max(index[k], np.int32(0)))
        xs[k], ys[k], zs[k] = x[j], y[j], z[j]
