"""Messages to records and back, and into the real ROS types; point clouds of every layout."""

from __future__ import annotations

from typing import Any

import bags
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dseg_core import messages as ros
from dseg_core.bag import drive_name
from dseg_core.errors import DsegError
from dseg_core.records import EncodedImage
from dseg_core.topic_names import camera_name, info_topic
from dseg_core.transforms import matrix_from_pose


@pytest.mark.parametrize(("encoding", "order"), [("rgb8", [0, 1, 2]), ("bgr8", [2, 1, 0])])
def test_images_come_back(encoding: str, order: list[int]) -> None:
    rgb = bags.picture(3)
    message = ros.image_to_message(123, "camera", rgb[..., order])
    message.encoding = encoding
    image = ros.image_from_message(message)
    assert (image.stamp_ns, image.frame_id) == (123, "camera")
    np.testing.assert_array_equal(image.rgb, rgb)


def test_grey_images_and_padded_rows() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    padded = np.zeros((3, 7), dtype=np.uint8)
    padded[:, :4] = grey
    message = ros.image_to_message(0, "camera", grey)
    message.step, message.data = 7, padded.reshape(-1)
    np.testing.assert_array_equal(ros.image_from_message(message).rgb, np.repeat(grey[..., None], 3, axis=2))


def test_wrong_images_are_refused() -> None:
    message = ros.image_to_message(0, "camera", bags.picture(0))
    message.data = message.data[:-1]
    with pytest.raises(DsegError, match="does not fit"):
        ros.image_from_message(message)
    message.encoding = "32FC1"
    with pytest.raises(DsegError, match="encoding '32FC1' cannot be read"):
        ros.image_from_message(message)
    with pytest.raises(DsegError, match="compressed image of format 'jpeg' cannot be read"):
        ros.encoded_from_message(ros.encoded_to_message(EncodedImage(0, "camera", "jpeg", b"not a jpeg")))


def test_cameras_and_transforms_come_back() -> None:
    camera = ros.camera_from_message(ros.camera_to_message(5, bags.CAMERA), True)
    np.testing.assert_array_equal(camera.P, bags.CAMERA.P)
    assert (camera.width, camera.height, camera.frame_id) == (64, 48, "camera_optical")
    T = matrix_from_pose((1, 2, 3), (0.1, 0.2, 0.3, 0.4))
    parent, child, back = ros.transform_from_message(ros.transform_to_message(9, "a", "b", T))
    assert (parent, child) == ("a", "b")
    np.testing.assert_allclose(back, T, atol=1e-12)


NAMES = {"f4": 7, "f8": 8, "u1": 2, "u2": 4, "i4": 5, "u4": 6}


@given(
    st.permutations(["x", "y", "z", "intensity", "ring"]),
    st.lists(st.integers(0, 5), min_size=6, max_size=6),
    st.booleans(),
    st.sampled_from(["f4", "f8"]),
    st.tuples(st.integers(1, 4), st.integers(0, 9)),
    st.integers(0, 3),
)
def test_any_layout_of_points(
    order: list[str], gaps: list[int], big: bool, real: str, size: tuple[int, int], row_gap: int
) -> None:
    """Fields in any order, with gaps between them, points and rows; both byte orders; one or more rows."""
    height, width = size
    kinds = {"x": real, "y": real, "z": real, "intensity": "u1", "ring": "u2"}
    offsets, at = {}, 0
    for name, gap in zip(order, gaps, strict=False):
        offsets[name] = at + gap
        at = offsets[name] + np.dtype(kinds[name]).itemsize
    step = at + gaps[5]
    row_step = step * width + row_gap
    rng = np.random.default_rng(0)
    values = {name: (rng.normal(size=(height, width)) * 50 + 100).astype(kind) for name, kind in kinds.items()}
    data = rng.integers(0, 256, row_step * height).astype(np.uint8)
    for name, kind in kinds.items():
        raw = values[name].astype((">" if big else "<") + kind)
        for row in range(height):
            for column in range(width):
                start = row * row_step + column * step + offsets[name]
                data[start : start + raw.itemsize] = np.frombuffer(raw[row, column : column + 1].tobytes(), np.uint8)
    fields = [
        ros.message("sensor_msgs/msg/PointField", name=n, offset=offsets[n], datatype=NAMES[kinds[n]], count=1)
        for n in order
    ]
    message = ros.message(
        "sensor_msgs/msg/PointCloud2", header=ros.header(7, "lidar"), height=height, width=width, fields=fields,
        is_bigendian=big, point_step=step, row_step=row_step, data=data, is_dense=True,
    )  # fmt: skip
    sweep = ros.sweep_from_message(message)
    for i, axis in enumerate("xyz"):
        np.testing.assert_array_equal(sweep.xyz[:, i], values[axis].ravel().astype(np.float32))
    assert sweep.intensity is not None and sweep.ring is not None
    np.testing.assert_array_equal(sweep.intensity, values["intensity"].ravel())
    np.testing.assert_array_equal(sweep.ring, values["ring"].ravel())
    assert sweep.rows == (height if height > 1 else 0)


def cloud(**columns: Any) -> Any:
    return ros.cloud_to_message(1_700_000_000_123_456_789, "lidar", {n: np.asarray(v) for n, v in columns.items()})


XYZ = {axis: np.ones(3, np.float32) for axis in "xyz"}


@pytest.mark.parametrize(
    "column",
    [
        {"t": np.array([0, 10_000, 99_000_000], np.uint32)},
        {"time": np.array([0, 1e-5, 0.099], np.float32)},
        {"timestamp": 1_700_000_000.123456789 + np.array([0, 1e-5, 0.099])},
        {"t": np.array([0, 10_000, 99_000_000], np.int32)},
    ],
    ids=["uint32 ns", "float32 s", "float64 s, absolute", "int32 ns"],
)
def test_times_of_points(column: dict[str, Any]) -> None:
    sweep = ros.sweep_from_message(cloud(**XYZ, **column))
    assert sweep.time_ns is not None
    np.testing.assert_allclose(sweep.time_ns, [0, 10_000, 99_000_000], atol=400)


def test_times_that_are_not_numbers_are_no_times() -> None:
    assert ros.sweep_from_message(cloud(**XYZ, time=np.array([0, np.nan, 1], np.float32))).time_ns is None


def test_points_that_are_not_numbers_are_left_out() -> None:
    x = np.array([1, np.nan, np.inf, 4], np.float32)
    sweep = ros.sweep_from_message(
        cloud(x=x, y=np.ones(4, np.float32), z=np.ones(4, np.float32), ring=np.arange(4, dtype=np.uint16))
    )
    np.testing.assert_array_equal(sweep.ring, [0, 3])
    assert len(ros.sweep_from_message(cloud(**{a: np.zeros(0, np.float32) for a in "xyz"}))) == 0


def test_wrong_clouds_are_refused() -> None:
    with pytest.raises(DsegError, match="not x, y, z"):
        ros.sweep_from_message(cloud(x=np.ones(1, np.float32)))
    message = cloud(**XYZ)
    message.width = 4
    with pytest.raises(DsegError, match="does not fit"):
        ros.sweep_from_message(message)
    message = cloud(**XYZ)
    message.fields[2].offset = 100
    with pytest.raises(DsegError, match="lies outside the point"):
        ros.sweep_from_message(message)


def test_the_real_ros_reads_what_is_written_and_is_read() -> None:
    """Bytes made here become rclpy messages, and those become the same records."""
    serialization = pytest.importorskip("rclpy.serialization")
    msgs = pytest.importorskip("sensor_msgs.msg")
    ours = bags.cloud(123)
    data = bytes(ros.typestore().serialize_cdr(ours, ours.__msgtype__))
    theirs = serialization.deserialize_message(data, msgs.PointCloud2)
    a, b = ros.sweep_from_message(ours), ros.sweep_from_message(theirs)
    np.testing.assert_array_equal(a.xyz, b.xyz)
    np.testing.assert_array_equal(a.ring, b.ring)
    ours = ros.image_to_message(5, "camera", bags.picture(1))
    theirs = serialization.deserialize_message(bytes(ros.typestore().serialize_cdr(ours, ours.__msgtype__)), msgs.Image)
    np.testing.assert_array_equal(ros.image_from_message(theirs).rgb, bags.picture(1))
    ours = ros.camera_to_message(5, bags.CAMERA)
    theirs = serialization.deserialize_message(
        bytes(ros.typestore().serialize_cdr(ours, ours.__msgtype__)), msgs.CameraInfo
    )
    np.testing.assert_array_equal(ros.camera_from_message(theirs, True).P, bags.CAMERA.P)


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("/camera/front/image_raw", "camera_front"),
        ("/cam_front/image_raw/compressed", "cam_front"),
        ("/image", "image"),
        ("/image_raw/compressed", "image_raw"),
        ("/a/../b/image_raw", "a_.._b"),
        ("/weird topic/ü/image", "weird_topic__"),
    ],
)
def test_names_are_path_components(topic: str, name: str) -> None:
    assert camera_name(topic) == name
    assert "/" not in name


@pytest.mark.parametrize(
    ("image", "info"),
    [
        ("/camera/image_raw", "/camera/camera_info"),
        ("/camera/image_rect_color/compressed", "/camera/camera_info"),
        ("/image_raw", "/camera_info"),
        ("/image_raw/compressed", "/camera_info"),
        ("/image/image_raw", "/image/camera_info"),
        ("/front/image_raw/ffmpeg", "/front/camera_info"),
        ("/front/video", "/front/camera_info"),
        ("/cameras/front/h264", "/cameras/front/camera_info"),
        ("/front", "/front/camera_info"),
    ],
)
def test_camera_info_is_beside_the_image(image: str, info: str) -> None:
    """By image_transport's rule (`getCameraInfoTopic`): the last part of the image's topic is replaced."""
    assert info_topic(image) == info


def test_drives_are_called_by_their_bags(tmp_path: Any) -> None:
    assert drive_name(tmp_path / "2024-01-01 10.00") == "2024-01-01_10.00"
    assert drive_name(tmp_path / "drive.mcap") == "drive"
