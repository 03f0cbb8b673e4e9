"""Painting patches of points into an image of regions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled
from dseg_core.lidar.scratch import Scratch
from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND

_BLOCK = 64  # pixels that are looked at together
_scratch = Scratch()


def paint(
    uv: NDArray[np.float64],
    depth: NDArray[np.float32],
    ids: NDArray[np.uint16],
    size: NDArray[np.float32],
    hidden: NDArray[np.bool_],
    surface: float,
    regions: NDArray[np.uint16],
) -> None:
    """Paint patches; where two are of one surface, the one whose centre is nearer wins, else what is in front.

    Args:
        uv: float64 (N, 2), pixels.
        depth: float32 (N,), metres.
        ids: uint16 (N,), proposals.
        size: float32 (N, 3), half sizes sideways, up and down, pixels.
        hidden: bool (N,), points that are not painted.
        surface: Share of their depth by which two patches of one surface may differ.
        regions: uint16 (H, W), is painted on.
    """
    nearest, offset = (_scratch.take(name, regions.shape, np.float32) for name in ("nearest", "offset"))
    _paint(uv, depth, ids, size, hidden, np.float32(surface), regions, nearest, offset)


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
    """`offset`: squared distance to the painting patch's centre in half sizes; holds where `nearest` is finite."""
    height, width = regions.shape
    nearest[:] = np.inf
    squares = np.empty(width, np.float64)
    for i in range(len(uv)):
        if hidden[i]:
            continue
        u, v, d = uv[i, 0], uv[i, 1], depth[i]
        left, right = max(int(np.ceil(u - size[i, 0])), 0), min(int(np.floor(u + size[i, 0])), width - 1)
        top, bottom = max(int(np.ceil(v - size[i, 1])), 0), min(int(np.floor(v + size[i, 2])), height - 1)
        margin = surface * d
        for x in range(left, right + 1):
            across = (x - u) / size[i, 0]
            squares[x] = across * across
        if right < left or bottom < top:
            continue
        number = ids[i]
        # Unsigned, so that no index is looked at for being negative.
        for y in range(np.uint64(top), np.uint64(bottom + 1)):
            down = (y - v) / (size[i, 2] if y > v else size[i, 1])
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


@compiled
def enclosed(
    uv: NDArray[np.float64],
    depth: NDArray[np.float32],
    ids: NDArray[np.uint16],
    shape: tuple[int, int],
    cell: float,
    extent: float,
) -> NDArray[np.bool_]:
    """Find ground that a nearer object encloses in the image: to its left and right, or above and below.

    A LiDAR looks through or over a car's windows and roof, which return nothing, at the ground behind; in the image
    these pixels are the car's. Objects are nearer when by 1 m and 5 % at least. Objects behind are left alone: thin
    ones between the leaves of a tree would be lost.

    Args:
        uv: float64 (N, 2), pixels.
        depth: float32 (N,), metres.
        ids: uint16 (N,), proposals.
        shape: Of the image.
        cell: Side of the cells in which the nearest object is looked up, pixels.
        extent: Pixels times metres of depth that the enclosing points may be away.

    Returns:
        bool (N,): the camera does not see it.
    """
    height, width = int(shape[0] / cell) + 2, int(shape[1] / cell) + 2
    near = np.full((height, width), np.float32(np.inf))
    owner = np.zeros((height, width), np.uint16)
    for i in range(len(uv)):
        y, x = int((uv[i, 1] + 0.5) / cell), int((uv[i, 0] + 0.5) / cell)
        if ids[i] >= REGION_FIRST_OBJECT and depth[i] < near[y, x]:
            near[y, x], owner[y, x] = depth[i], ids[i]
    hidden = np.zeros(len(uv), np.bool_)
    step = cell * max(near.min(), np.float32(1.0))  # the least that one cell farther away adds to the extent
    for i in range(len(uv)):
        y, x = int((uv[i, 1] + 0.5) / cell), int((uv[i, 0] + 0.5) / cell)
        limit = (depth[i] - 1.0) / 1.05
        if ids[i] != REGION_GROUND or limit <= 1.0:
            continue
        for dy, dx in ((0, 1), (1, 0)):
            found = np.uint16(0)
            for sign in (-1, 1):
                hit = np.uint16(0)
                for k in range(1, 65):
                    b, a = y + sign * k * dy, x + sign * k * dx
                    if b < 0 or a < 0 or b >= height or a >= width or k * step > extent:
                        break
                    if near[b, a] < limit:
                        if k * cell * near[b, a] <= extent:
                            hit = owner[b, a]
                        break
                if hit == 0 or (sign == 1 and hit != found):
                    found = np.uint16(0)
                    break
                found = hit
            if found:
                hidden[i] = True
                break
    return hidden


@compiled
def close_gaps(regions: NDArray[np.uint16], most: int) -> None:
    """Fill unpainted runs of at most `most` pixels between pixels of one region, along rows, then columns; in place."""
    height, width = regions.shape
    for y in range(height):
        row = regions[y]
        for start in range(1, width, _BLOCK):
            end = min(start + _BLOCK, width)
            if not _has_end(row[start:end], row[start - 1 : end - 1]):
                continue
            for x in range(start, end):
                if row[x] and not row[x - 1]:
                    _close(row, x, most)
    for y in range(1, height):
        for start in range(0, width, _BLOCK):
            end = min(start + _BLOCK, width)
            if not _has_end(regions[y, start:end], regions[y - 1, start:end]):
                continue
            for x in range(start, end):
                if regions[y, x] and not regions[y - 1, x]:
                    _close(regions[:, x], y, most)


@compiled
def _has_end(here: NDArray[np.uint16], before: NDArray[np.uint16]) -> bool:
    """Whether a gap ends on any of these pixels: there are few, so that most need no closer look. Without branches."""
    painted = np.uint16(0)
    for i in range(len(here)):
        painted |= here[i] if before[i] == 0 else np.uint16(0)
    return bool(painted != 0)


@compiled
def _close(line: NDArray[np.uint16], end: int, most: int) -> None:
    """Fill the gap before pixel `end` of a row or column."""
    for start in range(end - 2, max(end - most - 2, -1), -1):
        if line[start]:
            if line[start] == line[end]:
                line[start + 1 : end] = line[end]
            return
