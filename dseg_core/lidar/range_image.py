"""A sweep as an image of ranges: rows are beams from top to bottom, columns are azimuths clockwise from behind."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from dseg_core.records import Sweep

_MOST_ROWS = 512
_FEWEST_PER_ROW = 16


@dataclass(frozen=True, eq=False)
class Rows:
    """The beam of every point.

    `row`: int32 (N,), 0 is the top beam. `elevation`: float32 (R,), median elevation of each beam [rad], falling.
    """

    row: NDArray[np.int32]
    elevation: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.elevation)


@dataclass(frozen=True, eq=False)
class RangeImage:
    """`index`: int32 (R, C), nearest point of each cell, -1 where there is none. `column`: int32 (N,) of each point."""

    index: NDArray[np.int32]
    column: NDArray[np.int32]
    rows: Rows


def rows_of(sweep: Sweep) -> Rows | None:
    """Beams of a sweep: from its rings, its organised rows, or the order of its points; None for scanners without.

    Points that come beam by beam, as in KITTI's files, start a new beam where the azimuth jumps back over its start.
    """
    if sweep.ring is not None:
        return _sorted_rows(sweep.ring.astype(np.int64), sweep.xyz)
    if sweep.rows > 1 and len(sweep) % sweep.rows == 0:
        return _sorted_rows(np.repeat(np.arange(sweep.rows), len(sweep) // sweep.rows), sweep.xyz)
    return _rows_from_order(sweep.xyz)


def range_image(xyz: NDArray[np.float32], rows: Rows, columns: int) -> RangeImage:
    """Sort points into cells; where several fall into one, the nearest stands for it.

    Args:
        xyz: float32 (N, 3), metres, LiDAR frame.
        rows: The beam of every point.
        columns: Cells per turn.
    """
    index, column = _fill(xyz, rows.row, len(rows), columns)
    return RangeImage(index, column, rows)


def azimuth_step(xyz: NDArray[np.float32], rows: Rows) -> float:
    """The angle between neighbouring points of one beam: the median over all beams [rad]."""
    order = np.lexsort((np.arctan2(xyz[:, 1], xyz[:, 0]), rows.row))
    azimuth = np.arctan2(xyz[order, 1], xyz[order, 0])
    same = np.diff(rows.row[order]) == 0
    steps = np.diff(azimuth)[same]
    steps = steps[steps > 1e-5]
    return float(np.median(steps)) if len(steps) else np.deg2rad(0.2)


def _sorted_rows(labels: NDArray[np.int64], xyz: NDArray[np.float32]) -> Rows | None:
    """Beams from any numbering, sorted from top to bottom by their median elevation."""
    found, label = np.unique(labels, return_inverse=True)
    if not 2 <= len(found) <= _MOST_ROWS:
        return None
    elevation = np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1]))
    order = np.lexsort((elevation, label))
    start = np.searchsorted(label[order], np.arange(len(found) + 1))
    middle = elevation[order][(start[:-1] + start[1:] - 1) // 2]  # medians
    rank = np.argsort(-middle, kind="stable")
    place = np.empty(len(found), dtype=np.int32)
    place[rank] = np.arange(len(found), dtype=np.int32)
    return Rows(place[label.reshape(-1)], middle[rank].astype(np.float32))


def _rows_from_order(xyz: NDArray[np.float32]) -> Rows | None:
    if len(xyz) < 2 * _FEWEST_PER_ROW:
        return None
    turn = (np.arctan2(xyz[:, 1], xyz[:, 0]) / (2 * np.pi)) % 1.0
    step = np.diff(turn)
    breaks = np.abs(step) > 0.6
    # Forwards or backwards round the turn: each beam ends with one jump the other way.
    forward = (step[~breaks] > 0).mean() if (~breaks).any() else 0.0
    if 0.1 < forward < 0.9:
        return None
    labels = np.concatenate([[0], np.cumsum((step < -0.6) if forward > 0.5 else (step > 0.6))])
    counts = np.bincount(labels)
    if len(counts) < 2 or np.median(counts) < _FEWEST_PER_ROW:
        return None
    return _sorted_rows(labels, xyz) if _is_smooth(labels, xyz) else None


def _is_smooth(labels: NDArray[np.int64], xyz: NDArray[np.float32]) -> bool:
    """Whether elevation hardly changes from point to point of a beam, as it does in any other order of points.

    Not whether it is the same all round: in motion-compensated or tilted sweeps it drifts by degrees over a turn.
    """
    elevation = np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1]))
    change = np.abs(np.diff(elevation))[np.diff(labels) == 0]
    return bool(np.quantile(change, 0.9) < np.deg2rad(0.3))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _fill(
    xyz: NDArray[np.float32], row: NDArray[np.int32], rows: int, columns: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    index = np.full((rows, columns), -1, dtype=np.int32)
    column = np.empty(len(xyz), dtype=np.int32)
    scale = columns / (2 * np.pi)
    for i in range(len(xyz)):
        c = int((np.pi - np.arctan2(xyz[i, 1], xyz[i, 0])) * scale)
        c = min(max(c, 0), columns - 1)
        column[i] = c
        other = index[row[i], c]
        if other >= 0:
            near = xyz[i, 0] ** 2 + xyz[i, 1] ** 2 + xyz[i, 2] ** 2
            if near >= xyz[other, 0] ** 2 + xyz[other, 1] ** 2 + xyz[other, 2] ** 2:
                continue
        index[row[i], c] = i
    return index, column
