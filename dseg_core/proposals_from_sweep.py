"""Proposals: a sweep split into ground and objects, by geometry alone (METHOD of Drive&Segment, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled
from dseg_core.lidar.by_beams import by_range_image
from dseg_core.lidar.by_distance import by_density, by_distance
from dseg_core.lidar.points import Points, points_of
from dseg_core.lidar.rows import rows_of
from dseg_core.lidar.split import Split
from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND, REGION_NONE, Sweep
from dseg_core.stage_options import ProposalOptions


class Method(Protocol):
    """A way to split a sweep: it is given the sweep, its points taken apart, the options, and what turns to level."""

    def __call__(
        self, sweep: Sweep, points: Points, options: ProposalOptions, R_level: NDArray[np.float64] | None, /
    ) -> Split:
        """Split it. Raises DsegError where it cannot."""


METHODS: Mapping[str, Method] = {
    "range_image": by_range_image,
    "euclidean": by_distance,
    "hdbscan": by_density,
}
"""By the names of `ProposalOptions.method`."""

_MOST_OBJECTS = 2**16 - 1 - REGION_FIRST_OBJECT


def proposals_from_sweep(
    sweep: Sweep, options: ProposalOptions, R_level: NDArray[np.float64] | None = None
) -> NDArray[np.uint16]:
    """Label every point of a sweep.

    Args:
        sweep: As measured, in the LiDAR's frame.
        options: Method and thresholds. `auto` takes the range image where beams are known or can be recovered.
        R_level: (3, 3), turns the LiDAR's frame into one whose z is up; None where its own is, to within some degrees:
            ground is sought up to `ground_slope` of level.

    Returns:
        uint16 (N,): 0 none, 1 ground, 2.. objects, larger objects first.

    Raises:
        DsegError: `range_image` was asked for, and the points have no beams; a library is asked for that is missing.
    """
    if not len(sweep):
        return np.zeros(0, dtype=np.uint16)
    points = points_of(sweep.xyz)
    split = METHODS[method_of(sweep, options, points)](sweep, points, options, R_level)
    found = np.empty(len(sweep), dtype=np.uint16)
    _name(split.labels, ids_by_size(split.sizes, options.min_points), found)
    return found


def method_of(sweep: Sweep, options: ProposalOptions, points: Points | None = None) -> str:
    """The method that is taken for a sweep, one of METHODS: what `auto` stands for with it."""
    if options.method != "auto":
        return options.method
    return "euclidean" if rows_of(sweep, points) is None else "range_image"


def ids_by_size(sizes: NDArray[np.int64], min_points: int) -> NDArray[np.uint16]:
    """The id of each label of a `Split`: large objects first, equally large ones in their order.

    Args:
        sizes: int64 (L,), of each object, how many points it has.
        min_points: Objects of fewer have none, nor have those for which there are no more numbers.

    Returns:
        uint16 (L + 2,), of no object, ground, and each object.
    """
    ids = np.full(REGION_FIRST_OBJECT + len(sizes), REGION_NONE, dtype=np.uint16)
    ids[REGION_GROUND] = REGION_GROUND
    _number(sizes, min_points, ids[REGION_FIRST_OBJECT:])
    return ids


@compiled
def _number(sizes: NDArray[np.int64], few: int, ids: NDArray[np.uint16]) -> None:
    """Number objects by falling size, equally large ones in their order; those of fewer points stay as they are.

    `np.argsort` and what it takes besides cost eight calls, more than the work.
    """
    largest = 0
    for size in sizes:
        largest = max(largest, size)
    before = np.zeros(largest + 2, np.int64)  # of each size, how many objects are numbered before
    for size in sizes:
        before[size] += 1
    more = 0
    for size in range(largest, -1, -1):
        count = before[size]
        before[size] = more
        more += count
    for k, size in enumerate(sizes):
        if size >= few and before[size] < _MOST_OBJECTS:
            ids[k] = REGION_FIRST_OBJECT + before[size]
        before[size] += 1


@compiled
def _name(labels: NDArray[np.int32], ids: NDArray[np.uint16], found: NDArray[np.uint16]) -> None:
    """The id of each point from that of its label: a third of the time of `numpy.take`, which takes int64 only."""
    for i in range(len(found)):
        found[i] = ids[np.uint32(labels[i])]
