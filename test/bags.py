"""Tiny bags for tests: a wall and a box before one or more cameras, with everything `record` needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core import messages as ros
from dseg_core.bag import BagWriter
from dseg_core.cameras import Camera
from dseg_core.records import EncodedImage

MS = 1_000_000
START_NS = 1_700_000_000 * 1_000_000_000
CAMERA = Camera.pinhole("camera_optical", 64, 48, 40.0, 40.0, 31.5, 23.5)
# Optical frame (x right, y down, z forward) in the LiDAR's (x forward, z up), a little beside and below it.
T_LIDAR_CAMERA = np.array([[0, 0, 1, 0.1], [-1, 0, 0, 0.0], [0, -1, 0, -0.2], [0, 0, 0, 1.0]])


def scene() -> NDArray[np.float32]:
    """Ground, and a box of 1 m ahead, as 32 beams see them from 1.8 m up; float32 (N, 3), ring by ring."""
    points = []
    for elevation in np.deg2rad(np.linspace(10, -30, 32)):
        azimuth = np.deg2rad(np.arange(180, -180, -1.0))
        direction = np.stack(
            [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.full(360, np.sin(elevation))],
            -1,
        )
        with np.errstate(divide="ignore"):
            ground = np.where(direction[:, 2] < 0, -1.8 / direction[:, 2], np.inf)
            face = np.where(direction[:, 0] > 0, 6.0 / direction[:, 0], np.inf)
        hit = direction * np.where(np.isfinite(face), face, 0)[:, None]
        on_box = (np.abs(hit[:, 1]) < 0.5) & (hit[:, 2] < -0.4) & (hit[:, 2] > -1.8)
        reach = np.where(on_box, face, ground)
        reach[reach > 60] = np.nan
        points.append(direction * reach[:, None])
    return np.concatenate(points).astype(np.float32)


def rings() -> NDArray[np.uint16]:
    return np.repeat(np.arange(32, dtype=np.uint16), 360)


def cloud(stamp: int, **extra: NDArray[Any]) -> Any:
    xyz = scene()
    columns = {axis: xyz[:, i].copy() for i, axis in enumerate("xyz")} | {"ring": rings()} | extra
    return ros.cloud_to_message(stamp, "lidar", columns)


def picture(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (CAMERA.height, CAMERA.width, 3)).astype(np.uint8)


def compressed(stamp: int, seed: int, kind: str = "jpeg") -> Any:
    data = cv2.imencode(".jpg" if kind == "jpeg" else ".png", picture(seed)[..., ::-1])[1].tobytes()
    return ros.encoded_to_message(EncodedImage(stamp, "camera_optical", kind, data))


def transforms() -> Any:
    mounted = [("base_link", "lidar", np.eye(4)), ("lidar", "camera_optical", T_LIDAR_CAMERA)]
    return ros.transforms_to_message([(START_NS, *edge) for edge in mounted])


def bag_rows(
    sweeps: Sequence[int] = (0, 100, 200),
    images: Sequence[int] = (4, 104, 204),
    image: Callable[[int, int], Any] | None = None,
    sweep: Callable[[int], Any] = cloud,
    leave_out: Sequence[str] = (),
    more: Sequence[tuple[str, Any, int]] = (),
) -> list[tuple[str, Any, int]]:
    """(topic, message, log time) in order; times in ms after START_NS, log times equal to stamps."""
    make = image or (lambda stamp, seed: ros.image_to_message(stamp, "camera_optical", picture(seed)))
    topic = "/camera/image_raw" + ("/compressed" if "Compressed" in make(START_NS, 0).__msgtype__ else "")
    rows = [("/tf_static", transforms(), START_NS)]
    rows += [("/lidar/points", sweep(START_NS + t * MS), START_NS + t * MS) for t in sweeps]
    for number, t in enumerate(images):
        stamp = START_NS + t * MS
        rows += [
            (topic, make(stamp, number), stamp),
            ("/camera/camera_info", ros.camera_to_message(stamp, CAMERA), stamp),
        ]
    rows += list(more)
    return sorted((row for row in rows if row[0] not in leave_out), key=lambda row: row[2])


def write_bag(path: Path, *args: Any, storage: str = "mcap", **rows: Any) -> Path:
    """Write a bag of `bag_rows`."""
    with BagWriter(path, storage) as writer:
        for row in bag_rows(*args, **rows):
            writer.write(*row)
    return path
