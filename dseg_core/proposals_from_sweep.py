"""Proposals: a sweep split into ground and spatially consistent objects."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from dseg_core.errors import DsegError
from dseg_core.lidar.clustering import cluster_points, cluster_range_image
from dseg_core.lidar.ground import GROUND, OBJECT, ground, ground_without_rows
from dseg_core.lidar.range_image import beam_rows, range_image
from dseg_core.records import REGION_GROUND, Sweep
from dseg_core.stage_options import ProposalOptions

_log = logging.getLogger(__name__)


def proposals_from_sweep(sweep: Sweep, options: ProposalOptions) -> NDArray[np.uint16]:
    """Split a sweep into ground and objects.

    Range image: ground by a height field (`lidar.ground`), objects by the angle between neighbouring beams
    (`lidar.clustering`). Where a cloud shows no beams: the same ground from the points alone, and Euclidean components.

    Args:
        sweep: N points as measured, LiDAR frame (z up).
        options: See there.

    Returns:
        uint16 (N,): 0 none (not finite, too near, noise under the ground, too small), 1 ground, 2.. objects, dense.

    Raises:
        DsegError: `options.method` asks for a range image and the cloud shows no beams.
    """
    if not len(sweep):
        return np.zeros(0, dtype=np.uint16)
    rows = None if options.method == "euclidean" else beam_rows(sweep)
    xyz = np.ascontiguousarray(sweep.xyz, dtype=np.float32)
    if rows is None:
        if options.method == "range_image":
            raise DsegError(
                "the cloud shows no beams (no ring field, not organised, no beams in its order or elevations)",
                where=sweep.frame_id,
                fix="Use proposals.method = auto or euclidean",
            )
        if options.method == "auto":
            _log.debug("%s: no beams to be seen, Euclidean clustering", sweep.frame_id)
        kind = ground_without_rows(xyz, options)
        labels = cluster_points(xyz, kind == OBJECT, options.distance, options.min_points)
    else:
        image = range_image(sweep, rows, options.columns, options.min_range)
        kind = ground(xyz, image, options)
        labels = cluster_range_image(xyz, image, kind == OBJECT, options)
    labels[kind == GROUND] = REGION_GROUND
    return labels
