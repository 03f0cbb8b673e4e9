"""The calibration of a topic's images: camera_info, made a camera only when it, or the images' size, changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo

from dseg_core.cameras import Camera
from dseg_core.errors import DsegError
from dseg_ros.conversions import camera_from_ros
from dseg_ros.reasons import Reasons


class ImageCamera:
    """`problem`: why there is no camera for the last image that one was asked for; nothing when there is.

    Args:
        topic: Of the camera_info.
        rectified: Whether the images are.
        warn: Told of each kind of camera_info of no use once.
    """

    def __init__(self, topic: str, rectified: bool, warn: Callable[[str], object]) -> None:
        self.topic, self.problem = topic, ""
        self._rectified, self._warn = rectified, warn
        self._info: CameraInfo | None = None
        self._made_of: Any = None
        self._camera: Camera | None = None
        self._refused = Reasons()

    def take(self, info: CameraInfo) -> None:
        """The newest camera_info; from any thread."""
        self._info = info

    def camera(self, size: tuple[int, int]) -> Camera | None:
        """Of images of (height, width), in one thread; None without a camera_info that fits them."""
        info = self._info
        if info is None:
            self.problem = f"nothing has come on {self.topic}"
            return None
        if (made_of := (_content(info), size)) != self._made_of:
            self._made_of, self._camera, self.problem = made_of, None, ""
            try:
                self._camera = camera_from_ros(info, self._rectified, size)
            except DsegError as error:
                self.problem = f"{self.topic}: camera_info left out: {error}"
                if self._refused.add(error.what):
                    self._warn(self.problem)
        return self._camera


def _content(info: CameraInfo) -> tuple[Any, ...]:
    """What a camera is made of. Arrays as bytes, so that NaN is equal to itself."""
    arrays = tuple(np.asarray(values).tobytes() for values in (info.d, info.k, info.r, info.p))
    kind = info.header.frame_id, info.height, info.width, info.distortion_model, info.binning_x, info.binning_y
    return *kind, info.roi, *arrays
