"""A polar grid around the sensor, and in which of its cells points lie."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled
from dseg_core.lidar.points import Points
from dseg_core.lidar.scratch import Scratch

SECTORS = 180
REACH, FAR_REACH = 120.0, 240.0
"""Metres that the grid covers, and where points are farther."""

_NARROW, _WIDER = 1.0, 0.06  # metres, and per metre of distance: how wide bins are
_PER_METRE = np.float32(4)  # bins are found for planar distances in steps of so many a metre
_NARROW_STEPS, _STEPS_OF_NARROW = np.int32(68), np.int32(2)  # and a power of two
# The number of the wider bins, by the fourth root of the steps: tested for each step, so the edges tell these.
_C0, _C1, _C2, _C3, _C4 = np.array([-107.79286, 72.39006, -13.970761, 1.5633048, -0.072367564], dtype=np.float32)

# In single precision, so that the loop over points, which has no branches, runs with vector instructions.
_SECTORS, _LAST = np.int32(SECTORS), np.int32(SECTORS - 1)
_ROUND = np.float32(SECTORS / (2 * np.pi))
_ZERO, _HALF, _REACH, _FARTHEST = np.array([0.0, 0.5, REACH, FAR_REACH], dtype=np.float32)
_NOWHERE = np.int32(-1)

_scratch = Scratch()


def _edges(reach: float) -> NDArray[np.float64]:
    edges = [0.0]
    while edges[-1] < reach:
        edges.append(edges[-1] + max(_NARROW, _WIDER * edges[-1]))
    return np.array(edges)


_EDGES, _FAR_EDGES = _edges(REACH), _edges(FAR_REACH)


class PolarGrid(NamedTuple):
    """Each point's cell, int32 (N,), bin * sectors + sector, -1 for none.

    `edges`: float64 (bins + 1,), planar distances between bins, metres.
    """

    place: NDArray[np.int32]
    edges: NDArray[np.float64]


def polar_grid(points: Points) -> PolarGrid:
    """Where points lie on the polar grid. Its memory is used anew for the thread's next cloud."""
    place = _scratch.take("place", len(points), np.int32)
    is_far = _places(points.azimuth, points.planar, place)
    return PolarGrid(place, _FAR_EDGES if is_far else _EDGES)  # else bins would be grown over for nothing


@compiled
def _places(azimuth: NDArray[np.float32], planar: NDArray[np.float32], place: NDArray[np.int32]) -> bool:
    """Cell of the polar grid, bin * sectors + sector; -1 without a measurement or beyond. Tells whether any is far."""
    far = np.int32(0)
    for i in range(len(planar)):  # a loop of its own: together they do not run with vector instructions
        far += np.int32(planar[i] >= _REACH)
    for i in range(len(place)):
        inside = (planar[i] > _ZERO) & (planar[i] < _FARTHEST)
        step = np.int32((planar[i] if inside else _ZERO) * _PER_METRE)
        root = np.sqrt(np.sqrt(np.float32(step) + _HALF))
        wide = np.int32(_C0 + root * (_C1 + root * (_C2 + root * (_C3 + root * _C4))))
        b = step >> _STEPS_OF_NARROW if step < _NARROW_STEPS else wide
        sector = min(np.int32(azimuth[i] * _ROUND), _LAST)
        place[i] = b * _SECTORS + sector if inside else _NOWHERE
    return bool(far > 0)
