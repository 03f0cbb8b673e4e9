"""A mask's classes on the points of a cloud that its camera saw."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.cameras import Camera
from dseg_core.moved_points import moved_points
from dseg_core.records import UNLABELLED, Sweep
from dseg_core.transforms import Matrix

_CELL = 2  # px; depths are compared on so much coarser a grid
_NEARER = 0.8  # what hides a point is nearer than this share of its depth
_ABOVE, _BESIDE = 0.012, 0.004  # how far away on the image what hides may be, in heights of it


def points_from_mask(
    sweep: Sweep, mask: NDArray[np.uint8], camera: Camera, T_start: Matrix, T_end: Matrix | None = None
) -> NDArray[np.uint8]:
    """The class of every point.

    A point behind something nearer is hidden: the LiDAR, mounted elsewhere, sees past what the camera sees. It counts
    as hidden when points at or above its pixel are nearer by a fifth: flat ground in front of a point is below it.

    Args:
        sweep: As measured, N points.
        mask: uint8 (H, W), class ids; 255 unlabelled.
        camera: Of the mask's size.
        T_start: T_image_sweep at the sweep's stamp, float64 (4, 4).
        T_end: The same at the time of the point that is farthest from the stamp; None without motion.

    Returns:
        uint8 (N,), class ids; 255 for points that the camera does not see, that are hidden, or that are unlabelled.
    """
    height, width = mask.shape
    classes = np.full(len(sweep), UNLABELLED, dtype=np.uint8)
    if not len(sweep):
        return classes
    points = moved_points(sweep, np.arange(len(sweep)), T_start, T_end)
    uv, seen = camera.project(points)
    columns, rows = np.floor(uv[seen] + 0.5).astype(np.int64).T
    index = np.flatnonzero(seen)
    depth = points[index, 2].astype(np.float32)
    visible = depth * _NEARER <= _nearest(depth, rows // _CELL, columns // _CELL, height, width)
    classes[index[visible]] = mask[rows[visible], columns[visible]]
    return classes


def _nearest(
    depth: NDArray[np.float32], rows: NDArray[np.int64], columns: NDArray[np.int64], height: int, width: int
) -> NDArray[np.float32]:
    """The least depth at or above each point's cell, float32 (N,)."""
    grid = np.full((height // _CELL + 1, width // _CELL + 1), np.inf, dtype=np.float32)
    farthest_first = np.argsort(-depth)  # of several points in a cell, the nearest is written last
    grid[rows[farthest_first], columns[farthest_first]] = depth[farthest_first]
    above, beside = (max(1, round(share * height / _CELL)) for share in (_ABOVE, _BESIDE))
    window = np.ones((above + 1, 2 * beside + 1), np.uint8)
    least = cv2.erode(grid, window, anchor=(beside, above), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(least, dtype=np.float32)[rows, columns]
