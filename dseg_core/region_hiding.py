"""Which points the camera cannot see although no point is painted over them: what LiDAR sees through windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.scratch import Scratch
from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND

_MOST_CELLS = 64
_OF_THREE = 2 / 3  # how much nearer three sides must be than four
BEHIND, BEHIND_LEAST = 0.05, 1.0
"""Nearer by this share and so many metres is what hides something: its own surface goes on within that."""

_scratch = Scratch()


def enclosed(
    uv: NDArray[np.float64],
    depth: NDArray[np.float32],
    ids: NDArray[np.uint16],
    shape: tuple[int, int],
    cell: float,
    extent: float,
) -> NDArray[np.bool_]:
    """Find what a nearer object encloses in the image.

    A LiDAR looks through or over a car's windows and roof, which return nothing, at what is behind; in the image these
    pixels are the car's. Ground is hidden between the left and the right of one object, or above one and below one: a
    roof may be a proposal of its own. An object is hidden only between three or four sides of one, as thin ones
    are seen between the leaves of a tree; four are looked for in lanes of three cells, as a car's frame and roof return
    few points. What encloses is nearer by 1 m and 5 % at least.

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
    grid = int(shape[0] / cell) + 2, int(shape[1] / cell) + 2
    near, owner = (_scratch.take(k, (3, *grid), t) for k, t in (("near", np.float32), ("owner", np.uint16)))
    near[0], owner[0] = np.inf, 0
    nearest, reach = _enter(uv, depth, ids, cell, near[0], owner[0]), extent / cell
    near[1:], owner[1:] = near[0], owner[0]
    _widen(near[0], owner[0], 1, 0, near[1], owner[1])
    _widen(near[0], owner[0], 0, 1, near[2], owner[2])
    best = _scratch.take("best", (8, *grid), np.float32)
    best[:4] = np.inf
    _nearest_within(near[0], reach, best)
    cells, hidden = int(min(reach / max(nearest, 1.0), _MOST_CELLS)), np.zeros(len(uv), np.bool_)
    _hide(uv, depth, ids, cell, near, owner, best, reach, cells, hidden)
    return hidden


# Called one by one: a loop that is compiled into another is compiled twice.


@compiled
def _enter(
    uv: NDArray[np.float64],
    depth: NDArray[np.float32],
    ids: NDArray[np.uint16],
    cell: float,
    near: NDArray[np.float32],
    owner: NDArray[np.uint16],
) -> float:
    """The nearest object's point of each cell, and its object; returns the least depth, infinite without objects."""
    nearest = np.float32(np.inf)
    for i in range(len(uv)):
        y, x = int((uv[i, 1] + 0.5) / cell), int((uv[i, 0] + 0.5) / cell)
        if ids[i] >= REGION_FIRST_OBJECT and depth[i] < near[y, x]:
            near[y, x], owner[y, x] = depth[i], ids[i]
            nearest = min(nearest, depth[i])
    return float(nearest)


@compiled
def _hide(
    uv: NDArray[np.float64],
    depth: NDArray[np.float32],
    ids: NDArray[np.uint16],
    cell: float,
    near: NDArray[np.float32],
    owner: NDArray[np.uint16],
    best: NDArray[np.float32],
    reach: float,
    cells: int,
    hidden: NDArray[np.bool_],
) -> None:
    """`near` and `owner`: float32 and uint16 (3, H, W), of cells, then of lanes; `best`: of `_nearest_within`."""
    met = np.empty(4, np.uint16)  # to the left and right, above and below
    for i in range(len(uv)):
        limit = np.float32((depth[i] - BEHIND_LEAST) / (1.0 + BEHIND))
        if ids[i] == 0 or limit <= 1.0:
            continue
        y, x = int((uv[i, 1] + 0.5) / cell), int((uv[i, 0] + 0.5) / cell)
        is_ground = ids[i] == REGION_GROUND
        beside = (best[0, y, x] < limit) + (best[1, y, x] < limit)
        upright = (best[2, y, x] < limit) + (best[3, y, x] < limit)
        if beside == 2 or upright == 2 if is_ground else beside + upright > 2:
            within = reach if is_ground else reach * _OF_THREE
            for side in range(4):
                met[side] = _first(near, owner, 0, y, x, side, limit, within, cells)
            if is_ground:
                hidden[i] = (met[0] != 0 and met[0] == met[1]) or (met[2] != 0 and met[3] != 0)
            else:
                hidden[i] = _three(met)
        if not (is_ground or hidden[i]):
            for side in range(4):
                if best[4 + side, y, x] >= limit:
                    break
                met[side] = _first(near, owner, 1 + (side >> 1), y, x, side, limit, reach, cells)
                if met[side] == 0 or met[side] != met[0]:
                    break
            else:
                hidden[i] = True


@compiled_within
def _three(met: NDArray[np.uint16]) -> bool:
    """Whether one object was met on three of four sides."""
    for side in range(2):  # of three, one is the left or the right one, and one is above or below
        for other in range(2, 4):
            if met[side] != 0 and met[side] == met[other] and (met[0] == met[1] or met[2] == met[3]):
                return True
    return False


@compiled
def _nearest_within(near: NDArray[np.float32], reach: float, best: NDArray[np.float32]) -> None:
    """Least depth that `_first` may meet from each cell, by side: float32 (8, H, W), the last four for lanes of three.

    Most cells meet nothing near enough, and need not be asked. `best`: its first four infinite; is filled.
    """
    height, width = near.shape
    for y in range(height):
        for x in range(width):
            d = near[y, x]
            if d == np.inf:
                continue
            most = min(int(reach / d), _MOST_CELLS)
            # Seen from the cells to its right, this one is on their left.
            for k in range(x + 1, min(x + most, width - 1) + 1):
                best[0, y, k] = min(best[0, y, k], d)
            for k in range(max(x - most, 0), x):
                best[1, y, k] = min(best[1, y, k], d)
            for k in range(y + 1, min(y + most, height - 1) + 1):
                best[2, k, x] = min(best[2, k, x], d)
            for k in range(max(y - most, 0), y):
                best[3, k, x] = min(best[3, k, x], d)
    for side in range(4):
        for y in range(height):  # no slices: to compile one that is given to another takes two seconds
            for x in range(width):
                best[4 + side, y, x] = best[side, y, x]
    for side in range(2):
        beside, upright = best[4 + side], best[6 + side]
        for off in range(-1, 2, 2):
            for y in range(1, height - 1):
                for x in range(width):
                    beside[y, x] = min(beside[y, x], best[side, y + off, x])
            for y in range(height):
                for x in range(1, width - 1):
                    upright[y, x] = min(upright[y, x], best[2 + side, y, x + off])


@compiled
def _widen(
    near: NDArray[np.float32],
    owner: NDArray[np.uint16],
    dy: int,
    dx: int,
    nearest: NDArray[np.float32],
    holder: NDArray[np.uint16],
) -> None:
    """The nearest of each cell and its two neighbours (dy, dx) and (-dy, -dx), and whose it is, into copies of both."""
    height, width = near.shape
    for y in range(dy, height - dy):
        for x in range(dx, width - dx):
            for sign in (-1, 1):
                b, a = y + sign * dy, x + sign * dx
                if near[b, a] < nearest[y, x]:
                    nearest[y, x], holder[y, x] = near[b, a], owner[b, a]


@compiled_within
def _first(
    near: NDArray[np.float32],
    owner: NDArray[np.uint16],
    layer: int,
    y: int,
    x: int,
    side: int,
    limit: np.float32,
    reach: float,
    cells: int,
) -> np.uint16:
    """The object nearer than `limit` that is met first from a cell, at most `reach` cells times metres away; or 0."""
    _, height, width = near.shape
    dx, dy = (2 * side - 1, 0) if side < 2 else (0, 2 * side - 5)
    most = ((x, width - 1 - x) if side < 2 else (y, height - 1 - y))[side & 1]
    for k in range(1, min(cells, most) + 1):
        b, a = y + k * dy, x + k * dx
        if near[layer, b, a] < limit:
            return owner[layer, b, a] if k * near[layer, b, a] <= reach else np.uint16(0)
    return np.uint16(0)
