"""Proposals: a sweep split into ground and objects, by geometry alone (METHOD of Drive&Segment, section 3.1)."""

from __future__ import annotations

from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

from dseg_core.errors import DsegError
from dseg_core.lidar.clustering import components
from dseg_core.lidar.euclidean import components_by_distance, ground_by_height
from dseg_core.lidar.ground import GROUND, OBJECT, ground_of
from dseg_core.lidar.range_image import Rows, polar, range_image, rows_of
from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND, REGION_NONE, Sweep
from dseg_core.stage_options import ProposalOptions

_MOST_OBJECTS = 2**16 - 1 - REGION_FIRST_OBJECT


def proposals_from_sweep(sweep: Sweep, options: ProposalOptions) -> NDArray[np.uint16]:
    """Label every point of a sweep.

    Args:
        sweep: As measured, in the LiDAR's frame, z roughly up.
        options: Method and thresholds. `auto` takes the range image where beams are known or can be recovered.

    Returns:
        uint16 (N,): 0 none, 1 ground, 2.. objects, larger objects first.

    Raises:
        DsegError: `range_image` was asked for, and the points have no beams.
    """
    if not len(sweep):
        return np.zeros(0, dtype=np.uint16)
    rows = None if options.method == "euclidean" else rows_of(sweep)
    if rows is None and options.method == "range_image":
        raise DsegError(
            f"points of {sweep.frame_id} have no ring, no rows and no order of beams",
            fix="Use --proposals.method euclidean",
        )
    if rows is None:
        ground, labels, counts = _by_distance(sweep.xyz, options)
    else:
        ground, labels, counts = _by_beams(sweep.xyz, rows, options)
    return np.asarray(_numbered(ground, labels, _ids(counts, options.min_points)))


Split: TypeAlias = tuple[NDArray[np.bool_], NDArray[np.int32], NDArray[np.int64]]
"""Ground points, bool (N,); each point's object, -1 none, int32 (N,); how many points each object has, int64 (L,)."""


def _by_beams(xyz: NDArray[np.float32], rows: Rows, options: ProposalOptions) -> Split:
    """Range image, ground as a height field, components by the angle criterion."""
    image = range_image(xyz, rows, options.columns)
    kind = ground_of(xyz, image, float(np.deg2rad(options.ground_slope)), options.kerb)
    labels = components(
        xyz, rows.distance, image.index, kind == OBJECT, float(np.deg2rad(options.angle)), options.gap, options.hole + 1
    )
    label, counts = _spread(xyz, image.index, kind, labels, rows.row, image.column)
    return kind == GROUND, label, counts


def _by_distance(xyz: NDArray[np.float32], options: ProposalOptions) -> Split:
    """Ground by a grid of heights, components of voxels."""
    slope = float(np.tan(np.deg2rad(options.ground_slope)))
    _, distance, _ = polar(xyz)
    measured = np.flatnonzero(distance > 0)
    ground = np.zeros(len(xyz), dtype=np.bool_)
    ground[measured] = ground_by_height(xyz[measured], 1.0, 0.2, slope)
    labels = np.full(len(xyz), -1, dtype=np.int32)
    above = measured[~ground[measured]]
    labels[above] = components_by_distance(xyz[above], options.distance)
    return ground, labels, np.bincount(labels[above])


def _ids(counts: NDArray[np.int64], min_points: int) -> NDArray[np.uint16]:
    """The id of each label, from its number of points: large ones first, none for those with too few."""
    kept = np.flatnonzero(counts >= min_points)
    kept = kept[np.argsort(-counts[kept], kind="stable")][:_MOST_OBJECTS]
    ids = np.full(len(counts), REGION_NONE, dtype=np.uint16)
    ids[kept] = np.arange(REGION_FIRST_OBJECT, REGION_FIRST_OBJECT + len(kept))
    return ids


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _numbered(ground: NDArray[np.bool_], labels: NDArray[np.int32], ids: NDArray[np.uint16]) -> NDArray[np.uint16]:
    proposals = np.full(len(labels), REGION_NONE, dtype=np.uint16)
    for i in range(len(labels)):
        if ground[i]:
            proposals[i] = REGION_GROUND
        elif labels[i] >= 0:
            proposals[i] = ids[labels[i]]
    return proposals


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _spread(
    xyz: NDArray[np.float32],
    index: NDArray[np.int32],
    kind: NDArray[np.uint8],
    labels: NDArray[np.int32],
    row: NDArray[np.int32],
    column: NDArray[np.int32],
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """From cells to points: those that share a cell go with its nearest when they are near it."""
    label = np.full(len(xyz), -1, dtype=np.int32)
    counts = np.zeros(index.size, dtype=np.int64)
    for i in range(len(xyz)):
        if kind[i] != OBJECT:
            continue
        r, c = row[i], column[i]
        j = index[r, c]
        if i != j:
            far = (xyz[i, 0] - xyz[j, 0]) ** 2 + (xyz[i, 1] - xyz[j, 1]) ** 2 + (xyz[i, 2] - xyz[j, 2]) ** 2
            if far > 0.25:
                continue
        if labels[r, c] >= 0:  # else the cell's nearest point is no object
            label[i] = labels[r, c]
            counts[labels[r, c]] += 1
    return label, counts
