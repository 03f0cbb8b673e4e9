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
                c = np.int64(first[run]) + np.int64(length[run]) * side  # the cell behind the border
                there = c - 1 + side
                if there < 0 or there >= len(labels) or labels[there] < 0:
                    continue
                other = np.int64(root[np.uint32(labels[there])])
                if other == own or kind[there] == HIGH or np.float32(sizes[other]) * square > largest:
                    continue
                column = np.int64(np.uint32(c) % np.uint32(columns))
                left, right = column > 1 and labels[c - 2] >= 0, 0 < column < columns - 1 and labels[c + 1] >= 0
                to_left = left and _continues(reach[c - 2], reach[c - 1], reach[c])
                to_right = right and _continues(reach[c + 1], reach[c], reach[c - 1])
                bent = left and not to_left and root[labels[c - 2]] == root[labels[c - 1]]
                bent |= right and not to_right and root[labels[c + 1]] == root[labels[c]]
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
