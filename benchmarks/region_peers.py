"""How one would write regions without dseg: points projected by OpenCV, the nearest kept, the gaps filled."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import open3d as o3d
from scipy.ndimage import distance_transform_edt

from dseg_core.cameras import Camera
from dseg_core.records import Sweep
from dseg_core.regions_from_pair import regions_from_pair
from dseg_core.stage_options import RegionOptions

Method = Callable[[Sweep, np.ndarray, Camera, np.ndarray], np.ndarray]
"""Makes regions of a sweep, its proposals, a camera, and T_image_sweep."""

_FILL = 4.0  # pixels: what closes the road between 64 beams
_RADIUS = 1e3  # of open3d's flipping sphere, times the farthest point


def own(sweep: Sweep, ids: np.ndarray, camera: Camera, T: np.ndarray, T_end: np.ndarray | None = None) -> np.ndarray:
    """Ours, with its defaults."""
    return regions_from_pair(sweep, ids, camera, T, RegionOptions(), T_end)


def projected(sweep: Sweep, ids: np.ndarray, camera: Camera, T: np.ndarray) -> np.ndarray:
    """Z-buffer of single pixels, then each pixel takes the nearest painted one's id."""
    xyz = sweep.xyz @ T[:3, :3].T.astype(np.float32) + T[:3, 3].astype(np.float32)
    return _painted(xyz, ids, camera)


def unhidden(sweep: Sweep, ids: np.ndarray, camera: Camera, T: np.ndarray) -> np.ndarray:
    """The same of the points that open3d's hidden point removal (Katz et al. 2007) leaves."""
    xyz = sweep.xyz @ T[:3, :3].T.astype(np.float32) + T[:3, 3].astype(np.float32)
    ahead = np.flatnonzero(xyz[:, 2] > 0.5)
    cloud = o3d.t.geometry.PointCloud(o3d.core.Tensor.from_numpy(np.ascontiguousarray(xyz[ahead])))
    radius = _RADIUS * float(np.linalg.norm(xyz[ahead], axis=1).max())
    _, seen = cloud.hidden_point_removal(np.zeros(3, np.float32), radius)
    kept = ahead[seen.numpy()]
    return _painted(xyz[kept], ids[kept], camera)


def _painted(xyz: np.ndarray, ids: np.ndarray, camera: Camera) -> np.ndarray:
    ahead = xyz[:, 2] > 0.5
    xyz, ids = xyz[ahead], ids[ahead]
    pixels, _ = cv2.projectPoints(xyz.astype(np.float64), np.zeros(3), np.zeros(3), camera.matrix, None)
    x, y = np.rint(pixels[:, 0]).astype(int).T
    inside = (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    x, y, ids, depth = x[inside], y[inside], ids[inside], np.linalg.norm(xyz[inside], axis=1)
    order = np.argsort(-depth)  # the nearest is written last
    regions = np.zeros((camera.height, camera.width), np.uint16)
    regions[y[order], x[order]] = ids[order]
    away, (row, column) = distance_transform_edt(regions == 0, return_indices=True)
    filled = regions[row, column]
    filled[away > _FILL] = 0
    return filled


METHODS: dict[str, Method] = {
    "dseg": own,
    "OpenCV, z-buffer, scipy's nearest": projected,
    "open3d's hidden points removed, then the same": unhidden,
}
