"""Objects of a range image: connected components under the angle criterion."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from dseg_core.lidar.fragments import join_fragments
from dseg_core.lidar.ground import OBJECT
from dseg_core.lidar.scratch import Scratch

_scratch = Scratch()


def components(
    axes: NDArray[np.float32],
    distance: NDArray[np.float32],
    kinds: NDArray[np.uint8],
    angles: tuple[float, float],
    near: float,
    gap: float,
    reach: int,
    fragment: float = 0.0,
    fragment_gap: float = 0.0,
    down: float = 0.01,
    few: int = 0,
) -> tuple[NDArray[np.int32], int]:
    """Label cells (Bogoslavskyi & Stachniss 2016, section IV).

    Two cells are joined when the surface through their points is seen under more than an angle: beta = atan2(d2 sin a,
    d1 - d2 cos a), d1 the longer range, a the angle between the beams. Neighbours are the next cells to the right, over
    the seam, and below, empty cells in between passed over; `gap` bounds the depth step, because beams far apart make
    beta large across any distance. Beams are farther apart than the points of one, so that the same angle would bridge
    more between them, such as from a head to the wall behind it: there it is larger. Points that are `near` are joined
    at any angle, else bonnets and roofs, which are seen edge on, would fall apart [both ours].

    Args:
        axes: float32 (3, R, C), x, y and z of each cell's point, metres, LiDAR frame.
        distance: float32 (R, C), metres from the LiDAR, 0 where a cell is empty.
        kinds: uint8 (R, C), of the ground's kinds; objects' cells are clustered, high or not.
        angles: Smallest beta between cells of one beam, and of two, radians.
        near: Points nearer to each other are joined, metres.
        gap: Largest depth step, metres.
        reach: Cells that a hole may have, plus one.
        fragment: Area of the largest component that may join another, square metres, see `join_fragments`; 0: none.
        fragment_gap: Its farthest distance to the other one, metres.
        down: Angle between beams, radians.
        few: Cells below which components are nothing by themselves, see there, too.

    Returns:
        int32 (R, C): labels from 0, in the order of their first cells, row by row; -1 where there is no object. And
        how many there are. The labels' memory is used anew for the thread's next call.
    """
    labels = _scratch.take("labels", distance.shape, np.int32)
    parent = _scratch.take("parent", distance.size, np.int32)
    beside, above = (np.float32(1.0 + np.tan(angle) ** 2) for angle in angles)
    limits = (beside, above, np.float32(near * near), np.float32(gap))
    sizes, last, before = (_scratch.take(k, distance.size, np.int32) for k in ("sizes", "last", "before"))
    used = label_cells(axes, distance, kinds, limits, reach, labels, parent, sizes, (last, before))
    parent, sizes = parent[:used], sizes[:used]
    if fragment:
        chains = last[:used], before
        sizes_and_gaps = np.float32(fragment), np.float32(fragment_gap), np.float32(down)
        join_fragments(axes, distance, kinds, labels, chains, parent, sizes, *sizes_and_gaps, few)
    return labels, _number(labels, parent)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def label_cells(
    axes: NDArray[np.float32],
    distance: NDArray[np.float32],
    kinds: NDArray[np.uint8],
    limits: tuple[np.float32, np.float32, np.float32, np.float32],
    reach: int,
    labels: NDArray[np.int32],
    parent: NDArray[np.int32],
    sizes: NDArray[np.int32],
    chains: tuple[NDArray[np.int32], NDArray[np.int32]],
) -> int:
    """Label cells, and tell how many labels there are: `parent` holds the component of each, `sizes` its cells.

    `limits`: `_joined`'s squares beside and above, and its other two. `chains`: see `join_fragments`. A cell takes the
    label of the one before it, or above it, or a new one. Pairs that have the same label already, which is most of
    them, are not looked at.
    """
    _, rows, columns = axes.shape
    square_beside, square_above, near, gap = limits
    newest, older = chains
    row_above = np.full(columns, -reach - 1)  # of the last measured cell in each column
    used = 0
    for r in range(rows):
        first, last = -1, -reach - 1  # measured cells of this row
        for c in range(columns):
            labels[r, c] = -1
            if distance[r, c] == 0:
                continue
            above, before = row_above[c], last
            row_above[c], last = r, c
            if first < 0:
                first = c
            if kinds[r, c] < OBJECT:
                continue
            beside = labels[r, before] if c - before <= reach else -1  # -1, too, where it is no object
            higher = labels[above, c] if r - above <= reach else -1
            label = -1
            if beside >= 0 and _joined(axes, distance, r, c, r, before, square_beside, near, gap):
                label = beside
            if higher >= 0 and higher != label and _joined(axes, distance, r, c, above, c, square_above, near, gap):
                if label >= 0:
                    _unite(parent, label, higher)
                label = higher
            if label < 0:
                label = used
                parent[used] = used
                sizes[used], newest[used] = 0, -1
                used += 1
            labels[r, c] = label
            sizes[label] += 1
            older[r * columns + c] = newest[label]
            newest[label] = r * columns + c
        over_seam = 0 <= first < last and first + columns - last <= reach
        both = over_seam and labels[r, first] >= 0 and labels[r, last] >= 0
        if both and _joined(axes, distance, r, first, r, last, square_beside, near, gap):
            _unite(parent, labels[r, first], labels[r, last])
    for label in range(used):  # roots come first, so that one step up is enough
        if parent[label] != label:
            parent[label] = parent[parent[label]]
            sizes[parent[label]] += sizes[label]
    return used


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _number(labels: NDArray[np.int32], root: NDArray[np.int32]) -> int:
    """Number components without gaps in the order of their first labels, and return how many there are."""
    number = np.full(len(root), -1, np.int32)
    count = 0
    for label in range(len(root)):
        if number[root[label]] < 0:
            number[root[label]] = count
            count += 1
    for label in range(len(root)):  # in place: what a root is called is not needed any more
        root[label] = number[root[label]]
    cells = labels.reshape(-1)
    for k in range(cells.size):
        if cells[k] >= 0:
            cells[k] = root[cells[k]]
    return count


@numba.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _joined(
    axes: NDArray[np.float32],
    distance: NDArray[np.float32],
    r: int,
    c: int,
    s: int,
    d: int,
    square: np.float32,
    near: np.float32,
    gap: np.float32,
) -> bool:
    """Whether points are near (`near` is a square), or beta is large enough.

    That is the cosine of the angle between the farther beam and the line to the nearer point.
    With the line d from the near to the far point f: cos beta = d.f / (|d| |f|), and beta > angle when
    |d|^2 |f|^2 > (1 + tan(angle)^2) (d.f)^2, which needs no root.
    """
    far, other = distance[r, c], distance[s, d]
    if abs(far - other) > gap:
        return False
    x, y, z = axes[0, r, c], axes[1, r, c], axes[2, r, c]
    u, v, w = axes[0, s, d], axes[1, s, d], axes[2, s, d]
    dx, dy, dz = x - u, y - v, z - w
    apart = dx * dx + dy * dy + dz * dz
    along = dx * x + dy * y + dz * z
    if far < other:
        along, far = -dx * u - dy * v - dz * w, other
    return bool(apart < near or along <= 0 or apart * far * far > square * along * along)


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
