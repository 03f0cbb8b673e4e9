"""The angle between neighbouring points of a beam."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled
from dseg_core.lidar.scratch import Scratch

_ZERO, _NO_STEP = np.array([0.0, 5e-4], dtype=np.float32)  # second returns and duplicates are no step
_HALF, _TURN, _TWICE = np.array([np.pi, 2 * np.pi, 3 * np.pi], dtype=np.float32)  # 1.5 turns are nearer to two
_AGAINST = 0.1
_IF_NONE = float(np.deg2rad(0.2))

_scratch = Scratch()


def usual_step(azimuth: NDArray[np.float32]) -> tuple[float, bool]:
    """The angle between neighbouring points of a beam [rad]: the median; and whether they go round once, roughly."""
    steps = _scratch.take("steps", len(azimuth), np.float32)
    step = _median_step(azimuth, steps)
    if step >= 0:
        return step, True
    return _median_step(np.sort(azimuth), steps), _once(azimuth)


@compiled
def _once(azimuth: NDArray[np.float32]) -> bool:
    """Whether points go round once: less than twice in all, and hardly any against the way of most.

    Some are at any azimuth: points near the sensor, beside which a laser shines.
    """
    way, ups, downs = _ZERO, 0, 0
    for i in range(1, len(azimuth)):
        step = azimuth[i] - azimuth[i - 1]
        step -= _TURN * np.float32(step > _HALF) - _TURN * np.float32(step < -_HALF)
        way += step
        ups += step > _ZERO
        downs += step < _ZERO
    return bool(abs(way) < _TWICE and min(ups, downs) <= _AGAINST * len(azimuth))


@compiled
def _median_step(azimuth: NDArray[np.float32], steps: NDArray[np.float32]) -> float:
    """Median of the steps from each azimuth to the next larger, in any order of turning; below 0 for other orders.

    `steps`: float32 (M,), is filled. Nothing is sorted: how many steps are smaller than some number is counted until
    that is the median. Loops with vector instructions do it, and no branch is guessed wrong.
    """
    n = len(azimuth) - 1
    ups = downs = np.int32(0)
    for i in range(n):
        step = azimuth[np.uint32(i + 1)] - azimuth[i]
        steps[i] = abs(step)
        ups = np.int32(ups + (step > _ZERO))
        downs = np.int32(downs + (step < _ZERO))
    if min(ups, downs) > 0:  # the turn's seam, and nothing else
        forwards = downs == 1
        across = azimuth[0] - azimuth[n] if forwards else azimuth[n] - azimuth[0]
        if min(ups, downs) > 1 or across < _ZERO:
            return -1.0
        for i in range(n):
            step = azimuth[i + 1] - azimuth[i]
            if (step < _ZERO) if forwards else (step > _ZERO):
                steps[i] = across
    bits, small = steps.view(np.int32), np.int32(0)  # of numbers of which none is negative: they have the same order
    for i in range(n):
        small = np.int32(small + (steps[i] <= _NO_STEP))
    large, both = n - small, 0.0
    if large < 1:
        return _IF_NONE
    for half in range(2):  # the two in the middle, which may be one
        rank, below, found = small + (large - 1 + half) // 2, np.int64(-1), np.int64(2**31 - 1)
        while found - below > 1:
            middle, count = np.int32((below + found) // 2), np.int32(0)
            for i in range(n):
                count = np.int32(count + (bits[i] <= middle))
            below, found = (below, np.int64(middle)) if count > rank else (np.int64(middle), found)
        both += np.float64(np.int32(found).view(np.float32))
    return both / 2
