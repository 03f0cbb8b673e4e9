"""What points are, ground, objects or noise, by how high they lie over the field of the ground's heights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.points import Points
from dseg_core.lidar.scratch import Scratch

NONE, GROUND, OBJECT, HIGH = 0, 1, 2, 3

# In single precision, as the points are.
_ZERO, _MIDDLE, _ONE = np.array([0.0, 0.5, 1.0], dtype=np.float32)
_UNDER, _UNDER_FAR, _RISE, _RISE_FROM = np.array([-0.5, 0.02, 0.002, 20.0], dtype=np.float32)
_HEADS = np.float32(2.0)
_ASIDE = 0.25  # metres by which a point may be outside of its bin, since the table of bins has steps
_BLOCK = 4096
_SLACK, _SLACK_PER_METRE = 1e-3, 1e-6  # of levels, many times what single precision rounds off

_scratch = Scratch()


def kind_from_field(
    points: Points,
    planar: NDArray[np.float32],
    place: NDArray[np.int32],
    is_flat: NDArray[np.bool_],
    height: NDArray[np.float64],
    edges: NDArray[np.float64],
    kerb: float,
) -> NDArray[np.uint8]:
    """Ground lies near the field, interpolated between its cells; flat points may be higher: kerbs are flat on top.

    Interpolation is needed for one point of fifteen only: no interpolated height is beyond those of the cells around,
    and most points lie higher or lower than makes a difference.

    Args:
        points: The cloud.
        planar: float32 (N,), distance on the ground, metres, negative without a measurement.
        place: int32 (N,), cell of the field, sector * bins + bin; -1 beyond it.
        is_flat: bool (N,).
        height: float64 (sectors, bins), metres.
        edges: float64 (bins + 1,), planar distance between bins, metres.
        kerb: How far flat points may lie above the field, metres; other points half as far.

    Returns:
        uint8 (N,): NONE (no measurement, or noise under the ground), GROUND, OBJECT, or HIGH: an object's point that
        is higher over the ground than people are.
    """
    z = points.axes[2]
    levels = _scratch.take("levels", (height.size, 5), np.float32)
    _levels(height, edges, kerb, levels)
    kind, close = _scratch.take("kind", len(points), np.uint8), _scratch.take("close", _BLOCK + 1, np.int32)
    _classify(z, points.azimuth, planar, place, is_flat, height, edges, np.float32(kerb), levels, close, kind)
    return kind


@compiled
def _levels(height: NDArray[np.float64], edges: NDArray[np.float64], kerb: float, levels: NDArray[np.float32]) -> None:
    """Heights between which a cell's points surely are ground, or objects, and over which they surely are high [m]."""
    sectors, bins = height.shape
    lowest, highest = np.empty((2, bins))
    for s in range(sectors):
        here, beside, other = height[s], height[s - 1 if s else sectors - 1], height[s + 1 if s + 1 < sectors else 0]
        for b in range(bins):
            lowest[b] = min(here[b], beside[b], other[b])
            highest[b] = max(here[b], beside[b], other[b])
        for b in range(bins):
            c, d = max(b - 1, 0), min(b + 1, bins - 1)
            low = min(lowest[b], lowest[c], lowest[d])
            high = max(highest[b], highest[c], highest[d])
            slack = _SLACK + _SLACK_PER_METRE * max(abs(low), abs(high))
            near, far = max(edges[b] - _ASIDE, 0.0), edges[b + 1] + _ASIDE
            k = s * bins + b
            levels[k, 0] = high + _UNDER - _UNDER_FAR * near + slack
            levels[k, 1] = low + 0.5 * kerb + _RISE * max(near - _RISE_FROM, 0.0) - slack
            levels[k, 2] = high + kerb + _RISE * max(far - _RISE_FROM, 0.0) + slack
            levels[k, 3] = low + _HEADS - slack
            levels[k, 4] = max(high + _HEADS + slack, levels[k, 2])


@compiled
def _classify(
    z: NDArray[np.float32],
    azimuth: NDArray[np.float32],
    planar: NDArray[np.float32],
    place: NDArray[np.int32],
    is_flat: NDArray[np.bool_],
    height: NDArray[np.float64],
    edges: NDArray[np.float64],
    kerb: np.float32,
    levels: NDArray[np.float32],
    close: NDArray[np.int32],
    kind: NDArray[np.uint8],
) -> None:
    """By levels where they tell, else by the field; in blocks of points that stay in the processor's cache."""
    for start in range(0, len(z), _BLOCK):
        count = 0
        for i in range(start, min(start + _BLOCK, len(z))):
            p = np.uint32(max(place[i], np.int32(0)))
            is_ground = (z[i] >= levels[p, 0]) & (z[i] < levels[p, 1])
            is_object, is_high = (z[i] >= levels[p, 2]) & (z[i] < levels[p, 3]), z[i] >= levels[p, 4]
            sure = np.uint8(GROUND) * is_ground + np.uint8(OBJECT) * is_object + np.uint8(HIGH) * is_high
            kind[i] = sure
            close[np.uint64(count)] = i  # kept where it is counted: no branch, which would often be guessed wrong
            count += (place[i] < 0) | (sure == 0)
        for i in close[:count]:
            if place[i] < 0:
                kind[i] = OBJECT if planar[i] > _ZERO else NONE
                continue
            above = z[i] - _interpolated(height, edges, planar[i], azimuth[i], place[i])
            highest = (kerb if is_flat[i] else _MIDDLE * kerb) + _RISE * max(planar[i] - _RISE_FROM, _ZERO)
            noise = above < _UNDER - _UNDER_FAR * planar[i]
            found = np.uint8(OBJECT) + np.uint8(above > _HEADS)
            found = np.uint8(GROUND) if above < highest else found
            kind[i] = np.uint8(NONE) if noise else found


@compiled_within
def _interpolated(
    height: NDArray[np.float64], edges: NDArray[np.float64], d: np.float32, azimuth: np.float32, place: np.int32
) -> np.float32:
    """The field's height at a point, from its cell and the next ones outwards or inwards, and aside; no branches."""
    sectors, bins = height.shape
    turn = azimuth * np.float32(sectors / (2 * np.pi))
    s = min(np.int64(turn), np.int64(sectors - 1))
    b = np.int64(place) - s * bins
    along = (d - np.float32(edges[b])) * np.float32(1 / (edges[b + 1] - edges[b])) - _MIDDLE
    other = min(max(b + 2 * np.int64(along > _ZERO) - 1, 0), bins - 1)
    aside = turn - np.float32(s) - _MIDDLE
    t = s + 2 * np.int64(aside > _ZERO) - 1
    t += (np.int64(t < 0) - np.int64(t >= sectors)) * sectors
    u, v = abs(along), abs(aside)
    here, outward = np.float32(height[s, b]), np.float32(height[s, other])
    beside, aslant = np.float32(height[t, b]), np.float32(height[t, other])
    return np.float32((_ONE - v) * ((_ONE - u) * here + u * outward) + v * ((_ONE - u) * beside + u * aslant))
