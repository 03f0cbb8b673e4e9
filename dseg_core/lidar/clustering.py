"""Objects of a range image: connected components under the angle criterion."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def components(
    xyz: NDArray[np.float32],
    index: NDArray[np.int32],
    skip: NDArray[np.bool_],
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
        index: int32 (R, C), point of each cell, -1 none.
        skip: bool (R, C), cells that are ground.
        angle: Smallest beta, radians.
        gap: Largest depth step, metres.
        reach: Cells that a hole may have, plus one.

    Returns:
        int32 (R, C): labels 0.. without order, -1 where there is no object.
    """
    rows, columns = index.shape
    parent = np.full(rows * columns, -1, dtype=np.int32)
    for r in range(rows):
        for c in range(columns):
            i = index[r, c]
            if i >= 0 and not skip[r, c]:
                parent[r * columns + c] = r * columns + c
    tangent = np.tan(angle)
    for r in range(rows):
        for c in range(columns):
            if parent[r * columns + c] < 0:
                continue
            for k in range(1, reach + 1):
                right = (c + k) % columns
                if index[r, right] >= 0:
                    if not skip[r, right] and _joined(xyz, index[r, c], index[r, right], tangent, gap):
                        _unite(parent, r * columns + c, r * columns + right)
                    break
            for k in range(1, reach + 1):
                below = r + k
                if below >= rows:
                    break
                if index[below, c] >= 0:
                    if not skip[below, c] and _joined(xyz, index[r, c], index[below, c], tangent, gap):
                        _unite(parent, r * columns + c, below * columns + c)
                    break
    labels = np.full((rows, columns), -1, dtype=np.int32)
    for r in range(rows):
        for c in range(columns):
            if parent[r * columns + c] >= 0:
                labels[r, c] = _root(parent, r * columns + c)
    return labels


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _joined(xyz: NDArray[np.float32], i: int, j: int, tangent: float, gap: float) -> bool:
    ri = np.sqrt(xyz[i, 0] ** 2 + xyz[i, 1] ** 2 + xyz[i, 2] ** 2)
    rj = np.sqrt(xyz[j, 0] ** 2 + xyz[j, 1] ** 2 + xyz[j, 2] ** 2)
    far, near = max(ri, rj), min(ri, rj)
    if near <= 0.0 or far - near > gap:
        return False
    cosine = (xyz[i, 0] * xyz[j, 0] + xyz[i, 1] * xyz[j, 1] + xyz[i, 2] * xyz[j, 2]) / (ri * rj)
    cosine = min(1.0, max(-1.0, cosine))
    sine = np.sqrt(1.0 - cosine * cosine)
    return bool(near * sine > tangent * (far - near * cosine))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _root(parent: NDArray[np.int32], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _unite(parent: NDArray[np.int32], i: int, j: int) -> None:
    a, b = _root(parent, i), _root(parent, j)
    if a != b:
        parent[max(a, b)] = min(a, b)
