"""camera_info as drivers send it: late, wrong, changing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS's wheels are not installed")

from sensor_msgs.msg import CameraInfo

from dseg_ros.image_camera import ImageCamera

SIZE = (100, 200)


def info(focal: float = 80.0, height: int = 100, width: int = 200, frame_id: str = "optical") -> CameraInfo:
    made = CameraInfo(height=height, width=width, distortion_model="plumb_bob", d=[0.0] * 5)
    made.header.frame_id = frame_id
    made.k = [focal, 0.0, 99.5, 0.0, focal, 49.5, 0.0, 0.0, 1.0]
    made.r = np.eye(3).ravel().tolist()
    made.p = [focal, 0.0, 99.5, 0.0, 0.0, focal, 49.5, 0.0, 0.0, 0.0, 1.0, 0.0]
    return made


@pytest.fixture
def told() -> list[str]:
    """Warnings."""
    return []


@pytest.fixture
def images(told: list[str]) -> ImageCamera:
    """Of raw images."""
    return ImageCamera("/front/camera_info", False, told.append)


def test_nothing_has_come(images: ImageCamera, told: list[str]) -> None:
    assert images.camera(SIZE) is None
    assert images.problem == "nothing has come on /front/camera_info"
    images.take(info())
    assert images.camera(SIZE) is not None
    assert (images.problem, told) == ("", [])


def test_camera_is_made_anew_only_when_something_changes(images: ImageCamera) -> None:
    images.take(info())
    first = images.camera(SIZE)
    images.take(info())
    assert images.camera(SIZE) is first
    half: Any = images.camera((50, 100))
    assert (half.height, half.width, half.K[0, 0]) == (50, 100, 40.0)
    for changed, expected in ((info(focal=90.0), (90.0, "optical")), (info(frame_id="other"), (80.0, "other"))):
        images.take(changed)
        made: Any = images.camera(SIZE)
        assert (made.K[0, 0], made.frame_id) == expected


@pytest.mark.parametrize("bad", [info(focal=0.0), info(focal=float("nan")), info(height=100, width=100)])
def test_wrong_one_is_told_once_and_kept_in_mind(images: ImageCamera, told: list[str], bad: CameraInfo) -> None:
    for _ in range(5):
        images.take(bad)
        assert images.camera(SIZE) is None
        assert images.problem.startswith("/front/camera_info: camera_info left out: ")
    assert len(told) == 1
    images.take(info())
    assert images.camera(SIZE) is not None
    assert images.problem == ""
    images.take(bad)
    assert images.camera(SIZE) is None
    assert images.problem
    assert len(told) == 1, "drivers that take turns on one topic must not fill the log"
