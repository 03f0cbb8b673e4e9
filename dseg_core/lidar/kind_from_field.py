"""What points are, ground, objects or noise, by how high they lie over the field of the ground's heights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.bounds_from_field import bound_field
from dseg_core.lidar.marked import AT_ONCE
from dseg_core.lidar.points import Points
from dseg_core.lidar.scratch import Scratch

NONE, GROUND, OBJECT, HIGH = 0, 1, 2, 3

# In single precision, as the points are.
_ZERO, _MIDDLE, _ONE = np.array([0.0, 0.5, 1.0], dtype=np.float32)
_UNDER, _UNDER_FAR, _RISE, _RISE_FROM = np.array([-0.5, 0.02, 0.002, 20.0], dtype=np.float32)
_HEADS = np.float32(2.0)
_BLOCK = 2048  # points
_NEXT, _TWO = np.int32(1), np.int32(2)
_OPEN, _LAST_BIT = np.uint8(128), np.uint8(7)  # what a point is that the field has to tell; is one bit
_ANY_OPEN, _NO = np.uint64(0x8080808080808080), np.uint64(0)

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

    Interpolation is needed for one point of thirteen only: no interpolated height is beyond those of the cells around,
    and over the lowest of these most points are the same as over the highest.

    Args:
        points: The cloud.
        place: int32 (N,), cell of the field, bin * sectors + sector; -1 beyond it.
        is_flat: bool (N,).
        height: float64 (bins, sectors), metres.
        edges: float64 (bins + 1,), planar distance between bins, metres.
        kerb: How far flat points may lie above the field, metres; other points half as far.

    Returns:
        uint8 (N + 1,): NONE (no measurement, or noise under the ground), GROUND, OBJECT, or HIGH: an object's point
        that is higher over the ground than people are. The last is NONE, for cells without a point.
    """
    n, (rings, sectors) = len(points), height.shape
    field = _scratch.take("field", (rings + 2) * (sectors + 2), np.float32)
    beside = _scratch.take("beside", (2, rings + 2, sectors), np.float32)
    between = _scratch.take("between", 2 * height.size + 2, np.float32)
    bins = _scratch.take("bins", 2 * rings, np.float32)
    bound_field(height, edges, field, beside, between, bins)
    kind, near = _scratch.take("kind", (n // AT_ONCE + 1) * AT_ONCE, np.uint8), _scratch.take("near", _BLOCK, np.uint64)
    kind[n:] = NONE
    some, listed = (_scratch.take(name, _BLOCK + 1, np.int32) for name in ("some", "listed"))
    pairs, near_of, words = between.view(np.uint64), near.view(np.float32), kind.view(np.uint64)
    of_points = points.axes[2], points.azimuth, points.planar, place, is_flat
    _classify(
        *of_points, field, np.int32(sectors), bins, np.float32(kerb), pairs, near, near_of, some, listed, kind, words
    )
    return kind[: n + 1]


@compiled
def _classify(
    z: NDArray[np.float32],
    azimuth: NDArray[np.float32],
    planar: NDArray[np.float32],
    place: NDArray[np.int32],
    is_flat: NDArray[np.bool_],
    field: NDArray[np.float32],
    sectors: np.int32,
    bins: NDArray[np.float32],
    kerb: np.float32,
    pairs: NDArray[np.uint64],
    near: NDArray[np.uint64],
    near_of: NDArray[np.float32],
    some: NDArray[np.int32],
    listed: NDArray[np.int32],
    kind: NDArray[np.uint8],
    words: NDArray[np.uint64],
) -> None:
    """By what the field is at least and at most, where that tells, else by the field.

    In blocks of points that stay in the processor's cache. `pairs`: uint64, `between` of `bound_field`, where see the
    others, too; `near`, `near_of`: uint64 (_BLOCK,) and the same memory as float32, working memory; `some`, `listed`:
    int32 (_BLOCK + 1,), also. `kind`: N and NONE up to a multiple of AT_ONCE; `words`: uint64, the same memory.
    """
    n = len(z)
    for start in range(0, n, _BLOCK):
        end = min(start + _BLOCK, n)
        _look_up(place[start:end], pairs, near)
        _tell(z[start:end], planar[start:end], is_flat[start:end], near_of, kerb, kind[start:end])
        for j in range(_list_open(words[start // AT_ONCE : -(-end // AT_ONCE)], kind, start, some, listed)):
            k = np.uint32(listed[j])  # no branch for numbers below 0
            p, d = place[k], planar[k]
            if p < 0:
                kind[k] = OBJECT if d > _ZERO else NONE
                continue
            above = z[k] - _interpolated(field, sectors, bins, d, azimuth[k], p)
            kind[k] = _kind_at(above, d, _most(d, is_flat[k], kerb))


# Loops of their own, without branches, that write to one array each: only such run with vector instructions.


@compiled_within
def _look_up(place: NDArray[np.int32], pairs: NDArray[np.uint64], near: NDArray[np.uint64]) -> None:
    """A loop of its own: no vector instruction looks things up."""
    for i in range(len(place)):
        near[i] = pairs[np.uint32(place[i] + _NEXT)]


@compiled_within
def _tell(
    z: NDArray[np.float32],
    planar: NDArray[np.float32],
    is_flat: NDArray[np.bool_],
    near: NDArray[np.float32],
    kerb: np.float32,
    kind: NDArray[np.uint8],
) -> None:
    """What points are over the lowest as over the highest that the field can be there; others are _OPEN."""
    for i in range(len(z)):
        most, noise = _most(planar[i], is_flat[i], kerb), _UNDER - _UNDER_FAR * planar[i]
        a, b = z[i] - near[2 * i + 1], z[i] - near[2 * i]
        same = ((a < noise) == (b < noise)) & ((a < most) == (b < most)) & ((a > _HEADS) == (b > _HEADS))
        kind[i] = _kind_at(a, planar[i], most) if same & (a <= b) else _OPEN  # NaN tells nothing


@compiled_within
def _most(planar: np.float32, is_flat: bool, kerb: np.float32) -> np.float32:
    """How far ground may lie over the field [m]."""
    half = _MIDDLE * kerb
    return np.float32(half + half * np.float32(is_flat) + _RISE * max(planar - _RISE_FROM, _ZERO))


@compiled_within
def _kind_at(above: np.float32, planar: np.float32, most: np.float32) -> np.uint8:
    """What a point is so far above the field; the kinds are numbered upwards. Over no field, NaN, it is an object's."""
    over_noise, over_ground = not (above < _UNDER - _UNDER_FAR * planar), not (above < most)
    return np.uint8(over_noise) + np.uint8(over_ground) + np.uint8(over_ground & (above > _HEADS))


@compiled_within
def _list_open(
    words: NDArray[np.uint64], kind: NDArray[np.uint8], first: int, some: NDArray[np.int32], listed: NDArray[np.int32]
) -> int:
    """Which points are _OPEN, from the first on, and how many; they lie together: others are passed over AT_ONCE.

    Each is kept where it is counted, and the next over it if it is none: a branch would often be guessed wrong.
    """
    count, found = 0, 0
    for w in range(len(words)):
        some[np.uint64(count)] = first + AT_ONCE * w
        count += (words[w] & _ANY_OPEN) != _NO
    for n in range(count):
        for m in range(AT_ONCE):
            k = np.uint32(some[n] + m)
            listed[np.uint64(found)] = k
            found += int(kind[k] >> _LAST_BIT)
    return found


@compiled_within
def _interpolated(
    field: NDArray[np.float32],
    sectors: np.int32,
    bins: NDArray[np.float32],
    d: np.float32,
    azimuth: np.float32,
    place: np.int32,
) -> np.float32:
    """The field's height at a point, from its cell and the next ones outwards or inwards, and aside; no branches."""
    b = np.int32((np.float32(place) + _MIDDLE) / np.float32(sectors))  # far from where rounding tells
    s, row = place - b * sectors, sectors + _TWO
    along = (d - bins[np.uint32(_TWO * b)]) * bins[np.uint32(_TWO * b + _NEXT)] - _MIDDLE
    aside = azimuth * np.float32(sectors / (2 * np.pi)) - np.float32(s) - _MIDDLE
    here, u, v = (b + _NEXT) * row + s + _NEXT, abs(along), abs(aside)
    outwards, on = here + (row if along > _ZERO else -row), _NEXT if aside > _ZERO else -_NEXT
    near, outer = field[np.uint32(here)], field[np.uint32(outwards)]
    beside, aslant = field[np.uint32(here + on)], field[np.uint32(outwards + on)]
    return np.float32((_ONE - v) * ((_ONE - u) * near + u * outer) + v * ((_ONE - u) * beside + u * aslant))
