"""Objects of a range image: connected components under the angle criterion."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def components(
    xyz: NDArray[np.float32],
    distance: NDArray[np.float32],
    index: NDArray[np.int32],
    is_object: NDArray[np.bool_],
    angle: float,
    gap: float,
    reach: int,
) -> NDArray[np.int32]:
    """Label cells (Bogoslavskyi & Stachniss 2016, section IV).

    Two cells are joined when the surface through their points is seen under more than `angle`: beta = atan2(d2 sin a,
    d1 - d2 cos a), d1 the longer range, a the angle between the beams. Neighbours are the next cells to the right, over
    the seam, and below, empty cells in between passed over; `gap` bounds the depth step, because beams far apart make
    beta large across any distance.

    Args:
        xyz: float32 (N, 3), metres, LiDAR frame.
        distance: float32 (N,), metres from the LiDAR.
        index: int32 (R, C), point of each cell, -1 none.
        is_object: bool (N,), the points that are clustered.
        angle: Smallest beta, radians.
        gap: Largest depth step, metres.
        reach: Cells that a hole may have, plus one.

    Returns:
        int32 (R, C): labels, each the number (row * C + column) of its component's first cell; -1 where there is no
        object.
    """
    rows, columns = index.shape
    parent = np.full(rows * columns, -1, dtype=np.int32)
    for r in range(rows):
        for c in range(columns):
            if index[r, c] >= 0 and is_object[index[r, c]]:
                parent[r * columns + c] = r * columns + c
    square = 1.0 + np.tan(angle) ** 2
    for r in range(rows):
        for c in range(columns):
            here = r * columns + c
            if parent[here] < 0:
                continue
            i = index[r, c]
            right = c
            for _ in range(reach):
                right = right + 1 if right + 1 < columns else 0
                j = index[r, right]
                if j >= 0:
                    if is_object[j] and _joined(xyz, distance, i, j, square, gap):
                        _unite(parent, here, r * columns + right)
                    break
            for below in range(r + 1, min(r + reach + 1, rows)):
                j = index[below, c]
                if j >= 0:
                    if is_object[j] and _joined(xyz, distance, i, j, square, gap):
                        _unite(parent, here, below * columns + c)
                    break
    for here in range(rows * columns):
        if parent[here] >= 0:  # roots come first, so that one step up is enough
            parent[here] = parent[parent[here]]
    return parent.reshape(rows, columns)


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _joined(xyz: NDArray[np.float32], distance: NDArray[np.float32], i: int, j: int, square: float, gap: float) -> bool:
    """Whether beta is large enough: the cosine of the angle between the farther beam and the line to the nearer point.

    With the line d from the near to the far point f: cos beta = d.f / (|d| |f|), and beta > angle when
    |d|^2 |f|^2 > (1 + tan(angle)^2) (d.f)^2, which needs no root.
    """
    if distance[i] < distance[j]:
        i, j = j, i
    if distance[i] - distance[j] > gap:
        return False
    dx, dy, dz = xyz[i, 0] - xyz[j, 0], xyz[i, 1] - xyz[j, 1], xyz[i, 2] - xyz[j, 2]
    along = dx * xyz[i, 0] + dy * xyz[i, 1] + dz * xyz[i, 2]
    if along <= 0.0:
        return True
    return bool((dx * dx + dy * dy + dz * dz) * distance[i] * distance[i] > square * along * along)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _root(parent: NDArray[np.int32], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _unite(parent: NDArray[np.int32], i: int, j: int) -> None:
    """The smaller number becomes the root, so that the result does not depend on the order of joining."""
    a, b = _root(parent, i), _root(parent, j)
    if a < b:
        parent[b] = a
    elif b < a:
        parent[a] = b
