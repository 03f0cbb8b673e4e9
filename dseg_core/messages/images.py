"""Images, raw and compressed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dseg_core.errors import DsegError
from dseg_core.messages.common import header, message, stamp_ns
from dseg_core.records import EncodedImage, Image


def image_from_message(msg: Any) -> Image:
    """Decode a sensor_msgs/Image: rgb8, bgr8 or mono8 (repeated in three channels).

    Raises:
        DsegError: Another encoding, or sizes that do not fit the data.
    """
    channels = {"rgb8": 3, "bgr8": 3, "mono8": 1, "8UC3": 3, "8UC1": 1}.get(msg.encoding)
    if channels is None:
        raise DsegError(f"encoding {msg.encoding!r} cannot be read", fix="rgb8, bgr8, mono8 and compressed images can")
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    data = np.frombuffer(msg.data, dtype=np.uint8)
    if height < 1 or width < 1 or step < width * channels or len(data) < step * height:
        raise DsegError(f"{width}x{height} {msg.encoding} with step {step} does not fit {len(data)} bytes")
    rows = data[: step * height].reshape(height, step)[:, : width * channels]
    pixels = rows.reshape(height, width, channels)
    if msg.encoding in ("bgr8", "8UC3"):  # OpenCV's order is what 8UC3 means in practice
        pixels = pixels[..., ::-1]
    rgb = np.ascontiguousarray(np.broadcast_to(pixels, (height, width, 3)))
    return Image(stamp_ns(msg), msg.header.frame_id, rgb)


def encoded_from_message(msg: Any) -> EncodedImage:
    """Take a sensor_msgs/CompressedImage as it is. The format is told by the data, as drivers name it in many ways.

    Raises:
        DsegError: Neither JPEG nor PNG.
    """
    data = bytes(memoryview(msg.data))
    if data[:2] == b"\xff\xd8":
        kind = "jpeg"
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        kind = "png"
    else:
        raise DsegError(f"compressed image of format {msg.format!r} cannot be read", fix="JPEG and PNG can")
    return EncodedImage(stamp_ns(msg), msg.header.frame_id, kind, data)


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
