"""Images and regions as bytes: JPEG and PNG, and back."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.class_colors import object_colors
from dseg_core.errors import DsegError
from dseg_core.records import REGION_FIRST_OBJECT, EncodedImage
from dseg_core.stage_options import StoreOptions


def decode(image: EncodedImage) -> NDArray[np.uint8]:
    """Decode to RGB: uint8 (H, W, 3). Raises DsegError when the data is broken."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    bgr = cv2.imdecode(np.frombuffer(image.data, np.uint8), flags) if image.data else None
    if bgr is None:
        raise DsegError(f"the {image.format} image of {image.frame_id} at {image.stamp_ns} ns cannot be decoded")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def encode(stamp_ns: int, frame_id: str, rgb: NDArray[np.uint8], options: StoreOptions) -> EncodedImage:
    """Encode an RGB image uint8 (H, W, 3) as the options say."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    if options.image_format == "png":
        data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    else:
        data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, options.jpeg_quality])[1]
    return EncodedImage(stamp_ns, frame_id, options.image_format, data.tobytes())


def encode_regions(regions: NDArray[np.uint16]) -> bytes:
    """A 16-bit PNG of uint16 (H, W)."""
    from dseg_core.png_from_ids import png_from_ids  # with numba, which those who only decode do without

    return png_from_ids(regions)


def decode_regions(data: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Regions uint16 (H, W) of a 16-bit PNG's bytes, uint8 (N,). Raises DsegError when they are broken."""
    regions = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if regions is None or regions.dtype != np.uint16 or regions.ndim != 2:
        raise DsegError("regions are no 16-bit PNG")
    return np.asarray(regions)


def encode_preview(regions: NDArray[np.uint16]) -> bytes:
    """A picture of regions for people, as a PNG with a palette."""
    from dseg_core.png_from_ids import png_from_ids

    return png_from_ids(_palette_index(regions), _PALETTE.tobytes())


def region_colors(regions: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """The same picture: black none, dark violet ground, a colour per object; uint8 (H, W, 3) RGB."""
    return _PALETTE[_palette_index(regions)]


_PALETTE = object_colors(256)
_OBJECTS = 192  # three times the colours there are, so that ids have one colour everywhere


def _palette_index(regions: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Objects beyond the palette's end take its colours again."""
    index = regions.astype(np.uint8)
    if regions.size and int(regions.max()) > 255:
        wrapped = (regions - REGION_FIRST_OBJECT) % _OBJECTS + REGION_FIRST_OBJECT
        index = np.where(regions < REGION_FIRST_OBJECT, regions, wrapped).astype(np.uint8)
    return index
