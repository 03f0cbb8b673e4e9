"""What others split sweeps into ground and objects with, each as a function of a sweep: the peers of the benchmarks.

Those that are programs: `proposal_programs.py`. The others:
pip install --no-deps pypatchworkpp travel-seg hdbscan    # each may be missing; a line then says what is left out
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import open3d as o3d
from depth_clustering import depth_clustering
from proposal_programs import Program, named_command

from dseg_core.errors import DsegError
from dseg_core.proposals_from_sweep import proposals_from_sweep
from dseg_core.records import Sweep
from dseg_core.stage_options import ProposalOptions

Method = Callable[[Sweep], np.ndarray]
TimedMethod = Callable[[Sweep], tuple[np.ndarray, float]]

_PACKAGES = {"pypatchworkpp": "pypatchworkpp", "travel_seg": "travel-seg", "hdbscan": "hdbscan"}
"""Modules that methods need, and the packages that hold them."""

# Made once, as whoever calls them does.
_OWN, _EUCLIDEAN, _HDBSCAN = (ProposalOptions(method=name) for name in ("range_image", "euclidean", "hdbscan"))


def own(sweep: Sweep) -> np.ndarray:
    """A copy, because beams are kept for a sweep that is seen again."""
    return proposals_from_sweep(replace(sweep), _OWN)


def euclidean(sweep: Sweep) -> np.ndarray:
    """As for a LiDAR without beams."""
    return proposals_from_sweep(replace(sweep), _EUCLIDEAN)


def own_hdbscan(sweep: Sweep) -> np.ndarray:
    """HDBSCAN over what our ground leaves."""
    return proposals_from_sweep(replace(sweep), _HDBSCAN)


def voxels(sweep: Sweep, ground: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is no ground: which points, the middles of its voxels of 0.2 m, and each point's voxel."""
    rest = np.flatnonzero(~ground)
    voxel, inverse = np.unique(np.floor(sweep.xyz[rest] / 0.2).astype(np.int64), axis=0, return_inverse=True)
    return rest, (voxel + 0.5) * 0.2, inverse.reshape(-1)


def dbscan(sweep: Sweep, ground: np.ndarray) -> np.ndarray:
    """Voxels of 0.2 m and DBSCAN (0.5 m, 5 voxels) over what is no ground."""
    ids = np.where(ground, 1, 0)
    rest, middles, inverse = voxels(sweep, ground)
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(middles))
    labels = np.asarray(cloud.cluster_dbscan(0.5, 5))[inverse]
    ids[rest] = np.where(labels >= 0, labels + 2, 0)
    return ids


def plane(sweep: Sweep) -> np.ndarray:
    """The largest plane is ground; sought a metre and more below the sensor, where 100 draws hardly hit a wall."""
    low = sweep.xyz[sweep.xyz[:, 2] < -1].astype(np.float64)
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(low))
    (a, b, c, d), _ = cloud.segment_plane(0.2, 3, 100)
    return dbscan(sweep, np.abs(sweep.xyz @ np.array([a, b, c]) + d) < 0.2)


@contextmanager
def silence() -> Iterator[None]:
    """Drop what libraries print from C++ at every call."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def patchwork(height: float) -> Callable[[Sweep], np.ndarray]:
    """Ground by pypatchworkpp, bool (N,); it is told the sensor's height over the road."""
    import pypatchworkpp

    parameters = pypatchworkpp.Parameters()
    parameters.sensor_height = height
    with silence():
        model = pypatchworkpp.patchworkpp(parameters)

    def ground(sweep: Sweep) -> np.ndarray:
        model.estimateGround(np.c_[sweep.xyz, np.zeros(len(sweep))])
        found = np.zeros(len(sweep), dtype=bool)
        found[model.getGroundIndices()] = True
        return found

    return ground


def hdbscan_over(ground: Callable[[Sweep], np.ndarray]) -> Method:
    """HDBSCAN (5 voxels at least) over voxels of 0.2 m."""
    import hdbscan

    def run(sweep: Sweep) -> np.ndarray:
        is_ground = ground(sweep)
        ids = np.where(is_ground, 1, 0)
        rest, middles, inverse = voxels(sweep, is_ground)
        labels = hdbscan.HDBSCAN(min_cluster_size=5, cluster_selection_epsilon=0.5).fit_predict(middles)[inverse]
        ids[rest] = np.where(labels >= 0, labels + 2, 0)
        return ids

    return run


def travel(beams: int, field: tuple[float, float], columns: int) -> Method:
    """TRAVEL, told what the LiDAR is; all else as it comes."""
    import travel_seg

    config = travel_seg.ObjectClusterConfig(
        vert_scan=beams, horz_scan=columns, min_vert_angle=field[0], max_vert_angle=field[1]
    )
    with silence():
        ground = travel_seg.TravelGroundSeg(travel_seg.GroundSegConfig())
        objects = travel_seg.ObjectCluster(config)

    def run(sweep: Sweep) -> np.ndarray:
        with silence():
            is_ground, _ = ground.estimate_ground(sweep.xyz)
            labels = np.asarray(objects.segment_objects(sweep.xyz[~is_ground]))
        ids = np.where(is_ground, 1, 0)
        ids[~is_ground] = np.where(labels > 0, labels + 1, 0)
        return ids

    return run


def timed(method: Method) -> TimedMethod:
    """A method that also tells the processor time of all its threads, s."""

    def run(sweep: Sweep) -> tuple[np.ndarray, float]:
        start = time.process_time()
        ids = method(sweep)
        return ids, time.process_time() - start

    return run


@dataclass(frozen=True)
class Lidar:
    """What methods are told of a LiDAR.

    `height`: over the road, m. `field`: lowest and highest beam, deg. `rows`: for methods that know even rows only.
    """

    height: float
    beams: int
    field: tuple[float, float]
    columns: int
    rows: int


def installed(lidar: Lidar) -> dict[str, Method]:
    """All methods that are installed, ours first."""
    found: dict[str, Method] = {"dseg, range image": own, "dseg, euclidean": euclidean}
    has = {name: importlib.util.find_spec(name) is not None for name in _PACKAGES}
    if has["hdbscan"]:
        found["dseg, hdbscan"] = own_hdbscan
    found["depth clustering"] = lambda sweep: depth_clustering(sweep, lidar.field, lidar.beams)
    found["open3d plane + DBSCAN"] = plane
    if has["pypatchworkpp"]:
        ground = patchwork(lidar.height)
        found["pypatchworkpp + DBSCAN"] = lambda sweep: dbscan(sweep, ground(sweep))
        if has["hdbscan"]:
            found["pypatchworkpp + HDBSCAN"] = hdbscan_over(ground)
    if has["travel_seg"]:
        found["travel-seg"] = travel(lidar.rows, lidar.field, lidar.columns)
    return found


@lru_cache(maxsize=1)
def tell_left_out() -> None:
    """Say once, on standard error, which methods a table lacks because a package is not installed."""
    gone = [package for name, package in _PACKAGES.items() if importlib.util.find_spec(name) is None]
    if gone:
        command = f"pip install --no-deps {' '.join(gone)}"
        print(f"left out, as not installed: what needs {', '.join(gone)}; {command}", file=sys.stderr)


def add_methods(parser: argparse.ArgumentParser) -> None:
    """Let a benchmark's user choose methods, `only`, and give programs, `programs`: the arguments of `peers`."""
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="METHOD",
        help="one of the installed methods, by its name in the table; repeat for more",
    )
    parser.add_argument(
        "--program", dest="programs", type=named_command, action="append", default=[], metavar="NAME=COMMAND",
        help="a method of your own; proposal_programs.py says how it is spoken with; repeat for more",
    )  # fmt: skip


@contextmanager
def peers(lidar: Lidar, only: list[str], programs: list[tuple[str, list[str]]]) -> Iterator[dict[str, TimedMethod]]:
    """The installed methods, or `only` some, then the programs, which end with the `with`.

    Raises:
        DsegError: A method is not installed, two have one name, or a program does not start.
    """
    if not only:
        tell_left_out()
    found = {name: timed(method) for name, method in installed(lidar).items()}
    if unknown := set(only) - set(found):
        raise DsegError(f"{min(unknown)!r} is not installed", where="--only", fix=f"Choose of: {'; '.join(found)}")
    found = {name: method for name, method in found.items() if not only or name in only}
    told = {"height": lidar.height, "rows": lidar.rows, "columns": lidar.columns}
    told |= {"low": lidar.field[0], "high": lidar.field[1]}
    with ExitStack() as stack:
        for name, command in programs:
            if name in found:
                raise DsegError(f"{name!r} is the name of another method", where="--program", fix="Give another")
            found[name] = stack.enter_context(Program(name, command, told))
        yield found
