"""Feeding bags to the live recorder without ROS, and comparing folders of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from bag_player import rows_of
from bags import CAMERA, T_LIDAR_CAMERA

from dseg_core.live.folder import LiveFolder
from dseg_core.live.messages import LiveMessage, Memory, header_of
from dseg_core.live.recorder import LiveRecorder
from dseg_core.records import Frame
from dseg_core.sensors_from_bag import LIDAR, CameraTopic, Sensors
from dseg_core.stage_options import LiveOptions
from dseg_core.store import FrameStore
from dseg_core.transforms import TransformTree, pose_from_matrix

LIDAR_TOPIC, IMAGE_TOPIC = "/lidar/points", "/camera/image_raw"
NAMES = {LIDAR_TOPIC: LIDAR, IMAGE_TOPIC: "camera"}


def tree() -> TransformTree:
    """Where the sensors of `bags` are mounted."""
    found = TransformTree()
    found.add("base_link", "lidar", np.eye(4))
    found.add("lidar", "camera_optical", T_LIDAR_CAMERA)
    return found


def calibration(
    path: Path, T_lidar_camera: Any = T_LIDAR_CAMERA, frames: tuple[str, str] = ("lidar", "camera_optical")
) -> Path:
    """A calibration YAML of the same."""
    translation, quaternion = pose_from_matrix(T_lidar_camera)
    row = {
        "parent": frames[0],
        "child": frames[1],
        "translation": translation.tolist(),
        "quaternion": quaternion.tolist(),
    }
    path.write_text(yaml.safe_dump({"transforms": [row]}))
    return path


class Car:
    """A live recorder of the sensors of `bags`, and what it says. A context manager."""

    def __init__(
        self,
        out: Path,
        show: Callable[[Frame], None] | None = None,
        transforms: Any = None,
        absent: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        self.options = LiveOptions.from_mapping({"min_free_disk": 0.0, **options})
        self.memory = Memory(round(self.options.memory * 1e6))
        self.folder = LiveFolder(out, self.options.record_options())
        self.said: list[str] = []
        camera = CameraTopic("camera", IMAGE_TOPIC, CAMERA)
        self.sensors = Sensors(LIDAR_TOPIC, (camera,), transforms or tree(), (), absent=absent)
        self.recorder = LiveRecorder(self.folder, self.sensors, self.options, self.memory, self.said.append, show)

    def play(self, rows: Iterable[tuple[str, str, int, bytes]]) -> None:
        """Push a bag's messages, those that are of its sensors."""
        for topic, kind, _, data in rows:
            if topic in NAMES:
                self.push(NAMES[topic], kind, data)

    def push(self, sensor: str, kind: str, data: bytes) -> None:
        """Push one message."""
        assert self.memory.take(len(data))
        self.recorder.push(sensor, LiveMessage(kind, data, header_of(data), self.memory))

    def __enter__(self) -> Car:
        return self

    def __exit__(self, *_: object) -> None:
        self.recorder.close()
        self.folder.close()


def assert_same_frames(live: Path, recorded: Path, drive: str = "") -> None:
    """Two folders hold the same pairs, offsets, proposals, images and regions; drives may be called differently."""
    mine, theirs = FrameStore(live), FrameStore(recorded)
    frames = [f for f in mine.frames() if drive in ("", f.drive)]
    others = list(theirs.frames())
    assert [f.stamp_ns for f in frames] == [f.stamp_ns for f in others]
    for one, other in zip(frames, others, strict=True):
        assert np.array_equal(one.sweep.xyz, other.sweep.xyz)
        assert np.array_equal(one.proposals, other.proposals)
        assert [v.camera for v in one.views] == [v.camera for v in other.views]
        for view, twin in zip(one.views, other.views, strict=True):
            assert view.stamp_ns == twin.stamp_ns
            assert view.image.data == twin.image.data
            assert np.array_equal(view.regions, twin.regions)
            assert view.motion_compensated == twin.motion_compensated
            assert np.allclose(view.T_image_sweep, twin.T_image_sweep, atol=1e-9)


__all__ = ["IMAGE_TOPIC", "LIDAR_TOPIC", "Car", "assert_same_frames", "calibration", "rows_of", "tree"]
