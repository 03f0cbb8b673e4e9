"""Tiny videos for tests, as packets and as what FFmpeg makes of the whole file."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from io import BytesIO
from typing import Any

import av
import bags
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dseg_core import messages as ros

FOXGLOVE, FFMPEG = ros.VIDEO_TYPES
NAMES = {"h264": "libx264", "h265": "libx265"}
STEP_NS = 33_000_000


@dataclass(frozen=True, eq=False)
class Video:
    """`packets`: as they are sent; `shown`: the place of each in the order of showing; `pictures`: in that order."""

    codec: str
    packets: tuple[bytes, ...]
    shown: tuple[int, ...]
    pictures: tuple[NDArray[np.uint8], ...]

    def picture(self, number: int) -> NDArray[np.uint8]:
        """What packet `number` holds."""
        return self.pictures[self.shown[number]]

    def stamp(self, number: int) -> int:
        return bags.START_NS + STEP_NS * self.shown[number]

    def message(self, number: int, kind: str = FOXGLOVE, stamp: int | None = None) -> Any:
        return packet_message(kind, self.codec, self.packets[number], self.stamp(number) if stamp is None else stamp)


def packet_message(kind: str, codec: str, data: bytes, stamp: int) -> Any:
    head, content = ros.header(stamp, "camera_optical"), np.frombuffer(data, np.uint8)
    if kind == FOXGLOVE:
        return ros.message(kind, timestamp=head.stamp, frame_id=head.frame_id, data=content, format=codec)
    return ros.message(
        kind, header=head, width=64, height=48, encoding=f"{codec};bgr8;bgr8;yuv420p", pts=stamp, flags=0,
        is_bigendian=False, data=content,
    )  # fmt: skip


def moving(count: int, size: int) -> list[NDArray[np.uint8]]:
    """Views of a texture that passes by: every picture differs, and follows from the last."""
    height, width = size * bags.CAMERA.height, size * bags.CAMERA.width
    noise = np.random.default_rng(0).integers(0, 256, (height + 2 * count, width + 3 * count, 3)).astype(np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX)
    return [np.ascontiguousarray(texture[2 * i : 2 * i + height, 3 * i : 3 * i + width]) for i in range(count)]


@lru_cache
def video(codec: str, bframes: int = 0, count: int = 30, every: int = 10, more: str = "", size: int = 1) -> Video:
    """Encode pictures of `size` times the camera's, a key frame in `every`; decoded again from the file as a whole."""
    name = NAMES[codec]
    if name not in av.codecs_available:
        pytest.skip(f"this PyAV has no {name}")
    context = av.CodecContext.create(name, "w")
    context.width, context.height, context.pix_fmt = size * bags.CAMERA.width, size * bags.CAMERA.height, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 30), Fraction(30)
    params = f"keyint={every}:min-keyint={every}:scenecut=0:open-gop=0:bframes={bframes}:b-adapt=0:qp=10"
    params += f":log-level=none{more}"
    context.options = {"x264-params" if codec == "h264" else "x265-params": params, "preset": "veryfast"}
    packets = []
    for number, rgb in enumerate(moving(count, size)):
        frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="yuv420p")
        frame.pts = number
        packets += context.encode(frame)
    packets += context.encode(None)
    shown = np.argsort(np.argsort([packet.pts for packet in packets]))
    data = tuple(bytes(packet) for packet in packets)
    with av.open(BytesIO(b"".join(data)), format="h264" if codec == "h264" else "hevc") as file:
        pictures = tuple(frame.to_ndarray(format="rgb24") for frame in file.decode(video=0))
    assert len(pictures) == count
    return Video(codec, data, tuple(int(place) for place in shown), pictures)
