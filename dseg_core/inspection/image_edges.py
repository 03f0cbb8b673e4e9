"""Edges of an image, upright and level ones apart, as an ideal pinhole camera would see them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.cameras import Camera

_WIDEST = 1000
_NEIGHBOURHOOD = 0.06  # of the width, for the local contrast


def pinhole_of(camera: Camera) -> Camera:
    """The pinhole camera in the same optical frame, at most `_WIDEST` wide, in whose images edges are looked for."""
    fx, fy, cx, cy = camera.matrix[0, 0], camera.matrix[1, 1], camera.matrix[0, 2], camera.matrix[1, 2]
    ideal = Camera.pinhole(camera.frame_id, camera.width, camera.height, fx, fy, cx, cy)
    if camera.width <= _WIDEST:
        return ideal
    return ideal.scaled(_WIDEST, round(camera.height * _WIDEST / camera.width))


def as_pinhole(rgb: NDArray[np.uint8], camera: Camera, pinhole: Camera) -> NDArray[np.uint8]:
    """An image uint8 (H, W, 3) of a camera as the pinhole sees it, uint8 (h, w, 3); black where the camera does not."""
    plain = not camera.distorted and np.array_equal(camera.R, np.eye(3)) and not camera.P[:, 3].any()
    size = (pinhole.width, pinhole.height)
    if plain or (camera.rectified and np.allclose(camera.R, np.eye(3)) and not camera.P[:, 3].any()):
        return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    uv, seen = camera.project(pinhole.rays().reshape(-1, 3))
    uv[~seen] = -1e4
    at = uv.astype(np.float32).reshape(pinhole.height, pinhole.width, 2)
    return np.asarray(cv2.remap(rgb, at, None, cv2.INTER_LINEAR), dtype=np.uint8)


def edges_from_image(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How much each pixel is an edge, for its surroundings: uint8 (2, H, W), upright edges and level ones.

    Gradients of the strongest colour channel over the mean gradient nearby, so that leaves and gravel, which are all
    edges, do not outweigh the outlines of things.
    """
    smooth = cv2.GaussianBlur(rgb, (0, 0), 1.0).astype(np.float32)
    found = []
    side = max(3, round(rgb.shape[1] * _NEIGHBOURHOOD))
    gradients = [np.abs(cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3)).max(axis=2) for order in ((1, 0), (0, 1))]
    usual = cv2.blur(gradients[0] + gradients[1], (side, side)) / 2
    floor = max(float(usual.mean()), 1.0)
    for gradient in gradients:
        found.append(np.clip(gradient / (usual + 0.5 * floor) * 50, 0, 255).astype(np.uint8))
    return np.stack(found)
