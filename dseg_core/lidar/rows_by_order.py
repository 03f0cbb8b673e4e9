"""Beams of a cloud that names none: from the order of its points, or heaps of elevations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled
from dseg_core.lidar.points import Points
from dseg_core.lidar.scratch import Scratch

FEWEST_ROWS, MOST_ROWS = 2, 512
_FEWEST_PER_ROW = 16
_BLOCK = 256  # points

# In single precision, and a loop without branches: it runs with vector instructions.
_ZERO, _HALF, _TURN = np.array([0.0, np.pi, 2 * np.pi], dtype=np.float32)
_JUMP = np.float32(1.2 * np.pi)  # of the azimuth, where a beam starts
_BACK = np.float32(np.deg2rad(20))  # the least way back to where the next beam starts, of what sees less than a turn
_LEVEL = 0.2  # of the usual step from beam to beam: the nearest ones lie 0.4 of it apart
_STEADY = np.float32(np.tan(np.deg2rad(0.3)))  # change of a beam's elevation from point to point, as a tangent

_scratch = Scratch()


def rows_by_turns(points: Points) -> NDArray[np.int32]:
    """Beams of a cloud stored beam after beam: the azimuth starts anew once per beam; empty for other orders.

    Elevation must hardly change from point to point of a beam, as it does in any other order; not be the same all
    round: in motion-compensated or tilted sweeps it drifts by degrees over a turn.
    """
    measured = np.flatnonzero(points.distance) if points.measured < len(points) else None
    azimuth, tangent = points.azimuth, points.tangent
    if measured is not None:
        azimuth, tangent = azimuth[measured], tangent[measured]
    labels, leaps = _scratch.take("turns", len(azimuth), np.int32), np.zeros(len(azimuth) // _BLOCK + 1, np.int32)
    if not _turns(azimuth, tangent, leaps, labels):
        return np.zeros(0, np.int32)
    if _level_where_cut(tangent, labels):  # beams begin elsewhere: each would be halves of two
        from_start, other = _from_start(azimuth, tangent, int(labels[-1])), np.empty_like(labels)
        if _turns(from_start, tangent, leaps, other) and not _level_where_cut(tangent, other):
            labels = other
    if measured is None:
        return labels
    spread = np.zeros(len(points), np.int32)
    spread[measured] = labels
    return spread


@compiled
def _level_where_cut(tangent: NDArray[np.float32], labels: NDArray[np.int32]) -> bool:
    """Whether elevations hardly change from the end of one beam to the start of the next, as they do within a beam."""
    beams = np.int64(labels[-1]) + 1
    starts = np.empty(beams, np.int64)
    for beam in range(1, beams):
        before, start = 0, len(labels) - 1  # the first point of this beam is behind the one, and not behind the other
        while start - before > 1:
            middle = (before + start) // 2
            before, start = (middle, start) if labels[middle] < beam else (before, middle)
        starts[beam] = start
    lowest, highest = tangent[0], tangent[0]
    for beam in range(1, beams):
        lowest, highest = min(lowest, tangent[starts[beam]]), max(highest, tangent[starts[beam]])
    level = 0
    for beam in range(1, beams):
        level += abs(tangent[starts[beam]] - tangent[starts[beam] - 1]) < _LEVEL * (highest - lowest) / beams
    return bool(2 * level > beams - 1)


def _from_start(azimuth: NDArray[np.float32], tangent: NDArray[np.float32], beams: int) -> NDArray[np.float32]:
    """Azimuths (N,) from half a step before where most beams begin, 0..2 pi: elevations leap there."""
    starts = np.exp(1j * azimuth[1:][np.argsort(np.abs(np.diff(tangent)))[-beams:]].astype(np.float64))
    middle = starts.mean()
    start = np.angle(middle) + np.median(np.angle(starts * np.conj(middle)))
    half_step = np.median(np.diff(azimuth)) / 2
    return np.asarray(np.mod(azimuth - start + half_step, 2 * np.pi), dtype=np.float32)


@compiled
def _turns(
    azimuth: NDArray[np.float32], tangent: NDArray[np.float32], leaps: NDArray[np.int32], labels: NDArray[np.int32]
) -> bool:
    """Number the turns of measured points, or their sweeps of less, each of which begins anew; False for others.

    Points are numbered one by one only in blocks in which the azimuth leaps: that is where beams begin. `leaps`: int32,
    of each block, is filled.
    """
    points = forwards = backwards = steady = leaps_up = leaps_down = seams = np.int32(0)
    for b in range(len(leaps)):
        first, end, before = max(b * _BLOCK, 1), min((b + 1) * _BLOCK, len(azimuth)), seams + leaps_up + leaps_down
        here, last = azimuth[first:end], azimuth[first - 1 : end - 1]
        rise, slopes = tangent[first:end], tangent[first - 1 : end - 1]
        for i in range(len(here)):
            step, slope = here[i] - last[i], slopes[i]
            within = abs(step) < _HALF
            points += np.int32(within)
            forwards += np.int32(within & (step > _ZERO))
            backwards += np.int32(within & (step < _ZERO))
            steady += np.int32(within & (abs(rise[i] - slope) < _STEADY + _STEADY * slope * slope))
            way = step - _TURN * np.float32(step > _HALF) + _TURN * np.float32(step < -_HALF)
            leaps_up += np.int32(way > _BACK)
            leaps_down += np.int32(way < -_BACK)
            seams += np.int32((abs(step) > _JUMP) & (abs(way) <= _BACK))
        leaps[b] = seams + leaps_up + leaps_down - before
    if steady < 0.9 * points or max(forwards, backwards) < 0.9 * (forwards + backwards):
        return False
    against = np.float32(-1.0) if forwards > backwards else np.float32(1.0)
    back = leaps_down if forwards > backwards else leaps_up
    returns = back > 0 and back >= seams - 1  # that end a beam: the azimuth's seam is in the middle of what looks ahead
    row, start = np.int32(0), 0
    for b in range(len(leaps)):
        first, end = b * _BLOCK, min((b + 1) * _BLOCK, len(azimuth))
        if leaps[b] == 0:
            labels[first:end] = row
            continue
        for i in range(first, end):
            if i - start >= _FEWEST_PER_ROW:
                step = azimuth[i] - azimuth[i - 1]
                way = step - _TURN * np.float32(step > _HALF) + _TURN * np.float32(step < -_HALF)
                if (against * way > _BACK) if returns else (abs(step) > _JUMP):
                    row, start = row + np.int32(1), i
            labels[i] = row
    return bool(FEWEST_ROWS <= row + 1 <= MOST_ROWS)


def rows_by_elevation(points: Points) -> NDArray[np.int32]:
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
    if not 4 <= len(starts) <= MOST_ROWS:
        return none
    widths, gaps = ends - starts, starts[1:] - ends[:-1]
    narrow = widths <= np.median(gaps)
    held = sum(int(histogram[a:b].sum()) for a, b in zip(starts[narrow], ends[narrow], strict=True))
    if held < 0.95 * histogram.sum():
        return none
    middles = (starts + ends - 1) / 2
    return np.asarray(np.searchsorted((middles[1:] + middles[:-1]) / 2, bins), dtype=np.int32)
