"""Pixels of sensor_msgs/Image in every encoding that cars record, as RGB.

Names are those of ROS's `sensor_msgs/image_encodings.hpp`. OpenCV converts, as cv_bridge does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.errors import DsegError

Pixels: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True)
class _Layout:
    """One plane of pixels. `code`: OpenCV's conversion to RGB, None for RGB itself; `note`: what is guessed or lost."""

    channels: int
    code: int | None
    bytes: int = 1
    even_width: bool = False
    smallest: int = 1
    note: str | None = None


_DEPTH = "{} is scaled to 8 bits by its high byte, as values of the full 16 bits: lower-aligned ones come out dark"
_ORDER = "{} names no order of colours and is read as {}, as cv_bridge writes it"
_GREY = "{} is taken for brightness, not depth"
_MOSAIC = "{} has one colour a pixel, the others are interpolated bilinearly"
_YUV = "{} is converted as BT.601 of limited range, as cv_bridge does"
_COLORS = {"rgb": (3, None), "bgr": (3, cv2.COLOR_BGR2RGB), "rgba": (4, cv2.COLOR_RGBA2RGB),
           "bgra": (4, cv2.COLOR_BGRA2RGB), "mono": (1, cv2.COLOR_GRAY2RGB)}  # fmt: skip
# ROS names a pattern by its first four pixels, OpenCV by the second row's second and third: rggb is OpenCV's BG.
_BAYER = {"rggb": cv2.COLOR_BayerBG2RGB, "bggr": cv2.COLOR_BayerRG2RGB,
          "gbrg": cv2.COLOR_BayerGR2RGB, "grbg": cv2.COLOR_BayerGB2RGB}  # fmt: skip
_PACKED = {"yuv422": cv2.COLOR_YUV2RGB_UYVY, "uyvy": cv2.COLOR_YUV2RGB_UYVY,
           "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2, "yuyv": cv2.COLOR_YUV2RGB_YUY2}  # fmt: skip
_ALIASES = {1: "mono", 3: "bgr", 4: "bgra"}
# A second plane of interleaved chroma: at half the size, but for nv24.
_SEMI_PLANAR = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21, "nv24": cv2.COLOR_YUV2RGB_YUY2}


def _layouts() -> dict[str, _Layout]:
    found = {}
    for size, bits in ((1, 8), (2, 16)):
        scaled = "" if size == 1 else _DEPTH
        for name, (channels, code) in _COLORS.items():
            found[f"{name}{bits}"] = _Layout(channels, code, size, note=scaled or None)
        for channels, name in _ALIASES.items():
            order = ("", "", _GREY)[size] if channels == 1 else _ORDER.format("{}", name[:3].upper())
            note = "; ".join(part for part in (order, scaled) if part)
            found[f"{bits}UC{channels}"] = _Layout(channels, _COLORS[name][1], size, note=note or None)
        for pattern, code in _BAYER.items():
            note = "; ".join(part for part in (_MOSAIC, scaled) if part)
            # OpenCV leaves pictures of fewer than three rows or columns black.
            found[f"bayer_{pattern}{bits}"] = _Layout(1, code, size, smallest=3, note=note)
    for name, code in _PACKED.items():
        found[name] = _Layout(2, code, even_width=True, note=_YUV)
    return found


_LAYOUTS = _layouts()
ENCODINGS = (*_LAYOUTS, *_SEMI_PLANAR)
"""All encodings that can be read."""


def encoding_note(encoding: str) -> str | None:
    """What a reader of a run's summary must know of images in this encoding: one sentence, or None for exact ones."""
    note = _YUV if encoding in _SEMI_PLANAR else _LAYOUTS[encoding].note if encoding in _LAYOUTS else None
    return None if note is None else note.replace("{}", encoding, 1).replace("{}", "it")


def rgb_from_pixels(encoding: str, data: Pixels, size: tuple[int, int], step: int, big_endian: bool) -> Pixels:
    """Convert an image's bytes.

    16 bits become 8 by the high byte, as in 16-bit PNGs: the same for every image, whatever is in it, so that nothing
    flickers. Colours of a Bayer pattern are interpolated bilinearly, those of YUV are BT.601 of limited range; alpha is
    left out.

    Args:
        encoding: Of ENCODINGS.
        data: uint8 (N,), rows one after another; the last may lack its padding.
        size: Width and height in pixels. Where all rows of nv12, nv21 or nv24 are counted as height, that is noticed.
        step: Bytes from one row to the next.
        big_endian: Byte order of 16 bits.

    Returns:
        uint8 (H, W, 3) RGB, perhaps a view of the data.

    Raises:
        DsegError: Another encoding, or sizes that do not fit it or the data; names the encoding.
    """
    if encoding in _SEMI_PLANAR:
        return _from_two_planes(encoding, data, size, step)
    layout = _LAYOUTS.get(encoding)
    if layout is None:
        raise DsegError(f"encoding {encoding!r} cannot be read", fix=f"These can: {', '.join(ENCODINGS)}")
    width, height = size
    if layout.even_width and width % 2:
        raise DsegError(f"{width}x{height} {encoding}: the width must be even")
    if 0 < min(size) < layout.smallest:
        raise DsegError(f"{width}x{height} {encoding} is too small to have colours")
    rows = _rows(encoding, data, size, height, width * layout.channels * layout.bytes, step)
    if layout.bytes == 2:
        rows = np.ascontiguousarray(rows[:, (0 if big_endian else 1) :: 2])
    pixels = rows.reshape(height, width, layout.channels)
    if layout.code is None:
        return np.ascontiguousarray(pixels)
    return np.asarray(cv2.cvtColor(pixels[..., 0] if layout.channels == 1 else pixels, layout.code), dtype=np.uint8)


def _from_two_planes(encoding: str, data: Pixels, size: tuple[int, int], step: int) -> Pixels:
    """nv12 and nv21: luma, then half as many rows of chroma. nv24: luma, then rows of chroma twice as long."""
    width, height = size
    more = 4 if encoding == "nv24" else 1  # rows of `step` bytes for every two of luma
    if height * step == len(data) and not height % 3:
        height = height * 2 // (2 + more)  # as cv_bridge and others fill it in: all rows of both planes
    if encoding != "nv24" and (width % 2 or height % 2):
        raise DsegError(f"{width}x{height} {encoding}: width and height must be even")
    rows = _rows(encoding, data, (width, height), height + height * more // 2, width, step)
    if encoding != "nv24":
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(rows), _SEMI_PLANAR[encoding]), dtype=np.uint8)
    chroma = _rows(encoding, data[height * step :], (width, height), height, 2 * width, 2 * step)
    # Every pixel twice, as a pair that shares its chroma: what OpenCV can convert.
    pairs = np.empty((height, width, 2, 2), np.uint8)
    pairs[..., 0] = rows[:height, :, None]
    pairs[..., 1] = chroma.reshape(height, width, 2)
    doubled = cv2.cvtColor(pairs.reshape(height, 2 * width, 2), _SEMI_PLANAR[encoding])
    return np.ascontiguousarray(doubled[:, ::2], dtype=np.uint8)


def _rows(encoding: str, data: Pixels, size: tuple[int, int], count: int, length: int, step: int) -> Pixels:
    """A view of the data's rows without their padding: uint8 (count, length)."""
    width, height = size
    if width < 1 or height < 1 or step < length or len(data) < step * (count - 1) + length:
        raise DsegError(f"{width}x{height} {encoding} with step {step} does not fit {len(data)} bytes")
    return np.ndarray((count, length), np.uint8, data.data, strides=(step, 1))
