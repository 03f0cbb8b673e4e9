"""Time and quality proxies of proposals beside their peers, on one core, on the real drive: a Markdown table.

Run: python benchmarks/proposals.py [BAG]. Peers are those of `proposal_peers.py` that are installed, and programs of
your own (`proposal_programs.py`). Times are the processor's, of all threads. Methods take turns, each over all sweeps;
of each sweep the fastest turn counts, as other work on the machine only ever adds. Proxies: the road is the RANSAC
plane of the vehicle's corridor. Points within 8 cm of it, 3 to 30 m ahead and 3 m aside, should be in no segment.
Points 0.4 to 2.2 m above it, ahead and within 8 m aside, should be in one, and never be ground.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import argparse
import platform
import sys
from pathlib import Path

import numpy as np
from arguments import Help, positive
from proposal_peers import Lidar, TimedMethod, add_methods, peers

from dseg_core.bag import BagReader
from dseg_core.errors import DsegError
from dseg_core.messages import sweep_from_message
from dseg_core.records import Sweep

DRIVE = Path(__file__).parents[2] / "shared" / "data" / "kitti_city"


def heights(xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Height of points over the plane of the vehicle's corridor, and which are in that corridor."""
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
    return height, corridor


def proxies(xyz: np.ndarray, ids: np.ndarray) -> tuple[float, float, float, float]:
    """Percent: road in segments, obstacles in segments, obstacles called ground; and the IoU with the vehicle ahead."""
    height, corridor = heights(xyz)
    road = corridor & (np.abs(height) < 0.08)
    obstacle = (height > 0.4) & (height < 2.2) & (xyz[:, 0] > 0) & (xyz[:, 0] < 30) & (np.abs(xyz[:, 1]) < 8)
    lead = ahead(xyz, height)
    ious = [
        (lead & (ids == k)).sum() / (lead | ((ids == k) & (height > 0.3))).sum() for k in np.unique(ids[lead]) if k > 1
    ]
    shares = (100 * float(np.mean(x)) for x in (ids[road] > 1, ids[obstacle] > 1, ids[obstacle] == 1))
    return (*shares, float(max(ious, default=0.0)) if lead.any() else float("nan"))  # type: ignore[return-value]


def ahead(xyz: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Points of the vehicle ahead in the same lane, within 40 m: the first heap over the road, up to 6 m long."""
    x, y, _ = xyz.T
    inside = (height > 0.3) & (height < 2.6) & (x > 3.5) & (x < 40)
    reach = np.sort(x[inside & (np.abs(y) < 0.8)])
    if len(reach) < 50:
        return np.zeros(len(xyz), bool)
    return inside & (np.abs(y) < 1.3) & (x > reach[10] - 0.3) & (x < reach[10] + 6)


def measure(
    methods: dict[str, TimedMethod], sweeps: list[Sweep], turns: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Each method's milliseconds (sweeps,) and proxies (sweeps, 4)."""
    took = {name: np.empty((turns, len(sweeps))) for name in methods}
    scores = {}
    for method in methods.values():
        method(sweeps[0])  # compiles
    for turn in range(turns):
        for name, method in methods.items():
            answers = [
                method(sweep) for sweep in sweeps
            ]  # nothing between: other work would fill the processor's caches
            took[name][turn] = [1e3 * seconds for _, seconds in answers]
            if not turn:
                scores[name] = np.array([proxies(s.xyz, ids) for s, (ids, _) in zip(sweeps, answers, strict=True)])
    return {name: (took[name].min(axis=0), scores[name]) for name in methods}


def table(found: dict[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """A row for each method."""
    titles = "road in segments % | obstacle recall % | obstacle called ground % | IoU of the vehicle ahead, median / p5"
    first = "ours" if next(iter(found)).startswith("dseg") else "the first"
    lines = [f"| method | ms, median (p95) | times {first} | {titles} |", "|---|---|---|---|---|---|---|"]
    base = float(np.median(next(iter(found.values()))[0]))
    for name, (ms, scores) in found.items():
        road, recall, lost, _ = scores.mean(axis=0)
        lead = scores[:, 3]
        middle, low = np.nanpercentile(lead, [50, 5]) if np.isfinite(lead).any() else (np.nan, np.nan)
        quality = f"{road:.2f} | {recall:.1f} | {lost:.2f} | {middle:.2f} / {low:.2f}"
        speed = f"{np.median(ms):.1f} ({np.percentile(ms, 95):.1f}) | {np.median(ms) / base:.1f}"
        lines.append(f"| {name} | {speed} | {quality} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    parser.add_argument("bag", type=Path, nargs="?", default=DRIVE, help="with a PointCloud2 topic")
    parser.add_argument("--turns", type=positive, default=3, help="how often each method splits each sweep")
    add_methods(parser)
    arguments = parser.parse_args()
    if not arguments.bag.is_dir():
        sys.exit(f"no bag at {arguments.bag}: give one, for instance of `dseg simulate`")
    with BagReader(arguments.bag) as reader:
        clouds = [t.name for t in reader.topics if t.type.endswith("PointCloud2") and "truth" not in t.name]
        topic = next(iter(clouds), None) or sys.exit(f"{arguments.bag} has no PointCloud2 topic")
        sweeps = [sweep_from_message(m.data) for m in reader.messages([topic])]
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    print(f"{len(sweeps)} sweeps of {np.median([len(s) for s in sweeps]) / 1e3:.0f} k points, one core of {cpu}\n")
    try:
        with peers(Lidar(1.73, 64, (-24.8, 2.0), 4500, 64), arguments.only, arguments.programs) as methods:
            print(table(measure(methods, sweeps, arguments.turns)))
    except DsegError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
