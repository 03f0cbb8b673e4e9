"""Objects of a range image: connected components under the angle criterion."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled
from dseg_core.lidar.cell_labels import RowMemory, label_cells
from dseg_core.lidar.cell_links import WIDEST
from dseg_core.lidar.fragment_memory import Found
from dseg_core.lidar.fragments import join_fragments
from dseg_core.lidar.runs import LANES, Runs
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
    columns: int = 0,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Label cells (Bogoslavskyi & Stachniss 2016, section IV).

    Two cells are joined when the surface through their points is seen under more than an angle: beta = atan2(d2 sin a,
    d1 - d2 cos a), d1 the longer range, a the angle between the beams. Neighbours are the next cells to the right, over
    the seam, and below, empty cells in between passed over; `gap` bounds the depth step, because beams far apart make
    beta large across any distance. Beams are farther apart than the points of one, so that the same angle would bridge
    more between them, such as from a head to the wall behind it: there it is larger. Points that are `near` are joined
    at any angle, else bonnets and roofs, which are seen edge on, would fall apart [both ours].

    Args:
        axes: float32 (3, R, C), x, y and z of each cell's point, metres, LiDAR frame.
        distance: float32 (R, C), metres from the LiDAR, 0 where a cell is empty; C is at most WIDEST.
        kinds: uint8 (R, C), of the ground's kinds; objects' cells are clustered, high or not.
        angles: Smallest beta between cells of one beam, and of two, radians.
        near: Points nearer to each other are joined, metres.
        gap: Largest depth step, metres.
        reach: Cells that a hole may have, plus one.
        fragment: Area of the largest component that may join another, square metres, see `join_fragments`; 0: none.
        fragment_gap: Its farthest distance to the other one, metres.
        down: Angle between beams, radians.
        few: Cells below which components are nothing by themselves, see there, too.
        columns: Of a turn; those beyond are empty. 0: all.

    Returns:
        int32 (R, C): labels from 0, in the order of their first cells, row by row; -1 where there is no object. And
        int64 (L,), how many cells have each. The labels' memory is used anew for the thread's next call.
    """
    cells = _scratch.take("labels", distance.size + LANES, np.int32)
    labels, parent = cells[: distance.size].reshape(distance.shape), _scratch.take("parent", distance.size, np.int32)
    beside, above = (np.float32(1.0 + math.tan(angle) ** 2) for angle in angles)
    limits = (beside, above, np.float32(near * near), np.float32(gap))
    sizes, *of_runs = (_scratch.take(k, distance.size, np.int32) for k in ("sizes", *Runs._fields))
    runs, turn = Runs(*of_runs), columns or distance.shape[1]
    width = distance.shape[1]
    point, last = _scratch.take("point", 4 * WIDEST, np.float32), _scratch.take("last", 2 * WIDEST, np.int32)
    flags, marked = _scratch.take("flags", (4, width), np.bool_), _scratch.take("marked", width + 1, np.int32)
    memory = RowMemory(point, last, flags[0], flags[1], flags[2], flags[3], marked)
    used = label_cells(axes, distance, kinds, limits, reach, cells, parent, sizes, runs, memory, turn)
    parent, sizes = parent[:used], sizes[:used]
    if fragment:
        sizes_and_gaps = np.float32(fragment), np.float32(fragment_gap), np.float32(down)
        chosen = _scratch.take("chosen", distance.size, np.int32)
        join_fragments(
            axes, distance, kinds, labels, runs, parent, sizes, *sizes_and_gaps, few, turn, Found.of(used), chosen
        )
    return labels, _number(labels, parent, sizes)


@compiled
def _number(labels: NDArray[np.int32], root: NDArray[np.int32], sizes: NDArray[np.int32]) -> NDArray[np.int64]:
    """Number components without gaps in the order of their first labels, and return how many cells each has, int64."""
    number = np.empty(len(root) + 1, np.int32)  # of each label + 1, so that no label needs no branch
    number[:] = -1
    counts, count = np.empty(len(root), np.int64), 0
    for label in range(len(root)):
        if number[root[label] + 1] < 0:
            number[root[label] + 1] = count
            counts[count] = sizes[root[label]]
            count += 1
    for label in range(len(root)):
        number[label + 1] = number[root[label] + 1]
    cells = labels.reshape(-1)
    for k in range(cells.size):
        cells[k] = number[np.uint32(cells[k] + 1)]
    return counts[:count]
