"""Calibration of cameras."""

from __future__ import annotations

from typing import Any

import numpy as np

from dseg_core.cameras import Camera
from dseg_core.errors import DsegError
from dseg_core.messages.common import header, message


def camera_from_message(msg: Any, rectified: bool) -> Camera:
    """Calibration from a sensor_msgs/CameraInfo. `rectified`: the images are, as on `image_rect` topics.

    Binning and region of interest, which say how the driver takes its images, are in what is returned: its size is the
    images'.

    Raises:
        DsegError: Not calibrated, or matrices that make no camera.
    """
    # rosbags and rclpy name the arrays in lower case, ROS 1 in upper case.
    K, D, R, P = (np.asarray(getattr(msg, n, None) if hasattr(msg, n) else getattr(msg, n.upper())) for n in "kdrp")
    whole = Camera(
        frame_id=msg.header.frame_id, width=int(msg.width), height=int(msg.height),
        K=K.astype(np.float64).reshape(3, 3), model=msg.distortion_model or "plumb_bob", D=D.astype(np.float64).ravel(),
        R=R.astype(np.float64).reshape(3, 3), P=P.astype(np.float64).reshape(3, 4), rectified=rectified,
    )  # fmt: skip
    return _as_taken(whole, msg)


def _as_taken(camera: Camera, msg: Any) -> Camera:
    """The calibration of the images themselves: the message's is of the whole sensor without binning."""
    roi, binning = msg.roi, (max(int(msg.binning_x), 1), max(int(msg.binning_y), 1))
    x, y, width, height = (int(v) for v in (roi.x_offset, roi.y_offset, roi.width, roi.height))
    if (width, height) not in ((0, 0), (camera.width, camera.height)):
        camera = camera.cropped(x, y, width, height)
    if binning != (1, 1):
        width, height = camera.width // binning[0], camera.height // binning[1]
        if min(width, height) < 1:
            sizes = f"{binning[0]}x{binning[1]} leaves no pixel of {camera.width}x{camera.height}"
            raise DsegError(f"binning {sizes}", where=f"camera {camera.frame_id}")
        # What is left of the last bins is in no pixel.
        camera = camera.cropped(0, 0, width * binning[0], height * binning[1]).scaled(width, height)
    return camera


def camera_to_message(stamp: int, camera: Camera) -> Any:
    """sensor_msgs/CameraInfo."""
    roi = message(
        "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=camera.rectified
    )
    return message(
        "sensor_msgs/msg/CameraInfo", header=header(stamp, camera.frame_id), height=camera.height, width=camera.width,
        distortion_model=camera.model, d=camera.D.astype(np.float64), k=camera.K.ravel(), r=camera.R.ravel(),
        p=camera.P.ravel(), binning_x=0, binning_y=0, roi=roi,
    )  # fmt: skip
