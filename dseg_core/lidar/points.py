"""A cloud in the form that fast loops need: each axis in one piece of memory, and polar coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled
from dseg_core.lidar.scratch import Scratch

NEAREST, FARTHEST = 0.3, 1e4
"""Metres between which points are measurements. No LiDAR sees nearer; drivers put misses there."""

# In single precision throughout: one double among them would make all of it double, and half as fast. And without
# branches, which keep a loop from being done sixteen points at a time.
_A1, _A3, _A5, _A7, _A9, _A11 = np.array(
    [0.99997726, -0.33262347, 0.19354346, -0.11643287, 0.05265332, -0.0117212], dtype=np.float32
)
_QUARTER, _HALF, _TURN = np.array([0.5 * np.pi, np.pi, 2 * np.pi], dtype=np.float32)
_ZERO, _AXIS, _NEAR_SQUARE, _FAR_SQUARE = np.array([0.0, 1e-6, NEAREST**2, FARTHEST**2], dtype=np.float32)

_scratch = Scratch()


@dataclass(frozen=True, eq=False)
class Points:
    """A cloud, taken apart. Its memory is used anew for the thread's next cloud.

    `axes`: float32 (3, N), x, y and z, metres, each in one piece of memory: loops over them use the processor's vector
    instructions, over (N, 3) they cannot. `azimuth`: float32 (N,), 0..2 pi, counter-clockwise from x [rad]. `distance`:
    float32 (N,), metres from the sensor, 0 where there is no measurement (NaN, infinite, at the sensor itself).
    `planar`: float32 (N,), the same in the plane. `tangent`: float32 (N,), of the elevation. `measured`: how many
    points are measurements.
    """

    axes: NDArray[np.float32]
    azimuth: NDArray[np.float32]
    distance: NDArray[np.float32]
    planar: NDArray[np.float32]
    tangent: NDArray[np.float32]
    measured: int

    def __len__(self) -> int:
        return len(self.azimuth)


def points_of(xyz: NDArray[np.float32]) -> Points:
    """Take a cloud, float32 (N, 3), metres, LiDAR frame, apart."""
    parts = _scratch.take("parts", (7, len(xyz)), np.float32)
    measured = _take_apart(np.require(xyz, np.float32, ["C", "W"]), parts)
    return Points(parts[:3], parts[3], parts[4], parts[5], parts[6], measured)


@compiled
def _take_apart(xyz: NDArray[np.float32], parts: NDArray[np.float32]) -> int:
    """Fill axes, azimuth (to 2e-5 rad), distance, planar distance and tangent, float32 (7, N).

    Two loops: one would have too many arrays for vector instructions. Nor may it hold anything of 64 bits, which would
    halve how many points they do at a time; numba adds integers in 64 bits unless told that the sum is one of 32.
    """
    flat = xyz.reshape(-1)  # of whose indices the compiler sees that they are neighbours
    xs, ys, zs, azimuth, distance, planar, tangent = (
        parts[0],
        parts[1],
        parts[2],
        parts[3],
        parts[4],
        parts[5],
        parts[6],
    )
    for i in range(len(xs)):
        xs[i], ys[i], zs[i] = flat[3 * i], flat[3 * i + 1], flat[3 * i + 2]
    count = np.int32(0)
    for i in range(len(xs)):
        x, y, z = xs[i], ys[i], zs[i]
        level = x * x + y * y
        square = level + z * z
        measured = (square > _NEAR_SQUARE) & (square < _FAR_SQUARE) & (level > _AXIS)  # refuses NaN, too
        a, b = abs(x), abs(y)
        t = min(a, b) / max(a, b)
        s = t * t
        r = t * (_A1 + s * (_A3 + s * (_A5 + s * (_A7 + s * (_A9 + s * _A11)))))
        r = _QUARTER - r if b > a else r
        r = _HALF - r if x < _ZERO else r
        r = _TURN - r if y < _ZERO else r
        azimuth[i] = r if measured else _ZERO
        distance[i] = np.sqrt(square) if measured else _ZERO
        d = np.sqrt(level)
        planar[i] = d if measured else _ZERO
        tangent[i] = z / d if measured else _ZERO
        count = np.int32(count + measured)
    return int(count)
