"""Beams of a cloud that names none: from the order of its points, or heaps of elevations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.points import Points
from dseg_core.lidar.scratch import Scratch

FEWEST_ROWS, MOST_ROWS = 2, 512
_FEWEST_PER_ROW = 16
_BLOCK = 128  # points
_SAMPLE = 100  # blocks: 12 800 points, of which a tenth more or less cannot be chance

# In single precision, and loops without branches: they run with vector instructions.
_ZERO, _HALF, _TURN = np.array([0.0, np.pi, 2 * np.pi], dtype=np.float32)
_JUMP = np.float32(1.2 * np.pi)  # of the azimuth, where a beam starts
_BACK = np.float32(np.deg2rad(20))  # the least way back to where the next beam starts, of what sees less than a turn
_ROUND = np.float32(np.deg2rad(340))  # of a beam that goes round
_LEVEL = 0.2  # of the usual step from beam to beam: the nearest ones lie 0.4 of it apart
_STEADY = np.float32(np.tan(np.deg2rad(0.3)))  # change of a beam's elevation from point to point, as a tangent

_STRAY = 16  # leaps, of azimuth and elevation both, with no beam's points between them: those of no beam
_APART = np.float32(np.tan(np.deg2rad(1.0)))  # change of elevation, as a tangent, that none has along a beam
_MOST_STRAYS = 64  # runs of them

_LEVEL_UP, _BINS = np.array([np.pi / 2, 1 / np.deg2rad(0.02)], dtype=np.float32)  # from straight down; a radian's

_scratch = Scratch()


def rows_by_turns(points: Points) -> tuple[NDArray[np.int32], NDArray[np.bool_] | None]:
    """Beams of a cloud stored beam after beam: the azimuth starts anew once per beam.

    Elevation must hardly change from point to point of a beam, as it does in any other order; not be the same all
    round: in motion-compensated or tilted sweeps it drifts by degrees over a turn. Points that others have put before,
    behind or between beams, in no order, as those of the vehicle, are left out.

    Returns:
        int32 (B + 1,), the first point of each beam, and how many points there are; empty for other orders. Which
        points are of no beam, bool (N,); None where all are of one.
    """
    starts, spans = _beams_and_strays(points, np.empty((_MOST_STRAYS, 2), np.int32))
    if not len(spans):
        return starts, None
    stray = np.zeros(len(points), np.bool_)
    for first, end in spans:
        stray[first:end] = True
    return _beams_and_strays(without(points, stray), np.empty((0, 2), np.int32))[0], stray


def without(points: Points, stray: NDArray[np.bool_]) -> Points:
    """The same points, of which some, (N,), are no measurements."""
    distance, azimuth, tangent = (
        np.where(stray, _ZERO, values) for values in (points.distance, points.azimuth, points.tangent)
    )
    measured = int(np.count_nonzero(distance))
    return replace(points, distance=distance, azimuth=azimuth, tangent=tangent, measured=measured)


def _beams_and_strays(points: Points, spans: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The beams of `rows_by_turns`, or where runs of strays begin and end, which are to be left out first.

    `spans`: int32 (S, 2), is filled; strays are not sought where it has no place.
    """
    azimuth, tangent, which = points.azimuth, points.tangent, None
    if points.measured < len(points):
        azimuth, tangent = (_scratch.take(name, len(points), np.float32) for name in ("azimuth", "tangent"))
        which = _scratch.take("which", len(points), np.int32)
        _keep_measured(points.azimuth, points.tangent, points.distance, azimuth, tangent, which)
        azimuth, tangent = azimuth[: points.measured], tangent[: points.measured]
    starts, strays = _starts(azimuth, tangent, spans)
    if strays:
        spans = spans[:strays]
        if which is not None:
            spans = np.stack([which[spans[:, 0]], which[spans[:, 1] - 1] + 1], axis=1)
        return starts, spans
    if len(starts) and _level_where_cut(tangent, starts):  # beams begin elsewhere: each would be halves of two
        other, _ = _starts(_from_start(azimuth, tangent, len(starts) - 2), tangent, spans[:0])
        if len(other) and not _level_where_cut(tangent, other):
            starts = other
    if which is not None and len(starts):
        starts[1:-1], starts[-1] = which[starts[1:-1]], len(points)
    return starts, spans[:0]


def _starts(
    azimuth: NDArray[np.float32], tangent: NDArray[np.float32], spans: NDArray[np.int32]
) -> tuple[NDArray[np.int32], int]:
    """Of `_beams_and_strays`, where all points are measurements; how many spans are filled."""
    leaps, starts = _scratch.take("leaps", len(azimuth), np.int32), np.empty(MOST_ROWS + 1, np.int32)
    beams, strays = _turns(azimuth, tangent, leaps, starts, spans)
    return starts[: beams + 1 if beams else 0], strays


@compiled
def _level_where_cut(tangent: NDArray[np.float32], starts: NDArray[np.int32]) -> bool:
    """Whether elevations hardly change from the end of one beam to the start of the next, as they do within a beam."""
    beams, lowest, highest = len(starts) - 1, tangent[0], tangent[0]
    for beam in range(1, beams):
        lowest, highest = min(lowest, tangent[starts[beam]]), max(highest, tangent[starts[beam]])
    level = 0
    for beam in range(1, beams):
        level += abs(tangent[starts[beam]] - tangent[starts[beam] - 1]) < _LEVEL * (highest - lowest) / beams
    return bool(2 * level > beams - 1)


@compiled
def _keep_measured(
    azimuth: NDArray[np.float32],
    tangent: NDArray[np.float32],
    distance: NDArray[np.float32],
    azimuths: NDArray[np.float32],
    tangents: NDArray[np.float32],
    which: NDArray[np.int32],
) -> None:
    """Copy what is measured to the front of three arrays of as many points, and which points these are."""
    count = 0
    for i in range(len(distance)):  # without branches; what is no measurement is written over
        k = np.uint32(count)
        azimuths[k], tangents[k], which[k] = azimuth[i], tangent[i], i
        count += distance[i] > _ZERO


def _from_start(azimuth: NDArray[np.float32], tangent: NDArray[np.float32], beams: int) -> NDArray[np.float32]:
    """Azimuths (N,) from half a step before where most beams begin, 0..2 pi: elevations leap there."""
    largest = np.argpartition(np.abs(np.diff(tangent)), -beams)[-beams:]
    starts = np.exp(1j * azimuth[1:][largest].astype(np.float64))
    middle = starts.mean()
    start = np.angle(middle) + np.median(np.angle(starts * np.conj(middle)))
    half_step = np.median(np.diff(azimuth)[:: max(len(azimuth) // 4000, 1)]) / 2  # of a sample
    turned = azimuth - np.float32(start - half_step)
    turned += _TURN * (turned < _ZERO)
    turned -= _TURN * (turned >= _TURN)
    return np.asarray(turned)


@compiled
def _turns(
    azimuth: NDArray[np.float32],
    tangent: NDArray[np.float32],
    leaps: NDArray[np.int32],
    starts: NDArray[np.int32],
    spans: NDArray[np.int32],
) -> tuple[int, int]:
    """Find where measured points begin a turn, or a sweep of less; how many there are is returned, 0 for other orders.

    `leaps`: int32 (N,), is filled with the points before which the azimuth leaps. They are sought one by one only in
    blocks that have any. `starts`: int32 (MOST_ROWS + 1,), is filled as `rows_by_turns` returns it. `spans`: see
    `_strays`, of which the number is returned as well; where there are any, beams are not sought.
    """
    against = _against(azimuth, tangent)
    if against == _ZERO:
        return 0, 0
    found = 0
    for b in range(len(azimuth) // _BLOCK + 1):
        first, end, far = max(b * _BLOCK, 1), min((b + 1) * _BLOCK, len(azimuth)), np.int32(0)
        here, last = azimuth[first:end], azimuth[first - 1 : end - 1]
        for i in range(len(here)):
            far = np.int32(far + (abs(here[i] - last[i]) > _BACK))
        if far > 0:
            for i in range(len(here)):
                if abs(here[i] - last[i]) > _BACK:
                    leaps[found] = first + i
                    found += 1
    strays = _strays(tangent, leaps[:found], spans)
    if strays > 0:
        return 0, strays
    leaps_up = leaps_down = seams = 0
    for k in range(found):
        step, way = _step_and_way(azimuth, leaps[k])
        leaps_up += int(way > _BACK)
        leaps_down += int(way < -_BACK)
        seams += int(abs(step) > _JUMP and abs(way) <= _BACK)
    back = leaps_down if against < _ZERO else leaps_up
    returns = back > 0 and back >= seams - 1  # that end a beam: the azimuth's seam is in the middle of what looks ahead
    beams, starts[0], crossed = 1, 0, np.float32(0.0)
    for k in range(found):
        if leaps[k] - starts[beams - 1] >= _FEWEST_PER_ROW:
            step, way = _step_and_way(azimuth, leaps[k])
            ends, is_seam = against * way > _BACK, abs(step) > _JUMP and abs(way) <= _BACK
            if is_seam:  # where some beams see a part of the turn only, others go round: these end at the seam
                crossed += _TURN
                first = azimuth[starts[beams - 1] + _FEWEST_PER_ROW - 1]  # surely on this side of the seam
                ends = crossed + against * (first - azimuth[leaps[k]]) > _ROUND
            if ends if returns else (abs(step) > _JUMP):
                if beams == MOST_ROWS:
                    return 0, 0
                starts[beams], crossed = leaps[k], np.float32(0.0)
                beams += 1
    starts[beams] = len(azimuth)
    if returns and 2 * beams < seams:  # a beam crosses the seam once: these are several in one
        return 0, 0
    return (beams if beams >= FEWEST_ROWS else 0), 0


@compiled_within
def _strays(tangent: NDArray[np.float32], leaps: NDArray[np.int32], spans: NDArray[np.int32]) -> int:
    """Runs of points in no order: leap after leap, of the elevation as well, with no place for a beam in between.

    Returns:
        How many there are. `spans`: int32 (S, 2), is filled with their first points and those behind their last.
    """
    count, first = 0, 0
    for k in range(1, len(leaps) + 1):
        if k < len(leaps) and leaps[k] - leaps[k - 1] <= _FEWEST_PER_ROW:
            continue
        if k - first >= _STRAY and count < len(spans):
            uneven = 0
            for j in range(first, k):
                t = tangent[leaps[j]]
                uneven += abs(t - tangent[leaps[j] - 1]) > _APART * (np.float32(1.0) + t * t)
            if uneven >= _STRAY and 2 * uneven > k - first:
                begin, end = leaps[first], leaps[k - 1]
                spans[count, 0] = begin if begin > _FEWEST_PER_ROW else 0
                spans[count, 1] = end if len(tangent) - end > _FEWEST_PER_ROW else len(tangent)
                count += 1
        first = k
    return count


@compiled_within
def _step_and_way(azimuth: NDArray[np.float32], i: int) -> tuple[np.float32, np.float32]:
    """The step of the azimuth to a point, and the shorter way round."""
    step = azimuth[i] - azimuth[i - 1]
    return step, step - _TURN * np.float32(step > _HALF) + _TURN * np.float32(step < -_HALF)


@compiled_within
def _against(azimuth: NDArray[np.float32], tangent: NDArray[np.float32]) -> np.float32:
    """Against which way the azimuth goes, -1 or 1; 0 where it goes either way, or where elevations are not steady.

    A sample of blocks tells. Counts are of 32 bits, as all else in the loop.
    """
    points = forwards = backwards = steady = np.int32(0)
    blocks = len(azimuth) // _BLOCK + 1
    for b in range(0, blocks, (blocks // _SAMPLE) | 1):  # odd: not always the same part of a turn
        first, end = max(b * _BLOCK, 1), min((b + 1) * _BLOCK, len(azimuth))
        here, last = azimuth[first:end], azimuth[first - 1 : end - 1]
        rise, slopes = tangent[first:end], tangent[first - 1 : end - 1]
        for i in range(len(here)):
            step, slope = here[i] - last[i], slopes[i]
            within = abs(step) < _HALF
            points = np.int32(points + within)
            forwards = np.int32(forwards + (within & (step > _ZERO)))
            backwards = np.int32(backwards + (within & (step < _ZERO)))
            steady = np.int32(steady + (within & (abs(rise[i] - slope) < _STEADY + _STEADY * slope * slope)))
    if steady < 0.9 * points or max(forwards, backwards) < 0.9 * (forwards + backwards):
        return np.float32(0.0)
    return np.float32(-1.0) if forwards > backwards else np.float32(1.0)


def rows_by_elevation(points: Points) -> NDArray[np.int32]:
    """Beams of a cloud in any order whose elevations gather in narrow, well parted heaps; else empty."""
    none = np.zeros(0, dtype=np.int32)
    if points.measured < 100:
        return none
    bins = ((np.arctan(points.tangent) + _LEVEL_UP) * _BINS).astype(np.int32)
    histogram = np.bincount(bins, minlength=int(np.pi * _BINS) + 2)
    histogram[int(_LEVEL_UP * _BINS)] -= len(points) - points.measured  # of what is no measurement, the tangent is 0
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
    beam = np.searchsorted((middles[1:] + middles[:-1]) / 2, np.arange(len(histogram))).astype(np.int32)
    return np.asarray(beam[bins])
