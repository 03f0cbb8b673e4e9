"""Processor time of regions beside peers, on the real drive."""

from __future__ import annotations

import resource
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from region_peers import METHODS, own

from dseg_core.cameras import Camera
from dseg_core.frames_from_bag import record
from dseg_core.lidar.rows import rows_of
from dseg_core.records import Sweep
from dseg_core.stage_options import RecordOptions
from dseg_core.store import FrameStore

DRIVE = Path(__file__).parents[2] / "shared" / "data" / "kitti_city"


def moving(sweep: Sweep, ids: np.ndarray, camera: Camera, T: np.ndarray) -> np.ndarray:
    """Ours where every point has a time, and the vehicle drives 1.5 m meanwhile."""
    turned = (np.pi - np.arctan2(sweep.xyz[:, 1], sweep.xyz[:, 0])) / (2 * np.pi)
    timed = replace(sweep, time_ns=(1e8 * turned).astype(np.int64))
    T_end = T.copy()
    T_end[2, 3] -= 1.5
    rows_of(timed)
    start = time.thread_time()
    own(timed, ids, camera, T, T_end)
    return np.array(time.thread_time() - start)


def speed(rounds: int = 12) -> None:
    """Processor milliseconds of one thread, methods in turns; and whether memory grows."""
    if not DRIVE.is_dir():
        print(f"no drive at {DRIVE}: speed left out")
        return
    with tempfile.TemporaryDirectory() as folder:
        record([DRIVE], Path(folder) / "frames", RecordOptions(max_frames=8))
        store = FrameStore(Path(folder) / "frames")
        frames = [store.frame(*key) for key in store.frame_keys]
    took: dict[str, list[float]] = defaultdict(list)
    methods = {"dseg": own, "dseg, each point moved": moving, **METHODS}
    for turn in range(rounds + 1):
        for frame in frames:
            view = frame.views[0]
            for name, method in methods.items():
                start = time.thread_time()
                result = method(frame.sweep, frame.proposals, view.calibration, view.T_image_sweep)
                seconds = float(result) if method is moving else time.thread_time() - start
                if turn:  # the first compiles
                    took[name].append(1e3 * seconds)
    base = np.percentile(took["dseg"], 10)
    print("\n| method | processor ms, p10 (least, median) | times ours |\n|---|---|---|")
    for name, times in took.items():
        p10 = np.percentile(times, 10)
        print(f"| {name} | {p10:.1f} ({min(times):.1f}, {np.median(times):.1f}) | {p10 / base:.1f} |")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(100):
        for frame in frames:
            own(frame.sweep, frame.proposals, frame.views[0].calibration, frame.views[0].T_image_sweep)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"\nPeak memory grew by {grown / 1024:.1f} MB over {100 * len(frames)} more calls of ours.")
