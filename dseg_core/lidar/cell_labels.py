"""Labels of a range image's cells that are joined, and which labels are of one component: one pass over its rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.cell_links import (
    WIDEST,
    is_joined,
    keep_beside,
    keep_labels,
    keep_links,
    keep_points,
    link,
    link_up,
    list_marks,
    mark_changes,
    mark_objects,
)
from dseg_core.lidar.runs import LANES, Runs, write_run
from dseg_core.lidar.union import unite

_ZERO = np.float32(0.0)


class RowMemory(NamedTuple):
    """Working memory for one row of C cells. Arrays of their own, which the compiler can tell apart.

    Of the last measured cell in each column: `point`, float32 (4 * WIDEST,), x, y, z and distance; `label` and, WIDEST
    behind it, its row: int32 (2 * WIDEST,), -1 before the first. Of this row, bool (C,): `things`, cells of objects;
    `beside`, joined with the cell to the left; `upwards`, with the last measured one above; `marks`, see
    `mark_changes`, and `marked`, a list of them, int32 (C + 1,).
    """

    point: NDArray[np.float32]
    label: NDArray[np.int32]
    things: NDArray[np.bool_]
    beside: NDArray[np.bool_]
    upwards: NDArray[np.bool_]
    marks: NDArray[np.bool_]
    marked: NDArray[np.int32]


@compiled
def label_cells(
    axes: NDArray[np.float32],
    distance: NDArray[np.float32],
    kinds: NDArray[np.uint8],
    limits: tuple[np.float32, np.float32, np.float32, np.float32],
    reach: int,
    labels: NDArray[np.int32],
    parent: NDArray[np.int32],
    sizes: NDArray[np.int32],
    runs: Runs,
    row: RowMemory,
    turn: int,
) -> int:
    """Label cells, and tell how many labels there are: `parent` holds the component of each, `sizes` its cells.

    A cell takes the label of the one before it, or above it, or a new one. Loops over a row find where that may be
    another label than the cell's before: only there, at one cell of eight, is anything decided.

    `limits`: `is_joined`'s squares beside and above, and its other two. `labels`: int32 (R * C + LANES,), row by row.
    `runs`: is filled. `row`: working memory. `turn`: how many columns a turn has; those beyond are empty.
    """
    square_beside, square_above, near, gap = limits
    rows, columns = distance.shape
    label_above, row_above = row.label[:columns], row.label[WIDEST : WIDEST + columns]
    row.label[: WIDEST + columns] = -1
    row.point[: 3 * WIDEST + columns] = _ZERO
    row.beside[0] = False
    counts = np.int64(0), np.int64(0)
    for r in range(rows):
        x, y, z, far = axes[0, r], axes[1, r], axes[2, r], distance[r]
        found = labels[r * columns : (r + 1) * columns + LANES]
        mark_objects(kinds[r], row.things)
        link(x[1:], y[1:], z[1:], far[1:], x, y, z, far, square_beside, near, gap, row.beside[1:])
        link_up(x, y, z, far, row.point, square_above, near, gap, row.upwards)
        keep_links(row.things, label_above, row_above, np.int32(max(r - reach, 0)), row.upwards)
        keep_beside(row.things, row.beside)
        mark_changes(row.things, row.beside, row.upwards, label_above, row.marks)
        count = list_marks(row.marks, row.marked)
        counts = _label_marked(axes[:, r], far, r, count, limits, reach, found, parent, sizes, runs, row, counts)
        _close(axes[:, r], far[:turn], limits, reach, found, parent)
        keep_points(x, y, z, far, row.point)
        keep_labels(far, found, np.int32(r), row.label)
    used = counts[0]
    for label in range(used):  # roots come first, so that one step up is enough
        if parent[label] != label:
            parent[label] = parent[parent[label]]
            sizes[parent[label]] += sizes[label]
    return int(used)


@compiled_within
def _label_marked(
    axes: NDArray[np.float32],
    distance: NDArray[np.float32],
    r: int,
    marked: int,
    limits: tuple[np.float32, np.float32, np.float32, np.float32],
    reach: int,
    found: NDArray[np.int32],
    parent: NDArray[np.int32],
    sizes: NDArray[np.int32],
    runs: Runs,
    row: RowMemory,
    counts: tuple[np.int64, np.int64],
) -> tuple[np.int64, np.int64]:
    """Label the `marked` cells of row `r`, and those behind them that take their label, too: a run.

    There are few branches, which would often be guessed wrong: what a new label needs is written for one in any case.

    `axes`: float32 (3, C) and `distance`, float32 (C,), of the row. `found`: int32 (C + LANES,), its labels. `counts`:
    how many labels and runs there are; returned as there are now.
    """
    used, n = counts
    things, beside, upwards, marks, label_above = row.things, row.beside, row.upwards, row.marked, row.label
    first, length, older, newest = runs
    start, before = np.int64(r * len(distance)), np.int64(-1)  # label of the object's cell before
    for j in range(marked):
        c, end = np.uint64(marks[j]), np.int64(marks[j + 1])  # no branch for numbers below 0
        column, cells = np.int64(c), end - np.int64(c)
        if not things[c]:
            write_run(found, column, end, np.int32(-1))
            continue
        label, above = before if beside[c] else np.int64(-1), np.int64(label_above[c])
        if column > 1 and distance[np.uint64(column - 1)] == 0:
            back = np.int64(1)
            while back < reach and back < column and distance[np.uint64(column - back)] == 0:
                back += np.int64(1)
            if things[np.uint64(column - back)] and _is_joined(axes, distance, column, column - back, limits):
                label = before
        higher = above if upwards[c] else np.int64(-1)
        one, other = np.uint64(max(label, np.int64(0))), np.uint64(max(higher, np.int64(0)))
        if (label >= 0) & (higher >= 0) & (parent[one] != parent[other]):
            unite(parent, label, higher)
        label = higher if higher >= 0 else label
        new = np.uint64(used)
        parent[new], sizes[new], newest[new] = used, 0, -1
        is_new = label < 0
        label = used if is_new else label
        used += np.int64(is_new)
        before = label
        own, run = np.uint64(label), np.uint64(n)
        sizes[own] += cells
        first[run], length[run], older[run], newest[own] = start + column, cells, newest[own], n
        n += np.int64(1)
        write_run(found, column, end, np.int32(label))
    return used, n


@compiled_within
def _close(
    axes: NDArray[np.float32],
    distance: NDArray[np.float32],
    limits: tuple[np.float32, np.float32, np.float32, np.float32],
    reach: int,
    found: NDArray[np.int32],
    parent: NDArray[np.int32],
) -> None:
    """Join a row's first and last measured cell over the seam."""
    first, last = np.int64(0), np.int64(len(distance) - 1)
    while first < last and distance[first] == 0:
        first += np.int64(1)
    while first < last and distance[last] == 0:
        last -= np.int64(1)
    near_seam = first < last and first + len(distance) - last <= reach
    if near_seam and found[first] >= 0 and found[last] >= 0 and _is_joined(axes, distance, first, last, limits):
        unite(parent, np.int64(found[first]), np.int64(found[last]))


@compiled_within
def _is_joined(
    axes: NDArray[np.float32],
    distance: NDArray[np.float32],
    c: np.int64,
    d: np.int64,
    limits: tuple[np.float32, np.float32, np.float32, np.float32],
) -> bool:
    """Whether two cells of a row are joined."""
    square, _, near, gap = limits
    x, y, z, u, v, w = axes[0, c], axes[1, c], axes[2, c], axes[0, d], axes[1, d], axes[2, d]
    return is_joined(x, y, z, distance[c], u, v, w, distance[d], square, near, gap)
