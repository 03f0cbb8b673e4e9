"""Labels of a range image's cells that are joined, and which labels are of one component: one pass over its rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.cell_links import (
    is_joined,
    keep_links,
    keep_measured,
    keep_measured_labels,
    keep_row,
    link,
    list_marks,
    mark_changes,
    mark_objects,
    spread_labels,
)
from dseg_core.lidar.union import unite


class RowMemory(NamedTuple):
    """Working memory for one row of C cells. Arrays of their own, which the compiler can tell apart.

    Of the last measured cell in each column: `point`, float32 (4, C), x, y, z and distance; `label` and `row`, int32
    (C,), -1 before the first. Of this row, bool (C,): `things`, cells of objects; `beside`, joined with the cell to the
    left; `upwards`, with the last measured one above; `marks`, see `mark_changes`, and `marked`, a list of them, int32
    (C + 1,).
    """

    point: NDArray[np.float32]
    label: NDArray[np.int32]
    row: NDArray[np.int32]
    things: NDArray[np.bool_]
    beside: NDArray[np.bool_]
    upwards: NDArray[np.bool_]
    marks: NDArray[np.bool_]
    marked: NDArray[np.int32]

    @classmethod
    def of(cls, columns: int) -> RowMemory:
        """For rows of so many cells."""
        label, row = np.full((2, columns), -1, np.int32)
        things, beside, upwards, marks = (np.zeros(columns, np.bool_) for _ in range(4))
        point, marked = np.zeros((4, columns), np.float32), np.zeros(columns + 1, np.int32)
        return cls(point, label, row, things, beside, upwards, marks, marked)


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
    chains: tuple[NDArray[np.int32], NDArray[np.int32]],
    row: RowMemory,
    turn: int,
) -> int:
    """Label cells, and tell how many labels there are: `parent` holds the component of each, `sizes` its cells.

    A cell takes the label of the one before it, or above it, or a new one. Loops over a row find where that may be
    another label than the cell's before: only there, at one cell of eight, is anything decided.

    `limits`: `is_joined`'s squares beside and above, and its other two. `chains`: see `join_fragments`. `turn`: how
    many columns a turn has; those beyond are empty.
    """
    square_beside, square_above, near, gap = limits
    above, older, used = row.point, chains[1], np.int64(0)
    for k in range(len(older)):
        older[k] = k - 1
    for r in range(len(distance)):
        x, y, z, far, found = axes[0, r], axes[1, r], axes[2, r], distance[r], labels[r]
        mark_objects(kinds[r], row.things)
        link(x[1:], y[1:], z[1:], far[1:], x, y, z, far, square_beside, near, gap, row.beside[1:])
        link(x, y, z, far, above[0], above[1], above[2], above[3], square_above, near, gap, row.upwards)
        keep_links(row.things, row.label, row.row, np.int32(max(r - reach, 0)), row.upwards)
        mark_changes(row.things, row.beside, row.upwards, row.label, row.marks)
        marked = list_marks(row.marks, row.marked)
        used = _label_marked(axes[:, r], far, r, marked, limits, reach, found, parent, sizes, chains, row, used)
        spread_labels(row.things, row.marks, found)
        _close(axes[:, r], far[:turn], limits, reach, found, parent)
        for k in range(4):
            keep_measured(far, axes[k, r] if k < 3 else far, above[k])
        keep_measured_labels(far, found, row.label)
        keep_row(far, np.int32(r), row.row)
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
    chains: tuple[NDArray[np.int32], NDArray[np.int32]],
    row: RowMemory,
    used: np.int64,
) -> np.int64:
    """Label the `marked` cells of row `r`, and count and chain those behind them that take their label, too.

    `axes`: float32 (3, C) and `distance`, float32 (C,), of the row. `found`: int32 (C,), its labels. `used`: how many
    labels there are; returned as there are now.
    """
    newest, older = chains
    before = np.int64(-1)  # label of the object's cell before; numbers of one type, else functions are compiled again
    for j in range(marked):
        c, end = np.int64(row.marked[j]), np.int64(row.marked[j + 1])
        if not row.things[c]:
            continue
        back = 1
        while back < reach and back < c and distance[c - back] == 0:
            back += 1
        label, higher = before if back <= c and row.things[c - back] else np.int64(-1), np.int64(row.label[c])
        if label >= 0 and not (row.beside[c] if back == 1 else _is_joined(axes, distance, c, c - back, limits)):
            label = np.int64(-1)
        if row.upwards[c] and higher != label:
            if label >= 0:
                unite(parent, label, higher)
            label = higher
        if label < 0:
            label = used
            parent[label], sizes[label], newest[label] = label, 0, -1
            used += np.int64(1)
        found[c] = before = label
        sizes[label] += end - c
        start = r * distance.size
        older[start + c], newest[label] = newest[label], start + end - 1
    return used


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
