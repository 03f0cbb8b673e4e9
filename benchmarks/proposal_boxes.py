"""Proposals beside their peers against annotated boxes of real drives: Markdown tables.

Run: python benchmarks/proposal_boxes.py --av2 LOG --sustech FOLDER, one or both; pip install pyarrow for --av2.

LOG is a log of Argoverse 2's sensor data (annotations.feather, calibration, sensors/lidar); each of its two VLP-32C is
taken by itself, upright, in its own place. FOLDER is one of SUSTechPOINTS (label, lidar), of a Pandar40P. An object
counts from 10 points on and is found when a proposal has IoU 0.5 with the points in its box, but for the lowest 15 cm.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from proposal_peers import Lidar, add_methods, peers
from scipy.spatial.transform import Rotation

from dseg_core.errors import DsegError
from dseg_core.evaluation.box_scores import Box, score_boxes
from dseg_core.records import Sweep

Annotated = tuple[Sweep, list[Box]]
VLP32, PANDAR40 = Lidar(1.95, 32, (-25.0, 15.0), 1800, 121), Lidar(1.8, 40, (-25.0, 15.0), 1800, 121)
PCD = np.dtype({"names": ["xyz", "ring"], "formats": ["(3,)<f4", "<u2"], "offsets": [0, 32], "itemsize": 48})


def of_argoverse(log: Path, lidar: str, first: int) -> Iterator[Annotated]:
    """Sweeps of one LiDAR, whose beams are numbered from `first` on in both LiDARs' clouds.

    Raises:
        DsegError: It is no log, or pyarrow is not installed.
    """
    _check(log, "--av2", "annotations.feather", "calibration/egovehicle_SE3_sensor.feather", "sensors/lidar/*.feather")
    try:
        from pyarrow import feather
    except ImportError as error:
        raise DsegError(f"cannot be read without pyarrow: {error}", where=log, fix="pip install pyarrow") from error

    calibration = feather.read_table(log / "calibration" / "egovehicle_SE3_sensor.feather").to_pylist()
    own = next(row for row in calibration if row["sensor_name"] == lidar)
    R, t = turn(own), place(own)
    if R[2, 2] < 0:  # it hangs upside down
        R = R @ np.diag([1.0, -1.0, -1.0])
    boxes = defaultdict(list)
    for row in feather.read_table(log / "annotations.feather").to_pylist():
        yaw = float(Rotation.from_matrix(R.T @ turn(row)).as_euler("ZYX")[0])
        size = row["length_m"], row["width_m"], row["height_m"]
        x, y, z = (place(row) - t) @ R
        boxes[row["timestamp_ns"]].append(Box(row["category"].lower(), (x, y, z), size, yaw))
    for path in sorted((log / "sensors" / "lidar").glob("*.feather")):
        table = feather.read_table(path)
        beam = table["laser_number"].to_numpy().astype(int) - first
        xyz = np.stack([table[k].to_numpy() for k in "xyz"], axis=1).astype(float)
        kept = (beam >= 0) & (beam < 32)
        sweep = ((xyz[kept] - t) @ R).astype(np.float32)
        yield Sweep(int(path.stem), lidar, sweep, ring=beam[kept].astype(np.uint16)), boxes[int(path.stem)]


def _check(folder: Path, option: str, *needed: str) -> None:
    for pattern in needed:
        if not any(folder.glob(pattern)):
            raise DsegError(
                f"{option}: has no {pattern}", where=folder, fix="benchmarks/README.md says whose data it is"
            )


def turn(row: dict[str, float]) -> np.ndarray:
    """Of a row's quaternion, (3, 3)."""
    return Rotation.from_quat([row[k] for k in ("qx", "qy", "qz", "qw")]).as_matrix()


def place(row: dict[str, float]) -> np.ndarray:
    """Of a row, (3,), metres."""
    return np.array([row[k] for k in ("tx_m", "ty_m", "tz_m")])


def of_sustech(folder: Path) -> Iterator[Annotated]:
    """Its clouds' headers misplace the ring by two bytes.

    Raises:
        DsegError: It is no such folder.
    """
    _check(folder, "--sustech", "lidar/*.pcd", "label/*.json")
    for path in sorted((folder / "lidar").glob("*.pcd")):
        raw = path.read_bytes()
        begin = raw.index(b"DATA binary\n") + len(b"DATA binary\n")
        count = int(raw[:begin].decode().split("POINTS ")[1].split()[0])
        points = np.frombuffer(raw, PCD, count, begin)
        boxes = []
        for label in json.loads((folder / "label" / f"{path.stem}.json").read_text()):
            center, size = (tuple(label["psr"][k][axis] for axis in "xyz") for k in ("position", "scale"))
            boxes.append(Box(label["obj_type"].lower(), center, size, label["psr"]["rotation"]["z"]))
        yield Sweep(0, "lidar", points["xyz"].astype(np.float32), ring=points["ring"].copy()), boxes


def main() -> None:
    """Print a row for each set, and for each class of all together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, metavar, about in (
        ("--av2", "LOG", "a log of Argoverse 2's sensor data; repeat for more"),
        ("--sustech", "FOLDER", "an example of SUSTechPOINTS; repeat for more"),
    ):
        parser.add_argument(option, type=Path, action="append", default=[], metavar=metavar, help=about)
    add_methods(parser)
    arguments = parser.parse_args()
    if not arguments.av2 and not arguments.sustech:
        parser.error("give --av2 LOG, --sustech FOLDER or both")
    sets: dict[str, tuple[Lidar, list[Annotated]]] = {}
    for name, first in (("up_lidar", 0), ("down_lidar", 32)):
        taken = [pair for log in arguments.av2 for pair in of_argoverse(log, name, first)]
        sets[f"Argoverse 2, {name}"] = VLP32, [pair for pair in taken if pair[1]]
    sets["SUSTechPOINTS"] = PANDAR40, [pair for folder in arguments.sustech for pair in of_sustech(folder)]
    sets = {title: (lidar, pairs) for title, (lidar, pairs) in sets.items() if any(boxes for _, boxes in pairs)}
    if not sets:
        raise DsegError("no sweep of what was given has annotated boxes")
    found: dict[str, dict[str, list[bool]]] = {}
    for title, (lidar, pairs) in sets.items():
        with peers(lidar, arguments.only, arguments.programs) as methods:
            for name, method in methods.items():
                rows = found.setdefault(name, defaultdict(list))
                for sweep, boxes in pairs:
                    for score in score_boxes(sweep.xyz, method(sweep)[0].astype(np.uint16), boxes):
                        rows[title].append(score.iou >= 0.5)
                        rows["all"].append(score.iou >= 0.5)
                        rows[score.name].append(score.iou >= 0.5)
    titles = [title for title in next(iter(found.values())) if title != "all"]
    titles = ["all", *(t for t in titles if t in sets), *sorted(t for t in titles if t not in sets)]
    print(f"| found, % | objects | {' | '.join(found)} |\n{'|---' * (len(found) + 2)}|")
    for title in titles:
        shares = [f"{100 * np.mean(rows[title]):.1f}" for rows in found.values()]
        print(f"| {title} | {len(next(iter(found.values()))[title])} | {' | '.join(shares)} |")


if __name__ == "__main__":
    try:
        main()
    except DsegError as error:
        raise SystemExit(str(error)) from error
