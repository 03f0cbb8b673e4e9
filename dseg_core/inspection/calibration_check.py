"""Whether the cameras' mounting and stamps are right: depth edges of the sweeps against edges of the images."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dseg_core.cameras import Camera
from dseg_core.frames_from_regions import Made
from dseg_core.inspection.alignment import EdgePair
from dseg_core.inspection.correction_search import FEWEST_PAIRS, Found, search
from dseg_core.inspection.depth_edges import edges_from_sweep
from dseg_core.inspection.image_edges import as_pinhole, edges_from_image, pinhole_of
from dseg_core.inspection.rehearsal import DryMaker
from dseg_core.progress import progress
from dseg_core.records import Sweep, View
from dseg_core.stage_options import CheckOptions
from dseg_core.words import count

_AROUND_NS = 20_000_000  # on either side of an image, for how the vehicle moves
_MARGIN = 0.15  # of the image's size: edges this far outside may come in by a correction
_LEAST_SCORE = (
    3.5  # standard deviations; edges of one drive on the images of another reach 1.4 to 2.9, right ones 4.3 to 11
)
_AGREE = np.array([np.deg2rad(0.5)] * 2 + [np.deg2rad(1.0), 0.015])  # of the two halves of a drive
_SURE = 3  # standard errors, of each of four numbers of every camera
_TELLING = np.deg2rad([1.5, 1.5, 2.0])  # turns that would have to show in what is called right
_FLOOR = np.array([np.deg2rad(0.1)] * 3 + [0.002])
"""What standard errors leave out: edges that LiDAR and camera see from other places."""
RIGHT_ROTATION, RIGHT_OFFSET = np.deg2rad(0.3), 0.010
_LEAST_UNTIMED = 0.060  # seconds: points without times are up to half a sweep off
_DOUBTFUL = np.deg2rad(0.75)
"""Corrections below are none."""
MEANING = (
    "The score says by how many standard deviations the sweeps' depth edges lie better on the images' edges than when "
    "the camera is turned at random: above 3.5 the two belong together"
)


@dataclass(frozen=True, eq=False)
class Example:
    """One image uint8 (H, W, 3) of the pinhole, the sweep's points and edges before it, as `EdgePair` has them."""

    rgb: NDArray[np.uint8]
    points: NDArray[np.float32]
    velocity: NDArray[np.float32]
    edges: EdgePair
    pinhole: Camera


class CalibrationCheck:
    """Collects edges from some of a drive's sweeps (`add`, from any thread), then judges each camera."""

    def __init__(self, options: CheckOptions) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._pairs: defaultdict[str, list[tuple[int, EdgePair]]] = defaultdict(list)
        self._without_motion: dict[str, str] = {}
        self._without_times: set[str] = set()  # of points
        self.examples: dict[str, Example] = {}
        self.found: dict[str, Found] = {}

    def add(self, maker: DryMaker, sweep: Sweep, images: Mapping[str, Any], made: Made) -> None:
        """Take a sweep's and its images' edges. Sweeps that show no beams have none."""
        edges = edges_from_sweep(sweep)
        if edges is None or made.frame is None:
            return
        for view in made.frame.views:
            pinhole = pinhole_of(view.calibration)
            rgb = as_pinhole(maker.pixels(view.camera, images[view.camera]), view.calibration, pinhole)
            xyz, velocity, why = _moving(maker, sweep, view, edges.xyz, edges.point)
            near = _near(xyz, pinhole)
            pair = EdgePair(
                xyz[near], velocity[near], edges.kind[near], edges.width[near], edges.piece[near], edges_from_image(rgb)
            )
            with self._lock:
                self._pairs[view.camera].append((view.stamp_ns, pair))
                if why is not None:
                    self._without_motion[view.camera] = why
                if sweep.time_ns is None:
                    self._without_times.add(view.camera)
                shown = self.examples.get(view.camera)
                better = shown is None or len(pair.kind) > len(shown.edges.kind)
            if better:
                every = np.arange(len(sweep))
                points, moving, _ = _moving(maker, sweep, view, sweep.xyz, every)
                near = _near(points, pinhole)
                with self._lock:
                    self.examples[view.camera] = Example(rgb, points[near], moving[near], pair, pinhole)

    def judge(self) -> dict[str, dict[str, Any]]:
        """Search for each camera's best correction; verdicts as plain JSON types, by camera."""
        pairs = {name: [pair for _, pair in sorted(rows, key=_stamp)] for name, rows in sorted(self._pairs.items())}
        with ThreadPoolExecutor(2) as pool:
            waiting = {name: pool.submit(self._search, name, rows) for name, rows in pairs.items()}
            for name in progress(waiting, "check calibration", len(waiting), "camera"):
                self.found[name] = waiting[name].result()
        return {name: self._verdict(name, pairs[name]) for name in pairs}

    def _search(self, camera: str, pairs: list[EdgePair]) -> Found:
        pinhole, angle = self.examples[camera].pinhole, np.deg2rad(self._options.rotation)
        if camera not in self._without_motion and self._options.offset > 0:
            found = search(pairs, pinhole, angle, self._options.offset)
            if _sure(found, slice(3, 4)):
                return found
        # Without motion that shows it, an offset in time would only take up what a rotation explains.
        return search(pairs, pinhole, angle, 0.0)

    def _verdict(self, camera: str, pairs: list[EdgePair]) -> dict[str, Any]:
        found = self.found[camera]
        deviation = np.sqrt(found.deviation**2 + found.beams**2 + _FLOOR**2)
        timed = bool(np.isfinite(deviation[3]))
        why = self._doubt(found, len(pairs))
        least = _LEAST_UNTIMED if camera in self._without_times else RIGHT_OFFSET
        off = np.abs(found.correction)
        wrong = off > np.maximum([RIGHT_ROTATION] * 3 + [least], _SURE * deviation)
        wrong[3] &= timed
        doubtful = off[:3] > np.maximum(_DOUBTFUL, 2 * deviation[:3])
        if not (why or wrong.any()) and doubtful.any():
            turn = np.rad2deg(off[:3][doubtful].max())
            why = f"turned by {turn:.1f} deg it would fit better, but no more so than beams this far apart may have it"
        if not (why or wrong.any()) and (2 * deviation[:3] > _TELLING).any():
            why = f"beams lie so far apart that a turn of {np.rad2deg(2 * deviation[:3].max()):.1f} deg would not show"
        edges = sum(len(pair.kind) for pair in pairs)
        unseen = self._without_motion.get(camera, "the vehicle does not move or turn enough to show it")
        return {
            "frames": len(pairs),
            "edges": edges,
            "score": round(found.score, 1),
            "best_score": round(found.best, 1),
            "verdict": "cannot tell" if why else "wrong" if wrong.any() else "right",
            "why": why,
            "rotation_deg": None if why else _rounded(np.rad2deg(found.correction[:3]), 2),
            "rotation_deviation_deg": None if why else _rounded(np.rad2deg(deviation[:3]), 2),
            "offset_ms": round(float(found.correction[3]) * 1e3, 1) if timed and not why else None,
            "offset_deviation_ms": round(float(deviation[3]) * 1e3, 1) if timed and not why else None,
            "offset_not_observable": None if timed else unseen,
            "points_without_times": camera in self._without_times,
            "turned": bool(wrong[:3].any()) and not why,
        }

    def _doubt(self, found: Found, pairs: int) -> str:
        """Why nothing can be told; empty when something can."""
        if pairs < FEWEST_PAIRS:
            return f"{count(pairs, 'frame')} {'is' if pairs == 1 else 'are'} too few, {FEWEST_PAIRS} are needed"
        if found.best < _LEAST_SCORE:
            return "depth edges and image edges agree nowhere better than by chance"
        if np.abs(found.correction[:3]).max() > np.deg2rad(self._options.rotation):
            return f"the best rotation is beyond --check.rotation {self._options.rotation:g}"
        if abs(found.correction[3]) > self._options.offset:
            return f"the best offset is beyond --check.offset {self._options.offset:g}"
        if not np.isfinite(found.deviation[:3]).all():
            return "the depth edges do not show a turn about every axis"
        if not _sure(found, slice(0, 3)):
            return "the two halves of the drive do not agree"
        return ""


def _sure(found: Found, part: slice) -> bool:
    """Whether both halves of the drive say the same of a part of the correction, and the score has a clear top."""
    agree = np.hypot(_AGREE, 2 * found.beams)
    return bool((found.apart[part] <= agree[part]).all() and (2 * found.deviation[part] <= _AGREE[part]).all())


def _moving(
    maker: DryMaker, sweep: Sweep, view: View, xyz: NDArray[np.float32], point: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], str | None]:
    """Points in the optical frame at the image's time, how fast they would move if it were earlier, or why unknown."""
    frame = view.image.frame_id
    here, why = _placed(maker, sweep, frame, view.stamp_ns, xyz, point)
    if why is not None:
        return here, np.zeros_like(here), why
    before, early = _placed(maker, sweep, frame, view.stamp_ns - _AROUND_NS, xyz, point)
    after, late = _placed(maker, sweep, frame, view.stamp_ns + _AROUND_NS, xyz, point)
    if early or late:  # at the ends of the odometry
        return here, np.zeros_like(here), None
    return here, (before - after) / np.float32(2e-9 * _AROUND_NS), None


def _placed(
    maker: DryMaker, sweep: Sweep, frame: str, stamp_ns: int, xyz: NDArray[np.float32], point: NDArray[np.int64]
) -> tuple[NDArray[np.float32], str | None]:
    start, end, why = maker.transforms(frame, stamp_ns, sweep)
    points = xyz.astype(np.float64)
    placed = points @ start[:3, :3].T + start[:3, 3]
    if end is not None and sweep.time_ns is not None:
        fraction = (sweep.time_ns[point] / sweep.farthest_ns)[:, None]
        placed += fraction * (points @ end[:3, :3].T + end[:3, 3] - placed)
    return placed.astype(np.float32), why


def _near(xyz: NDArray[np.float32], pinhole: Camera) -> NDArray[np.bool_]:
    """Points in or around the image."""
    depth = np.maximum(xyz[:, 2], 1e-3)
    size = np.array([pinhole.width, pinhole.height])
    uv = xyz[:, :2] / depth[:, None] * np.diag(pinhole.matrix)[:2] + pinhole.matrix[:2, 2]
    return np.asarray((xyz[:, 2] > 0.5) & (np.abs(uv / size - 0.5) < 0.5 + _MARGIN).all(axis=1))


def _stamp(row: tuple[int, EdgePair]) -> int:
    return row[0]


def _rounded(values: NDArray[np.float64], digits: int) -> list[float]:
    return [round(float(value), digits) for value in values]
