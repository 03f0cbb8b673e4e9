"""The methods for clouds in which beams are not known, or not asked for: objects by distance, or by density."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dseg_core.lidar.distinct import distinct
from dseg_core.lidar.euclidean import components_by_distance
from dseg_core.lidar.ground import GROUND, OBJECT
from dseg_core.lidar.ground_of_points import ground_of_points
from dseg_core.lidar.packages import hdbscan
from dseg_core.lidar.patchwork import ground_by_patchwork
from dseg_core.lidar.points import Points, points_of
from dseg_core.lidar.split import Split
from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND, Sweep
from dseg_core.stage_options import ProposalOptions

_FEWEST = 5  # voxels of a cluster


def by_distance(
    sweep: Sweep, points: Points, options: ProposalOptions, R_level: NDArray[np.float64] | None = None
) -> Split:
    """Objects are points near to each other, see `components_by_distance`; no two lie nearer than that.

    `R_level`: (3, 3), see `proposals_from_sweep`.
    """

    def cluster(xyz: NDArray[np.float32]) -> NDArray[np.int64]:
        return components_by_distance(xyz, options.distance, options.distance_rise)

    return _split(sweep, points, options, R_level, cluster)


def by_density(
    sweep: Sweep, points: Points, options: ProposalOptions, R_level: NDArray[np.float64] | None = None
) -> Split:
    """HDBSCAN (Campello et al. 2013) over the middles of voxels; what it calls noise is in no object.

    Voxels have half the side of `distance`, and clusters nearer than `distance` are not told apart.

    Raises:
        DsegError: hdbscan cannot be imported.
    """
    return _split(sweep, points, options, R_level, lambda xyz: _dense(xyz, options.distance))


def _split(
    sweep: Sweep,
    points: Points,
    options: ProposalOptions,
    R_level: NDArray[np.float64] | None,
    cluster: Callable[[NDArray[np.float32]], NDArray[np.int64]],
) -> Split:
    """Ground first, then objects of the rest. Copies of points go with them, and count for nothing."""
    measured = np.flatnonzero(points.distance)
    first, copy_of = distinct(sweep.xyz[measured])
    xyz = sweep.xyz[measured[first]]
    points = points_of(xyz if R_level is None else (xyz @ R_level.T).astype(np.float32))
    slope = math.radians(options.ground_slope)
    if options.ground == "own":
        kind = ground_of_points(points, slope, options.kerb)
    else:
        kind = ground_by_patchwork(points, slope, options.sensor_height)
    found = np.where(kind == GROUND, np.int32(REGION_GROUND), np.int32(0))
    others = np.flatnonzero(kind >= OBJECT)
    objects = cluster(xyz[others])
    found[others] = np.where(objects < 0, 0, objects + REGION_FIRST_OBJECT)
    labels = np.zeros(len(sweep), dtype=np.int32)
    labels[measured] = found[copy_of]
    return Split(labels, np.bincount(objects[objects >= 0]))


def _dense(xyz: NDArray[np.float32], distance: float) -> NDArray[np.int64]:
    """Labels from 0, -1 for noise, int64 (N,)."""
    if not len(xyz):
        return np.zeros(0, dtype=np.int64)
    side = distance / 2
    voxels, voxel_of = np.unique(np.floor(xyz / side).astype(np.int64), axis=0, return_inverse=True)
    if len(voxels) < 2 * _FEWEST:  # it wants more points than neighbours
        return np.full(len(xyz), -1, dtype=np.int64)
    model = hdbscan().HDBSCAN(min_cluster_size=_FEWEST, cluster_selection_epsilon=distance, core_dist_n_jobs=1)
    return np.asarray(model.fit_predict((voxels + 0.5) * side)[voxel_of.reshape(-1)], dtype=np.int64)
