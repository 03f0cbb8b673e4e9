"""What a drive's sweeps are like, how they overlap with the images, and how the vehicle moves."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from dseg_core.frames_from_regions import Made
from dseg_core.lidar.points import points_of
from dseg_core.lidar.rows import found_rows
from dseg_core.measured_share import measured_share
from dseg_core.messages.clouds import SOME, second_returns
from dseg_core.pairs_from_messages import ReadPair
from dseg_core.sensors_from_bag import LIDAR
from dseg_core.transforms import Matrix, TransformError, TransformTree

_CELLS = (12, 24)  # rows and columns into which images are divided for the overlap


class SweepFacts:
    """Collects from some of a drive's sweeps; `add` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._points: list[int] = []
        self._missed: defaultdict[str, list[float]] = defaultdict(list)
        self._rows: Counter[int] = Counter()
        self._order: Counter[str] = Counter()
        self._steps: list[float] = []
        self._elevation: list[tuple[float, float]] = []
        self._times_ms: list[tuple[float, float]] = []
        self._doubled: list[float] = []
        self._intensity = False
        self.notes: dict[str, None] = {}
        """What `record` would note of sweeps, in order, each once."""
        self._overlap: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)

    def add(self, pair: ReadPair, made: Made) -> None:
        """Look at a sweep, those of other LiDARs beside it, and its views."""
        sweep = pair.sweep
        self.notes.update(dict.fromkeys(made.sweep_notes))
        found = found_rows(sweep)
        rows = found.rows
        missed = {name: 1 - measured_share(own) for name, own in {LIDAR: sweep, **pair.others}.items()}
        points = points_of(sweep.xyz)
        measured = points.distance > 0
        doubled = second_returns(sweep)[0] if rows else 0.0
        shares = {}
        for view in made.frame.views if made.frame else ():
            T, camera = view.T_image_sweep, view.calibration
            uv, seen = camera.project(sweep.xyz[measured] @ T[:3, :3].T + T[:3, 3])
            cells = np.zeros(_CELLS, bool)
            at = (uv[seen] + 0.5) / (camera.width, camera.height) * _CELLS[::-1]
            cells[tuple(np.minimum(at.astype(int), np.subtract(_CELLS[::-1], 1)).T[::-1])] = True
            shares[view.camera] = (float(seen.mean()) if len(seen) else 0.0, float(cells.mean()))
        with self._lock:
            for lidar, part in missed.items():
                self._missed[lidar].append(part)
            self._points.append(int(measured.sum()))
            self._order[found.source or "none"] += 1
            self._rows[len(rows) if rows else 0] += 1
            if rows:
                self._steps.append(rows.step)
                self._elevation.append((float(rows.elevation[-1]), float(rows.elevation[0])))
                self._doubled.append(doubled)
            if sweep.time_ns is not None:
                self._times_ms.append((sweep.time_ns.min() / 1e6, sweep.time_ns.max() / 1e6))
            self._intensity |= sweep.intensity is not None
            for camera_name, share in shares.items():
                self._overlap[camera_name].append(share)

    def lidar(self) -> dict[str, Any] | None:
        """Plain JSON types; None when no sweep was seen."""
        if not self._points:
            return None
        rows = self._rows.most_common(1)[0][0]
        return {
            "points": int(np.median(self._points)),
            "not_measured": {name: round(float(np.mean(shares)), 4) for name, shares in self._missed.items()},
            "rows": rows,
            "rows_from": self._order.most_common(1)[0][0],
            "step_deg": round(float(np.rad2deg(np.median(self._steps))), 3) if rows else None,
            "elevation_deg": np.round(np.rad2deg(np.median(self._elevation, axis=0)), 1).tolist() if rows else None,
            "times_ms": np.round(np.median(self._times_ms, axis=0), 2).tolist() if self._times_ms else None,
            "intensity": self._intensity,
            "returns": None if not rows else 2 if float(np.median(self._doubled)) > SOME else 1,
        }

    def overlap(self) -> dict[str, dict[str, float]]:
        """By camera: share of the sweep's points in its image, share of the image's cells with a point."""
        names = ("points_in_image", "image_with_points")
        return {
            camera: {
                name: round(float(np.mean(s)), 3) for name, s in zip(names, zip(*shares, strict=True), strict=True)
            }
            for camera, shares in self._overlap.items()
        }


def motion(tree: TransformTree, frame: str, stamps: Sequence[int]) -> dict[str, Any]:
    """How the vehicle moves by its odometry: way [m], speed [m/s], turn rate [deg/s]; `odometry` None without any."""
    fixed = tree.fixed_frame(frame)
    found: dict[str, Any] = {"odometry": fixed}
    poses = []
    for stamp in stamps if fixed is not None else ():
        try:
            poses.append((stamp, tree.lookup(str(fixed), frame, stamp)))
        except TransformError:
            continue
    found["share_of_sweeps"] = round(len(poses) / max(len(stamps), 1), 3)
    if len(poses) < 2:
        return found
    seconds = np.diff([stamp for stamp, _ in poses]) / 1e9
    way = np.linalg.norm(np.diff([T[:3, 3] for _, T in poses], axis=0), axis=1)
    turns = [_turned(a, b) for (_, a), (_, b) in pairwise(poses)]
    speed, rate = way / seconds, np.array(turns) / seconds
    return found | {
        "way_m": round(float(way.sum()), 1),
        "speed_m_s": {"median": round(float(np.median(speed)), 2), "max": round(float(np.percentile(speed, 98)), 2)},
        "turn_deg_s": {"median": round(float(np.median(rate)), 2), "max": round(float(np.percentile(rate, 98)), 2)},
        "standing": round(float(np.mean(speed < 0.3)), 3),
    }


def _turned(a: Matrix, b: Matrix) -> float:
    cosine = (np.trace(a[:3, :3].T @ b[:3, :3]) - 1) / 2
    return float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))
