"""Slivers of a surface that is seen at a grazing angle, joined where their points continue one plane [ours]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled_within
from dseg_core.lidar.fragment_memory import Found
from dseg_core.lidar.kind_from_field import HIGH
from dseg_core.lidar.runs import Runs
from dseg_core.lidar.union import root as root_of

_LONGEST = np.float32(1.5)  # step in range, metres
_LEAST, _SHARE = np.float32(0.1), np.float32(0.1)  # metres, and share of the step, that a point may lie off the plane
_ENOUGH = 3  # so many rows more in which two slivers continue each other than in which they do not
_SMALL = np.float32(0.125)  # of the largest fragment's area: no sliver is larger
_TWO = np.float32(2.0)


@compiled_within
def join_slivers(
    reach: NDArray[np.float32],
    kind: NDArray[np.uint8],
    labels: NDArray[np.int32],
    runs: Runs,
    root: NDArray[np.int32],
    sizes: NDArray[np.int32],
    largest: np.float32,
    columns: int,
    around: int,
    found: Found,
) -> None:
    """Join small components that are neighbours in several rows, and in most of them continue a plane's line.

    On a car's side that is seen at 8 degrees, points of neighbouring columns are farther apart than any angle or
    distance joins that keeps people apart from cars. But they are where a plane puts them: inverse ranges of cells side
    by side are even on a plane, as disparities are. A person beside a car, and a post before a wall, are not where the
    car's or the wall's plane goes on, nor is the car's where theirs does. Cells of either side that are one component
    already must be on the line, too.

    Args:
        reach: float32 (R * C,), metres, of each cell.
        kind: uint8 (R * C,), of the ground's kinds: leaves, which are HIGH, make lines by chance.
        labels: int32 (R * C,), -1 where there is no object.
        runs: The cells of each label.
        root: int32 (L,), the component that each label is part of, one of its labels; is changed.
        sizes: int32 (L,), cells of each component, at its root; is changed, too.
        largest: Cells times square of range of the largest component that joins or is joined.
        columns: C.
        around: Columns of a turn; those beyond are empty.
        found: For L components, of which nothing is known.
    """
    first, length, before, newest = runs
    beside, votes, leads = found.beside, found.votes, found.leads
    joined = 0
    for label in range(len(root)):
        own, run = np.int64(root[label]), np.int64(newest[label])
        square = reach[first[run]] * reach[first[run]]
        if sizes[own] < _ENOUGH or np.float32(sizes[own]) * square > _SMALL * largest:
            continue
        while run >= 0:
            for side in range(2):  # to the left, and to the right
                start = np.int64(np.uint32(first[run]) // np.uint32(columns)) * columns
                c = np.int64(first[run]) + np.int64(length[run]) * side - start  # column behind the border
                two, one = start + _on(c - 2, around), start + _on(c - 1, around)
                here, next_one = start + _on(c, around), start + _on(c + 1, around)
                there = here if side else one
                if labels[there] < 0:
                    continue
                other = np.int64(root[np.uint32(labels[there])])
                if other == own or kind[there] == HIGH or np.float32(sizes[other]) * square > largest:
                    continue
                left, right = labels[two] >= 0, labels[next_one] >= 0
                to_left = left and _continues(reach[two], reach[one], reach[here])
                to_right = right and _continues(reach[next_one], reach[here], reach[one])
                bent = left and not to_left and root[labels[two]] == root[labels[one]]
                bent |= right and not to_right and root[labels[next_one]] == root[labels[here]]
                if beside[side, own] != other:
                    if votes[side, own] >= _ENOUGH:
                        joined += _unite(own, np.int64(beside[side, own]), leads, sizes)
                    beside[side, own], votes[side, own] = other, 0
                votes[side, own] += 1 if (to_left or to_right) and not bent else -1
            run = np.int64(before[run])
    for side in range(2):
        for label in range(len(root)):
            if votes[side, label] >= _ENOUGH:
                joined += _unite(np.int64(label), np.int64(beside[side, label]), leads, sizes)
    for label in range(len(root) if joined else 0):  # the smaller numbers lead, so that one step is enough
        leads[label] = leads[leads[label]]
        root[label] = leads[root[label]]
        found.sides[leads[label]] |= leads[label] != label


@compiled_within
def _on(column: np.int64, around: int) -> np.int64:
    """A column, over the seam."""
    return column + around if column < 0 else column - around if column >= around else column


@compiled_within
def _continues(before: np.float32, here: np.float32, after: np.float32) -> bool:
    """Whether the ranges of three neighbouring cells are those of a plane."""
    step, expected = abs(after - here), here * before / (_TWO * before - here)
    near = (step < _LONGEST) & (abs(here - before) < _LONGEST)
    return bool(near & (abs(expected - after) < _LEAST + _SHARE * step))


@compiled_within
def _unite(one: np.int64, other: np.int64, leads: NDArray[np.int32], sizes: NDArray[np.int32]) -> int:
    """Join two components. 1 if they were two."""
    a, b = root_of(leads, one), root_of(leads, other)
    if a == b:
        return 0
    leads[max(a, b)] = min(a, b)
    sizes[min(a, b)] += sizes[max(a, b)]
    return 1
