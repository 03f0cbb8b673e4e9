"""Painting patches of points into an image of regions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.scratch import Scratch
from dseg_core.records import REGION_FIRST_OBJECT

_BLOCK = 64  # pixels that are looked at together
_OPEN = np.float32(0.5)  # height of a window that is open above, in units of a closed one's
_NOTHING = np.zeros((0, 2)), np.zeros(0, np.float32), np.zeros((0, 4), np.float32)
_scratch = Scratch()


def farthest_seen(
    uv: NDArray[np.float64],
    depth: NDArray[np.float32],
    size: NDArray[np.float32],
    shape: tuple[int, ...],
    share: float,
    least: float,
) -> NDArray[np.float32]:
    """How far the camera sees at most past patches of what was not measured.

    Args:
        uv: float64 (N, 2), pixels.
        depth: float32 (N,), metres.
        size: float32 (N, 4), how far each reaches to the left, right, up and down, pixels.
        shape: Of the image.
        share: What is farther than a patch by this share of its depth,
        least: and so many metres, is behind it.

    Returns:
        float32 (H, W), metres, inf where there is no patch; holds until the thread paints again.
    """
    farthest = _scratch.take("nearest", shape, np.float32)
    _farthest_seen(uv, (1 + share) * depth + least, size, farthest)
    return farthest


@compiled
def _farthest_seen(
    uv: NDArray[np.float64], limit: NDArray[np.float32], size: NDArray[np.float32], farthest: NDArray[np.float32]
) -> None:
    height, width = farthest.shape
    farthest[:] = np.inf
    for i in range(len(uv)):
        u, v, d = uv[i, 0], uv[i, 1], limit[i]
        left, right = max(int(np.ceil(u - size[i, 0])), 0), min(int(np.floor(u + size[i, 1])), width - 1)
        top, bottom = max(int(np.ceil(v - size[i, 2])), 0), min(int(np.floor(v + size[i, 3])), height - 1)
        if right < left or bottom < top:
            continue
        for y in range(np.uint64(top), np.uint64(bottom + 1)):
            for x in range(np.uint64(left), np.uint64(right + 1)):
                farthest[y, x] = min(farthest[y, x], d)


def paint(
    uv: NDArray[np.float64],
    depth: NDArray[np.float32],
    ids: NDArray[np.uint16],
    size: NDArray[np.float32],
    hidden: NDArray[np.bool_],
    surface: float,
    regions: NDArray[np.uint16],
    farthest: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Paint patches; where two are of one surface, the one whose centre is nearer wins, else what is in front.

    Args:
        uv: float64 (N, 2), pixels.
        depth: float32 (N,), metres.
        ids: uint16 (N,), proposals.
        size: float32 (N, 4), how far each reaches to the left, right, up and down, pixels.
        hidden: bool (N,), points that are not painted.
        surface: Share of their depth by which two patches of one surface may differ.
        regions: uint16 (H, W), is painted on.
        farthest: float32 (H, W), of `farthest_seen`, is painted on, too. None: as far as there are points.

    Returns:
        float32 (H, W), depth of what is painted, else `farthest` or inf; holds until the thread paints again.
    """
    nearest = farthest_seen(*_NOTHING, regions.shape, 0.0, 0.0) if farthest is None else farthest
    offset = _scratch.take("offset", regions.shape, np.float32)
    _paint(uv, depth, ids, size, hidden, np.float32(surface), regions, nearest, offset)
    return nearest


@compiled
def _paint(
    uv: NDArray[np.float64],
    depth: NDArray[np.float32],
    ids: NDArray[np.uint16],
    size: NDArray[np.float32],
    hidden: NDArray[np.bool_],
    surface: np.float32,
    regions: NDArray[np.uint16],
    nearest: NDArray[np.float32],
    offset: NDArray[np.float32],
) -> None:
    """`offset`: squared distance to the painting patch's centre in half sizes, inf where nothing is painted."""
    height, width = regions.shape
    offset[:] = np.inf
    squares = np.empty(width, np.float64)
    for i in range(len(uv)):
        if hidden[i]:
            continue
        u, v, d = uv[i, 0], uv[i, 1], depth[i]
        left, right = max(int(np.ceil(u - size[i, 0])), 0), min(int(np.floor(u + size[i, 1])), width - 1)
        top, bottom = max(int(np.ceil(v - size[i, 2])), 0), min(int(np.floor(v + size[i, 3])), height - 1)
        margin = surface * d
        for x in range(left, right + 1):
            across = (x - u) / (size[i, 1] if x > u else size[i, 0])
            squares[x] = across * across
        if right < left or bottom < top:
            continue
        number = ids[i]
        # Unsigned, so that no index is looked at for being negative.
        for y in range(np.uint64(top), np.uint64(bottom + 1)):
            down = (y - v) / (size[i, 3] if y > v else size[i, 2])
            square = down * down
            for x in range(np.uint64(left), np.uint64(right + 1)):
                behind = d - nearest[y, x]
                if behind > margin:
                    continue
                away = square + squares[x]
                if behind < -margin or away < offset[y, x]:
                    nearest[y, x] = d
                    offset[y, x] = away
                    regions[y, x] = number


def close_gaps(regions: NDArray[np.uint16], most: int, depth: NDArray[np.float32], extent: float) -> None:
    """Fill unpainted pixels between pixels of one region, along rows, then along columns; in place.

    Short gaps of any region are filled where they are one in a row or in a column. Longer ones are an object's windows,
    or what of it returned nothing, where it encloses them on all four sides; or on all but the upper, as roofs return
    little, up to half of the height.

    Args:
        regions: uint16 (H, W), is painted on.
        most: Pixels of a short gap.
        depth: float32 (H, W), metres, of what is painted; in place, too.
        extent: Pixels times metres of depth that a window may be wide and high.
    """
    _close_gaps(regions, most, depth, np.float32(extent), _scratch.take("across", regions.shape, np.uint16))


@compiled
def _close_gaps(
    regions: NDArray[np.uint16],
    most: int,
    depth: NDArray[np.float32],
    extent: np.float32,
    across: NDArray[np.uint16],
) -> None:
    """`across`: whose window a pixel is by what is to its left and right."""
    height, width = regions.shape
    across[:] = 0
    for y in range(height):
        row = regions[y]
        for start in range(1, width, _BLOCK):
            end = min(start + _BLOCK, width)
            if not _has_end(row[start:end], row[start - 1 : end - 1]):
                continue
            for x in range(start, end):
                if row[x] and not row[x - 1]:
                    first = _gap(row, x, _longest(row[x], most, extent, depth[y, x]))
                    if x - first <= most:
                        row[first:x], depth[y, first:x] = row[x], depth[y, x]
                    else:
                        across[y, first:x] = row[x]
    for y in range(1, height):
        for start in range(0, width, _BLOCK):
            end = min(start + _BLOCK, width)
            if not _has_end(regions[y, start:end], regions[y - 1, start:end]):
                continue
            for x in range(start, end):
                number = regions[y, x]
                if number and not regions[y - 1, x]:
                    first = _gap(regions[:, x], y, _longest(number, most, extent, depth[y, x]))
                    for b in range(first, y):
                        if y - first <= most or across[b, x] == number:
                            regions[b, x] = number
                    if first == y and number >= REGION_FIRST_OBJECT:
                        lowest = max(y - int(_OPEN * extent / depth[y, x]), 0)
                        for b in range(y - 1, lowest - 1, -1):
                            if regions[b, x] != 0 or across[b, x] != number:
                                break
                            regions[b, x] = number


@compiled_within
def _longest(number: np.uint16, most: int, extent: np.float32, depth: np.float32) -> int:
    """Pixels that a gap may have; `depth`: of its end."""
    return max(most, int(extent / depth)) if number >= REGION_FIRST_OBJECT else most


@compiled_within
def _has_end(here: NDArray[np.uint16], before: NDArray[np.uint16]) -> bool:
    """Whether a gap ends on any of these pixels: there are few, so that most need no closer look. Without branches."""
    painted = np.uint16(0)
    for i in range(len(here)):
        painted |= here[i] if before[i] == 0 else np.uint16(0)
    return bool(painted != 0)


@compiled_within
def _gap(line: NDArray[np.uint16], end: int, most: int) -> int:
    """Where the gap before pixel `end` of a row or column begins; `end` where it is none of one region, or longer."""
    for start in range(end - 2, max(end - most - 2, -1), -1):
        if line[start]:
            return start + 1 if line[start] == line[end] else end
    return end
