"""Slivers of a surface that is seen at a grazing angle, joined where their points continue one plane [ours]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled_within
from dseg_core.lidar.kind_from_field import HIGH
from dseg_core.lidar.runs import Runs
from dseg_core.lidar.union import root as root_of
from dseg_core.lidar.union import unite

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
    """
    first, length, _, newest = runs
    beside, votes, leads = np.empty_like(root), np.zeros_like(root), np.empty_like(root)
    count, joined, end = np.int64(0), 0, np.int64(columns)  # of runs; where the row of the run ends
    for label in range(len(root)):
        count = max(count, np.int64(newest[label]) + 1)
        beside[label], leads[label] = -1, label
    for k in range(count - 1):
        c = np.int64(first[k]) + np.int64(length[k])  # the next run's first cell, if it is a neighbour
        if first[k + 1] != c:
            continue
        one, other = np.int64(root[np.uint32(labels[c - 1])]), np.int64(root[np.uint32(labels[c])])
        square = reach[c] * reach[c]
        fewer, more = min(sizes[one], sizes[other]), max(sizes[one], sizes[other])
        if one == other or np.float32(more) * square > largest or np.float32(fewer) * square > _SMALL * largest:
            continue
        while end < c:
            end += columns
        if c == end or kind[c - 1] == HIGH or kind[c] == HIGH:
            continue
        if beside[one] != other:
            joined += _unite(one, beside, votes, leads, sizes)
            beside[one], votes[one] = other, 0
        left, right = c + columns - 2 >= end and labels[c - 2] >= 0, c + 1 < end and labels[c + 1] >= 0
        to_left = left and _continues(reach[c - 2], reach[c - 1], reach[c])
        to_right = right and _continues(reach[c + 1], reach[c], reach[c - 1])
        bent = left and not to_left and root[labels[c - 2]] == one
        bent |= right and not to_right and root[labels[c + 1]] == other
        votes[one] += 1 if (to_left or to_right) and not bent else -1
    for label in range(len(root)):
        joined += _unite(np.int64(label), beside, votes, leads, sizes)
    for label in range(len(root) if joined else 0):
        root[label] = root_of(leads, np.int64(root[label]))


@compiled_within
def _continues(before: np.float32, here: np.float32, after: np.float32) -> bool:
    """Whether the ranges of three neighbouring cells are those of a plane."""
    step, expected = abs(after - here), here * before / (_TWO * before - here)
    near = (step < _LONGEST) & (abs(here - before) < _LONGEST)
    return bool(near & (abs(expected - after) < _LEAST + _SHARE * step))


@compiled_within
def _unite(
    one: np.int64,
    beside: NDArray[np.int32],
    votes: NDArray[np.int32],
    leads: NDArray[np.int32],
    sizes: NDArray[np.int32],
) -> int:
    """Join a component and the one beside it if enough rows are for it. 1 if they were two."""
    if votes[one] < _ENOUGH:
        return 0
    a, b = root_of(leads, one), root_of(leads, np.int64(beside[one]))
    if a == b:
        return 0
    unite(leads, a, b)
    sizes[min(a, b)] += sizes[max(a, b)]
    return 1
