"""Images brought to the size that a model sees, and masks brought back."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.errors import DsegError
from dseg_core.runtime.size_range import Size

Pixels = NDArray[np.uint8]


def checked(rgb: Pixels) -> Pixels:
    """A contiguous image, uint8 (H, W, 3). Raises DsegError where it is something else, or empty."""
    if not isinstance(rgb, np.ndarray):
        raise DsegError(f"an image must be a numpy array, not {type(rgb).__name__}")
    if rgb.dtype != np.uint8:
        raise DsegError(f"an image must be uint8, not {rgb.dtype}", fix="Convert it to 0..255 first")
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise DsegError(f"an image must be (H, W, 3), not {rgb.shape}", fix="Give RGB")
    if rgb.size == 0:
        raise DsegError(f"an image must have pixels; this one is {rgb.shape}")
    return np.ascontiguousarray(rgb)


def fitted(image: Pixels, size: Size) -> Pixels:
    """An image stretched to `size`, (height, width), by area where it shrinks, else bilinear."""
    if image.shape[:2] == size:
        return image
    shrinks = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size[::-1], interpolation=how), dtype=np.uint8)


def enlarged(cells: Pixels, size: tuple[int, ...]) -> Pixels:
    """By pixel centres, uint8 (h, w) to `size`, (height, width)."""
    if cells.shape == size:
        return cells
    return np.asarray(cv2.resize(cells, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)
