"""A drive past plain boxes, as a LiDAR of any beams, level or tilted, and a camera see it: few edges, all known.

Edges lie anywhere between two beams, and there are too few of them for that to cancel out.
"""

from __future__ import annotations

from pathlib import Path

import bags
import lidars
import numpy as np
from scipy.spatial.transform import Rotation

from dseg_core import messages as ros
from dseg_core.bag import BagWriter
from dseg_core.cameras import Camera

CAMERA = Camera.pinhole("camera_optical", 480, 270, 300.0, 300.0, 239.5, 134.5)
OPTICAL = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], dtype=float)
AHEAD, SPEED = 1.0, 8.0  # metres that the camera sits before the LiDAR, at its height; metres per second
BOXES: tuple[lidars.Box, ...] = (
    (9.9, 14.1, 1.6, 3.4, 1.5), (17.9, 22.1, -3.9, -2.1, 1.5), (8.7, 9.3, -4.3, -3.7, 1.75),
    (14.85, 15.15, 5.85, 6.15, 4), (26, 34, -1.25, 1.25, 3.2), (4, 24, 8.5, 9.5, 6),
    (7.7, 8.3, 4.2, 4.8, 1.7), (15.7, 16.3, -8.3, -7.7, 1.7), (20, 30, -14, -10, 8),
)  # fmt: skip


def _boxes(shift: float) -> tuple[lidars.Box, ...]:
    return tuple((x0 - shift, x1 - shift, *rest) for x0, x1, *rest in BOXES)


def image(way: float) -> np.ndarray:
    """What the camera sees after so many metres, uint8 (H, W, 3)."""
    rays = CAMERA.rays().reshape(-1, 3) @ OPTICAL.T
    truth = lidars.cast(rays / np.linalg.norm(rays, axis=1, keepdims=True), _boxes(way + AHEAD))[1]
    rng = np.random.default_rng(7)
    colors = np.concatenate([[(135, 190, 235), (90, 90, 90)], rng.integers(30, 255, (len(BOXES), 3))])
    seen = colors[truth].reshape(CAMERA.height, CAMERA.width, 3)
    return np.asarray(np.clip(seen + rng.integers(0, 12, seen.shape), 0, 255), dtype=np.uint8)


def write(
    path: Path, elevation: np.ndarray, columns: int, tilt: tuple[str, float] = ("y", 0.0), sweeps: int = 6
) -> Path:
    """A bag of sweeps and images of the same moments.

    Args:
        path: Of the bag.
        elevation: Of the beams, degrees.
        columns: Of a turn.
        tilt: Axis and degrees by which the LiDAR is turned; /tf_static tells it.
        sweeps: How many, 10 a second.
    """
    T_base_lidar, T_base_camera = np.eye(4), np.eye(4)
    T_base_lidar[:3, :3] = Rotation.from_euler(*tilt, degrees=True).as_matrix()
    T_base_camera[:3, :3], T_base_camera[0, 3] = OPTICAL, AHEAD
    rays, ring = lidars.spinning(elevation, columns)
    start, step = bags.START_NS, 100 * bags.MS
    with BagWriter(path) as writer:
        edges = [("base_link", "lidar", T_base_lidar), ("base_link", "camera_optical", T_base_camera)]
        writer.write("/tf_static", ros.transforms_to_message([(start, *edge) for edge in edges]), start)
        for tick in range(-10, 10 * sweeps + 10):
            stamp, T = start + tick * step // 10, np.eye(4)
            T[0, 3] = SPEED * tick / 100
            writer.write("/tf", ros.transforms_to_message([(stamp, "odom", "base_link", T)]), stamp)
        for number in range(sweeps):
            stamp, way = start + number * step, SPEED * number / 10
            hit = lidars.cast(rays @ T_base_lidar[:3, :3].T, _boxes(way), seed=5)[0]
            measured = np.linalg.norm(hit, axis=1) > 0
            xyz = (hit @ T_base_lidar[:3, :3])[measured]
            cloud = {axis: xyz[:, i].copy() for i, axis in enumerate("xyz")} | {"ring": ring[measured]}
            writer.write("/lidar/points", ros.cloud_to_message(stamp, "lidar", cloud), stamp)
            writer.write("/camera/image_raw", ros.image_to_message(stamp, "camera_optical", image(way)), stamp)
            writer.write("/camera/camera_info", ros.camera_to_message(stamp, CAMERA), stamp)
    return path
