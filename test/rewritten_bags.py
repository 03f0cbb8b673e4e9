"""Bags made from other bags with something wrong in them: stamps that are late, a camera that is turned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dseg_core import messages as ros
from dseg_core.bag import BagReader, BagWriter
from dseg_core.transforms import Matrix


def rewrite(
    source: Path, target: Path, late_ms: float = 0.0, turned_deg: tuple[float, float, float] = (0, 0, 0)
) -> Path:
    """Copy a bag with all image stamps so much late, and all optical frames turned about their axes: the rotation
    vector that puts T_camera_lidar right again is `turned_deg`."""
    with BagReader(source) as reader, BagWriter(target) as writer:
        for message in reader.messages():
            data = message.data
            if message.topic.startswith("/truth"):
                continue
            if "Image" in data.__msgtype__ or "CameraInfo" in data.__msgtype__:
                stamp = ros.stamp_ns(data) + round(late_ms * 1e6)
                data.header.stamp.sec, data.header.stamp.nanosec = stamp // 10**9, stamp % 10**9
            if message.topic == "/tf_static":
                data = _turned(data, np.deg2rad(turned_deg))
            writer.write(message.topic, data, message.log_ns)
    return target


def _turned(data: Any, rotation: Matrix) -> Any:
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.asarray(rotation, float))[0]
    edges = []
    for transform in data.transforms:
        parent, child, T_parent_child = ros.transform_from_message(transform)
        if child.endswith("optical"):
            T_parent_child = T_parent_child @ T
        edges.append((ros.stamp_ns(transform), parent, child, T_parent_child))
    return ros.transforms_to_message(edges)
