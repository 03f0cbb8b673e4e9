"""Time and quality proxies of proposals beside their peers, on one core, on the real drive: a Markdown table.

Run: python benchmarks/proposals.py [BAG]. Proxies: the road is the RANSAC plane of the vehicle's corridor.
Points within 8 cm of it, 3 to 30 m ahead and 3 m aside, should be in no segment. Points 0.4 to 2.2 m above it, ahead
and within 8 m aside, should be in one, and never be ground.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import importlib.util
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import open3d as o3d

from dseg_core.bag import BagReader
from dseg_core.messages import sweep_from_message
from dseg_core.proposals_from_sweep import proposals_from_sweep
from dseg_core.records import Sweep
from dseg_core.stage_options import ProposalOptions

DRIVE = Path(__file__).parents[2] / "shared" / "data" / "kitti_city"


def own(sweep: Sweep) -> np.ndarray:
    """A copy, because beams are kept for a sweep that is seen again."""
    return proposals_from_sweep(replace(sweep), ProposalOptions())


def clustered(sweep: Sweep, ground: np.ndarray) -> np.ndarray:
    """Voxels of 0.2 m and DBSCAN (0.5 m, 5 points) over what is no ground."""
    ids = np.where(ground, 1, 0)
    rest = np.flatnonzero(~ground)
    voxel, inverse = np.unique(np.floor(sweep.xyz[rest] / 0.2).astype(np.int64), axis=0, return_inverse=True)
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector((voxel + 0.5) * 0.2))
    labels = np.asarray(cloud.cluster_dbscan(0.5, 5))[inverse.reshape(-1)]
    ids[rest] = np.where(labels >= 0, labels + 2, 0)
    return ids


def plane(sweep: Sweep) -> np.ndarray:
    """The largest plane is ground; sought a metre and more below the sensor, where 100 draws hardly hit a wall."""
    low = sweep.xyz[sweep.xyz[:, 2] < -1].astype(np.float64)
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(low))
    (a, b, c, d), _ = cloud.segment_plane(0.2, 3, 100)
    return clustered(sweep, np.abs(sweep.xyz @ np.array([a, b, c]) + d) < 0.2)


def patchwork() -> Callable[[Sweep], np.ndarray]:
    """Ground by pypatchworkpp."""
    import pypatchworkpp

    model = pypatchworkpp.patchworkpp(pypatchworkpp.Parameters())

    def run(sweep: Sweep) -> np.ndarray:
        model.estimateGround(np.c_[sweep.xyz, np.zeros(len(sweep))])
        ground = np.zeros(len(sweep), dtype=bool)
        ground[model.getGroundIndices()] = True
        return clustered(sweep, ground)

    return run


def proxies(xyz: np.ndarray, ids: np.ndarray) -> tuple[float, float, float]:
    """Percent: road in segments, obstacles in segments, obstacles called ground."""
    rng = np.random.default_rng(0)
    corridor = (xyz[:, 0] > 3) & (xyz[:, 0] < 30) & (np.abs(xyz[:, 1]) < 3)
    points = xyz[corridor & (xyz[:, 2] < -1)].astype(np.float64)
    most, height = 0, np.zeros(len(xyz))
    for _ in range(100):
        a, b, c = points[rng.integers(len(points), size=3)]
        normal = np.cross(b - a, c - a)
        normal *= np.sign(normal[2]) / max(float(np.linalg.norm(normal)), 1e-9)
        count = int((np.abs((points - a) @ normal) < 0.08).sum())
        if normal[2] > 0.95 and count > most:
            most, height = count, (xyz - a) @ normal
    road = corridor & (np.abs(height) < 0.08)
    obstacle = (height > 0.4) & (height < 2.2) & (xyz[:, 0] > 0) & (xyz[:, 0] < 30) & (np.abs(xyz[:, 1]) < 8)
    return tuple(100 * float(np.mean(x)) for x in (ids[road] > 1, ids[obstacle] > 1, ids[obstacle] == 1))  # type: ignore[return-value]


def main() -> None:
    """Print the table."""
    bag = Path(sys.argv[1]) if len(sys.argv) > 1 else DRIVE
    if not bag.is_dir():
        sys.exit(f"no bag at {bag}: give one, for instance of `dseg simulate`")
    with BagReader(bag) as reader:
        topic = next(t.name for t in reader.topics if t.type.endswith("PointCloud2") and "truth" not in t.name)
        sweeps = [sweep_from_message(m.data) for m in reader.messages([topic])]
    peers = {"dseg (range image)": own, "open3d plane + voxel 0.2 m + DBSCAN": plane}
    if importlib.util.find_spec("pypatchworkpp"):
        peers["pypatchworkpp + voxel 0.2 m + DBSCAN"] = patchwork()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    print(f"{len(sweeps)} sweeps of {np.median([len(s) for s in sweeps]) / 1e3:.0f} k points, one core of {cpu}\n")
    print(
        "| method | ms, median (p95) | times ours | road in segments % | obstacle recall % | obstacle called ground % |"
    )
    print("|---|---|---|---|---|---|")
    base = 0.0
    for name, method in peers.items():
        chosen = sweeps if method is own else sweeps[::4]
        method(chosen[0])  # compiles
        took, scores = [], []
        for sweep in chosen:
            start = time.perf_counter()
            ids = method(sweep)
            took.append(1e3 * (time.perf_counter() - start))
            scores.append(proxies(sweep.xyz, ids))
        median = float(np.median(took))
        base = base or median
        road, found, lost = np.mean(scores, axis=0)
        p95 = np.percentile(took, 95)
        print(f"| {name} | {median:.1f} ({p95:.1f}) | {median / base:.1f} | {road:.2f} | {found:.1f} | {lost:.2f} |")


if __name__ == "__main__":
    main()
