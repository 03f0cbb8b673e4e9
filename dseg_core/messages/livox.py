"""Livox's own message of points, which most bags of its LiDARs hold instead of a PointCloud2."""

from __future__ import annotations

from typing import Any

import numpy as np

LIVOX_TYPES = tuple(f"{package}/msg/CustomMsg" for package in ("livox_ros_driver2", "livox_ros_driver"))

_COLUMNS = {"x": "f4", "y": "f4", "z": "f4", "reflectivity": "u1", "tag": "u1", "line": "u1", "offset_time": "u4"}


def columns_from_livox(msg: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Columns (N,) of a livox_ros_driver(2)/CustomMsg, as its PointCloud2 would have them.

    x, y and z in metres, LiDAR frame; `offset_time` in nanoseconds after the header's stamp; misses are at 0, 0, 0.
    `line` numbers lasers that sweep all elevations: no beams.
    """
    return {
        name: np.fromiter((getattr(point, name) for point in msg.points), dtype=kind, count=len(msg.points))
        for name, kind in _COLUMNS.items()
    }
