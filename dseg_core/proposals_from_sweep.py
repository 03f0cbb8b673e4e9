"""Proposals: a sweep split into ground and objects, by geometry alone (METHOD of Drive&Segment, section 3.1)."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled
from dseg_core.errors import DsegError
from dseg_core.lidar.clustering import components
from dseg_core.lidar.euclidean import components_by_distance, ground_by_height
from dseg_core.lidar.ground import GROUND, NONE, OBJECT, ground_of
from dseg_core.lidar.points import Points, points_of
from dseg_core.lidar.range_image import range_image
from dseg_core.lidar.rows import Rows, rows_of
from dseg_core.lidar.scratch import Scratch
from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND, REGION_NONE, Sweep
from dseg_core.stage_options import ProposalOptions

_scratch = Scratch()
_MOST_OBJECTS = 2**16 - 1 - REGION_FIRST_OBJECT
_NEAR_SQUARE = np.float32(0.25)  # of the distance of points that share a cell, square metres


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
    points = points_of(sweep.xyz)
    rows = None if options.method == "euclidean" else rows_of(sweep, points)
    if rows is None and options.method == "range_image":
        raise DsegError(
            f"points of {sweep.frame_id} have no ring, no rows and no order of beams",
            fix="Use --proposals.method euclidean",
        )
    labels, counts = _by_distance(sweep.xyz, points, options) if rows is None else _by_beams(points, rows, options)
    found = np.empty(len(sweep), dtype=np.uint16)
    _name(labels, _ids(counts, options.min_points), found)
    return found


Split: TypeAlias = tuple[NDArray[np.int32], NDArray[np.int64]]
"""Each point's label, int32 (N,): 0 none, 1 ground, 2.. objects; and how many points each object has, int64 (L,)."""


def _by_beams(points: Points, rows: Rows, options: ProposalOptions) -> Split:
    """Range image, ground as a height field, components by the angle criterion."""
    image = range_image(points, rows, options.columns)
    kind = ground_of(image, float(np.deg2rad(options.ground_slope)), options.kerb)
    kinds = _scratch.take("kinds", image.index.shape, np.uint8)
    _of_cells(kind, image.index.reshape(-1), kinds.reshape(-1))
    angles = float(np.deg2rad(options.angle)), float(np.deg2rad(options.angle_between))
    labels, count = components(
        image.axes, image.distance, kinds, angles, options.near, options.gap, options.hole + 1,
        options.fragment, options.fragment_gap, rows.apart(), options.min_points,
        image.columns,
    )  # fmt: skip
    label, counts = _scratch.take("label", len(points), np.int32), np.zeros(count, dtype=np.int64)
    _spread(points.axes, image.index.reshape(-1), image.cell, kind, labels.reshape(-1), label, counts)
    return label, counts


def _by_distance(xyz: NDArray[np.float32], points: Points, options: ProposalOptions) -> Split:
    """Ground by a grid of heights, components of voxels."""
    slope = float(np.tan(np.deg2rad(options.ground_slope)))
    measured = np.flatnonzero(points.distance)
    ground = ground_by_height(xyz[measured], 1.0, 0.2, slope)
    labels = np.zeros(len(xyz), dtype=np.int32)
    labels[measured[ground]] = REGION_GROUND
    objects = components_by_distance(xyz[measured[~ground]], options.distance)
    labels[measured[~ground]] = objects + REGION_FIRST_OBJECT
    return labels, np.bincount(objects)


def _ids(counts: NDArray[np.int64], min_points: int) -> NDArray[np.uint16]:
    """The id of each label, from the objects' numbers of points: large ones first, none for those with too few."""
    kept = np.flatnonzero(counts >= min_points)
    kept = kept[np.argsort(-counts[kept], kind="stable")][:_MOST_OBJECTS]
    ids = np.full(REGION_FIRST_OBJECT + len(counts), REGION_NONE, dtype=np.uint16)
    ids[REGION_GROUND] = REGION_GROUND
    ids[REGION_FIRST_OBJECT + kept] = np.arange(REGION_FIRST_OBJECT, REGION_FIRST_OBJECT + len(kept))
    return ids


@compiled
def _of_cells(kind: NDArray[np.uint8], index: NDArray[np.int32], kinds: NDArray[np.uint8]) -> None:
    """Of each cell, that of its nearest point."""
    for k in range(len(index)):
        kinds[k] = kind[index[k]] if index[k] >= 0 else np.uint8(NONE)


@compiled
def _spread(
    axes: NDArray[np.float32],
    index: NDArray[np.int32],
    cell: NDArray[np.int32],
    kind: NDArray[np.uint8],
    labels: NDArray[np.int32],
    label: NDArray[np.int32],
    counts: NDArray[np.int64],
) -> None:
    """From cells to points: those that share a cell go with its nearest when they are near it."""
    current, count = np.int32(0), 0  # of a run of points: an addition to what was just written would wait for it
    for i in range(len(cell)):
        if kind[i] < OBJECT:
            label[i] = kind[i] if kind[i] == GROUND else REGION_NONE
            continue
        label[i] = REGION_NONE
        k = cell[i]
        if k < 0 or labels[k] < 0:  # the cell's nearest point may be no object
            continue
        j = index[k]
        if i != j:
            far = (axes[0, i] - axes[0, j]) ** 2 + (axes[1, i] - axes[1, j]) ** 2 + (axes[2, i] - axes[2, j]) ** 2
            if far > _NEAR_SQUARE:
                continue
        label[i] = REGION_FIRST_OBJECT + labels[k]
        if labels[k] != current:
            counts[current] += count
            current, count = labels[k], 0
        count += 1
    if count:
        counts[current] += count


@compiled
def _name(labels: NDArray[np.int32], ids: NDArray[np.uint16], found: NDArray[np.uint16]) -> None:
    """The id of each point from that of its label: a third of the time of `numpy.take`, which takes int64 only."""
    for i in range(len(found)):
        found[i] = ids[np.uint32(labels[i])]
