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
_TWO, _NEXT = np.uint32(2), np.uint32(1)
_SLACK, _SLACK_PER_METRE = 1e-3, 1e-6  # of levels, many times what single precision rounds off

_scratch = Scratch()


def kind_from_field(
    points: Points,
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
        place: int32 (N,), cell of the field, bin * sectors + sector; -1 beyond it.
        is_flat: bool (N,).
        height: float64 (bins, sectors), metres.
        edges: float64 (bins + 1,), planar distance between bins, metres.
        kerb: How far flat points may lie above the field, metres; other points half as far.

    Returns:
        uint8 (N,): NONE (no measurement, or noise under the ground), GROUND, OBJECT, or HIGH: an object's point that
        is higher over the ground than people are.
    """
    levels = _scratch.take("levels", (height.size + 1, 6), np.float32)
    levels[0] = np.inf
    beside = _scratch.take("beside", (2, *height.shape), np.float64)
    _levels(height, edges, kerb, beside, np.full((6, height.shape[1]), np.inf, np.float32), levels)
    kind, close = _scratch.take("kind", len(points), np.uint8), _scratch.take("close", _BLOCK + 1, np.int32)
    bins = np.array([edges[:-1], 1 / (edges[1:] - edges[:-1])], np.float32)
    of_points = points.axes[2], points.azimuth, points.planar, place, is_flat
    _classify(*of_points, height.astype(np.float32), bins, np.float32(kerb), levels, close, kind)
    return kind


@compiled
def _levels(
    height: NDArray[np.float64],
    edges: NDArray[np.float64],
    kerb: float,
    beside: NDArray[np.float64],
    row: NDArray[np.float32],
    levels: NDArray[np.float32],
) -> None:
    """Heights between which a cell's points surely are ground, or objects, and over which they surely are high [m].

    `beside`: float64 (2, bins, sectors), working memory; `row`: float32 (6, sectors), also, infinite. `levels`: float32
    (bins * sectors + 1, 6), from and to for each kind, of cell p at p + 1. At 0 all are infinite, so that nothing is
    sure beyond the field.
    """
    bins, sectors = height.shape
    lowest, highest = beside[0], beside[1]
    for b in range(bins):
        here, low, high = height[b], lowest[b], highest[b]
        for s in range(1, sectors - 1):
            low[s] = min(here[s], here[s - 1], here[s + 1])
            high[s] = max(here[s], here[s - 1], here[s + 1])
        for s in (0, sectors - 1):
            before, after = here[(s - 1) % sectors], here[(s + 1) % sectors]
            low[s], high[s] = min(here[s], before, after), max(here[s], before, after)
    for b in range(bins):
        c, d = max(b - 1, 0), min(b + 1, bins - 1)
        near, far = max(edges[b] - _ASIDE, 0.0), edges[b + 1] + _ASIDE
        rise, farther = _RISE * max(near - _RISE_FROM, 0.0), _RISE * max(far - _RISE_FROM, 0.0)
        for s in range(sectors):
            low = min(lowest[b, s], lowest[c, s], lowest[d, s])
            high = max(highest[b, s], highest[c, s], highest[d, s])
            slack = _SLACK + _SLACK_PER_METRE * max(abs(low), abs(high))
            row[0, s] = high + _UNDER - _UNDER_FAR * near + slack
            row[1, s] = low + 0.5 * kerb + rise - slack
            row[2, s] = high + kerb + farther + slack
            row[3, s] = low + _HEADS - slack
            row[4, s] = max(high + _HEADS + slack, high + kerb + farther + slack)
        for s in range(sectors):
            p = np.uint32(b * sectors + s)
            for k in range(6):
                levels[p + 1, k] = row[k, s]


@compiled
def _classify(
    z: NDArray[np.float32],
    azimuth: NDArray[np.float32],
    planar: NDArray[np.float32],
    place: NDArray[np.int32],
    is_flat: NDArray[np.bool_],
    height: NDArray[np.float32],
    bins: NDArray[np.float32],
    kerb: np.float32,
    levels: NDArray[np.float32],
    close: NDArray[np.int32],
    kind: NDArray[np.uint8],
) -> None:
    """By levels where they tell, else by the field; in blocks of points that stay in the processor's cache.

    `close`: int32 (_BLOCK + 1,), working memory.
    """
    field, sectors = height.reshape(-1), np.uint32(height.shape[1])
    two = np.uint32(0)  # of the levels, between which the last point was
    for start in range(0, len(z), _BLOCK):
        count = 0
        for i in range(start, min(start + _BLOCK, len(z))):
            p = np.uint32(place[i] + np.int32(1))
            if not (z[i] >= levels[p, two]) & (z[i] < levels[p, two + _NEXT]):  # mostly it is what the last point was
                two = _TWO * np.uint32(z[i] >= levels[p, 2]) + _TWO * np.uint32(z[i] >= levels[p, 4])
                close[np.uint64(count)] = i  # kept where it is counted: no branch, which would often be guessed wrong
                count += not (z[i] >= levels[p, two]) & (z[i] < levels[p, two + _NEXT])
            kind[i] = np.uint8(GROUND) + np.uint8(two // _TWO)
        for j in range(count):
            k = np.uint32(close[j])  # no branch for numbers below 0
            if place[k] < 0:
                kind[k] = OBJECT if planar[k] > _ZERO else NONE
                continue
            above = z[k] - _interpolated(field, sectors, bins, planar[k], azimuth[k], np.uint32(place[k]))
            most = (kerb if is_flat[k] else _MIDDLE * kerb) + _RISE * max(planar[k] - _RISE_FROM, _ZERO)
            noise, ground = above < _UNDER - _UNDER_FAR * planar[k], above < most
            found = np.uint8(GROUND) if ground else np.uint8(OBJECT) + np.uint8(above > _HEADS)
            kind[k] = np.uint8(NONE) if noise else found


@compiled_within
def _interpolated(
    field: NDArray[np.float32],
    sectors: np.uint32,
    bins: NDArray[np.float32],
    d: np.float32,
    azimuth: np.float32,
    place: np.uint32,
) -> np.float32:
    """The field's height at a point, from its cell and the next ones outwards or inwards, and aside; no branches.

    `bins`: float32 (2, bins), where each begins, and one divided by how wide it is, metres.
    """
    b, here, around = place // sectors, np.int64(place), np.int64(sectors)
    s = here - np.int64(b) * around
    along = (d - bins[0, b]) * bins[1, b] - _MIDDLE
    outwards = here + around if along > _ZERO else here - around
    outwards = outwards if (outwards >= 0) & (outwards < len(field)) else here
    aside = azimuth * np.float32(sectors / (2 * np.pi)) - np.float32(s) - _MIDDLE
    t = s + 1 if aside > _ZERO else s - 1
    t += around if t < 0 else 0
    t -= around if t >= around else 0
    u, v, on = abs(along), abs(aside), t - s
    near, outer = field[np.uint32(here)], field[np.uint32(outwards)]
    beside, aslant = field[np.uint32(here + on)], field[np.uint32(outwards + on)]
    return np.float32((_ONE - v) * ((_ONE - u) * near + u * outer) + v * ((_ONE - u) * beside + u * aslant))
