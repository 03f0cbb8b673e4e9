"""Images, raw and compressed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dseg_core.errors import DsegError
from dseg_core.messages.common import header, message, stamp_ns
from dseg_core.messages.encodings import rgb_from_pixels
from dseg_core.records import EncodedImage, Image

_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9
# In entropy-coded data 0xFF is followed by 0, or by a restart marker; anything else ends the scan.
_JPEG_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def image_from_message(msg: Any) -> Image:
    """Decode a sensor_msgs/Image of any encoding in `encodings.ENCODINGS`; see `rgb_from_pixels` for how.

    Raises:
        DsegError: Another encoding, or sizes that do not fit the data.
    """
    data = np.frombuffer(msg.data, dtype=np.uint8) if len(msg.data) else np.zeros(0, np.uint8)
    size = int(msg.width), int(msg.height)
    rgb = rgb_from_pixels(str(msg.encoding), data, size, int(msg.step), bool(msg.is_bigendian))
    return Image(stamp_ns(msg), msg.header.frame_id, rgb)


def encoded_from_message(msg: Any) -> EncodedImage:
    """Take a sensor_msgs/CompressedImage as it is. The format is told by the data, as drivers name it in many ways.

    Raises:
        DsegError: Neither JPEG nor PNG, or its end is missing.
    """
    data = bytes(memoryview(msg.data))
    if data[:2] == b"\xff\xd8":
        kind, whole = "jpeg", _jpeg_is_whole(data)
    elif data[:8] == _PNG_START:
        kind, whole = "png", _PNG_END in data[-4096:]
    else:
        raise DsegError(f"compressed image of format {msg.format!r} cannot be read", fix="JPEG and PNG can")
    if not whole:
        raise DsegError(f"broken {kind} image")
    return EncodedImage(stamp_ns(msg), msg.header.frame_id, kind, data)


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether the end marker is where the segments lead to: decoders fill up with grey, or repeat rows, without it."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 1 < len(data):
        marker = data[at + 1]
        if marker == _JPEG_END:
            return True
        if marker == 0xFF:  # padding
            at += 1
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _JPEG_SCAN:
            end = _JPEG_SCAN_END.search(data, at)
            if end is None:
                return False
            at = end.start()
    return False


def image_to_message(stamp: int, frame_id: str, pixels: NDArray[Any]) -> Any:
    """sensor_msgs/Image: uint8 (H, W, 3) as rgb8, uint8 (H, W) as mono8, uint16 (H, W) as mono16."""
    encoding = "rgb8" if pixels.ndim == 3 else {1: "mono8", 2: "mono16"}[pixels.itemsize]
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
    return message(
        "sensor_msgs/msg/Image", header=header(stamp, frame_id), height=height, width=width, encoding=encoding,
        is_bigendian=0, step=len(data) // height, data=data,
    )  # fmt: skip


def encoded_to_message(image: EncodedImage) -> Any:
    """sensor_msgs/CompressedImage."""
    data = np.frombuffer(image.data, dtype=np.uint8)
    head = header(image.stamp_ns, image.frame_id)
    return message("sensor_msgs/msg/CompressedImage", header=head, format=image.format, data=data)
