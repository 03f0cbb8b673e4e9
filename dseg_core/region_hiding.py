"""Which points the camera cannot see although no point is painted over them: what LiDAR sees through windows."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND

_MOST_CELLS = 64


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
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
    roof may be a proposal of its own. An object is hidden only between all four sides of one, as thin ones are seen
    between the leaves of a tree; these are looked for in lanes of three cells, as a car's frame and roof return few
    points. What encloses is nearer by 1 m and 5 % at least.

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
    beside, over = _lanes(near, owner, 1, 0), _lanes(near, owner, 0, 1)
    reach = int(min(extent / (cell * max(near.min(), np.float32(1.0))), np.float64(_MOST_CELLS)))
    hidden = np.zeros(len(uv), np.bool_)
    for i in range(len(uv)):
        limit = np.float32((depth[i] - 1.0) / 1.05)
        if ids[i] == 0 or limit <= 1.0:
            continue
        y, x = int((uv[i, 1] + 0.5) / cell), int((uv[i, 0] + 0.5) / cell)
        if ids[i] == REGION_GROUND:
            for dy, dx in ((0, 1), (1, 0)):
                if not hidden[i]:
                    hidden[i] = _between(near, owner, y, x, dy, dx, limit, extent / cell, reach, True) != 0
            continue
        across = _between(beside[0], beside[1], y, x, 0, 1, limit, extent / cell, reach, False)
        if across:
            hidden[i] = across == _between(over[0], over[1], y, x, 1, 0, limit, extent / cell, reach, False)
    return hidden


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _lanes(
    near: NDArray[np.float32], owner: NDArray[np.uint16], dy: int, dx: int
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """The nearest of each cell and its two neighbours (dy, dx) and (-dy, -dx), and whose it is."""
    height, width = near.shape
    nearest, holder = near.copy(), owner.copy()
    for y in range(dy, height - dy):
        for x in range(dx, width - dx):
            for sign in (-1, 1):
                b, a = y + sign * dy, x + sign * dx
                if near[b, a] < nearest[y, x]:
                    nearest[y, x], holder[y, x] = near[b, a], owner[b, a]
    return nearest, holder


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _between(
    near: NDArray[np.float32],
    owner: NDArray[np.uint16],
    y: int,
    x: int,
    dy: int,
    dx: int,
    limit: np.float32,
    extent: float,
    reach: int,
    any_two: bool,
) -> np.uint16:
    """The object nearer than `limit` that is met first both ways from a cell; 0: none, two, or too far away.

    `extent`: cells times metres, `reach`: cells that it may be away; `any_two`: upright, two will do.
    """
    height, width = near.shape
    found = np.uint16(0)
    for sign in (-1, 1):
        most = min(reach, y * dy + x * dx if sign < 0 else (height - 1 - y) * dy + (width - 1 - x) * dx)
        hit = np.uint16(0)
        for k in range(1, most + 1):
            b, a = y + sign * k * dy, x + sign * k * dx
            if near[b, a] < limit:
                hit = owner[b, a] if k * near[b, a] <= extent else np.uint16(0)
                break
        if hit == 0 or (sign == 1 and hit != found and not (dy and any_two)):
            return np.uint16(0)
        found = hit
    return found
