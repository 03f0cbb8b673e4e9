"""Arrays and records to ROS messages; the other way is `dseg_core.messages`, which reads rclpy's as they are.

Large fields get an `array.array`: with anything else rclpy checks every byte, 280 ms for an image instead of 0.3.
"""

from __future__ import annotations

import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

from dseg_core.cameras import Camera
from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.image_sizes import SAME_SHAPE
from dseg_core.messages import camera_from_message
from dseg_ros.compat import LabelInfo, VisionClass

_FIELD_TYPES = {
    np.dtype(np.uint8): PointField.UINT8,
    np.dtype(np.uint16): PointField.UINT16,
    np.dtype(np.uint32): PointField.UINT32,
    np.dtype(np.float32): PointField.FLOAT32,
}


def image_to_ros(header: Header, pixels: NDArray[np.uint8]) -> Image:
    """sensor_msgs/Image: uint8 (H, W, 3) as rgb8, uint8 (H, W) as mono8."""
    height, width = pixels.shape[:2]
    encoding, step = ("rgb8", 3 * width) if pixels.ndim == 3 else ("mono8", width)
    return Image(header=header, height=height, width=width, encoding=encoding, step=step, data=_bytes(pixels))


def cloud_to_ros(header: Header, columns: Mapping[str, NDArray[Any]]) -> PointCloud2:
    """sensor_msgs/PointCloud2 of columns (N,), packed without gaps in the order given."""
    dtype = np.dtype([(name, values.dtype) for name, values in columns.items()])
    points = np.empty(len(next(iter(columns.values()))), dtype=dtype)
    fields = []
    for name, values in columns.items():
        points[name] = values
        offset = dtype.fields[name][1]  # type: ignore[index]
        fields.append(PointField(name=name, offset=offset, datatype=_FIELD_TYPES[values.dtype], count=1))
    size = dtype.itemsize
    return PointCloud2(
        header=header, height=1, width=len(points), fields=fields, is_bigendian=False, point_step=size,
        row_step=size * len(points), data=_bytes(points.view(np.uint8)), is_dense=True,
    )  # fmt: skip


def packed_rgb(colors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Colours uint8 (N, 3) as a PointCloud2 field `rgb`, float32 (N,), whose bits are 0x00RRGGBB."""
    red, green, blue = colors.astype(np.uint32).T
    return np.asarray((red << 16 | green << 8 | blue).view(np.float32))


def camera_info_to_ros(header: Header, camera: Camera) -> CameraInfo:
    """sensor_msgs/CameraInfo of whole images: without binning and region, which are in `camera` already."""
    return CameraInfo(
        header=header, height=camera.height, width=camera.width, distortion_model=camera.model,
        d=camera.D.tolist(), k=camera.K.ravel().tolist(), r=camera.R.ravel().tolist(), p=camera.P.ravel().tolist(),
    )  # fmt: skip


def label_info_to_ros(header: Header, classes: ClassTable) -> Any:
    """vision_msgs/LabelInfo: what the ids of the masks are called."""
    names = [VisionClass(class_id=entry.id, class_name=entry.name) for entry in classes.entries]
    return LabelInfo(header=header, class_map=names, threshold=0.0)


def camera_from_ros(info: CameraInfo, rectified: bool, size: tuple[int, int]) -> Camera:
    """The calibration of images of (height, width).

    Raises:
        DsegError: It makes no camera, or one of another shape than the images.
    """
    camera, (height, width) = camera_from_message(info, rectified), size
    if (camera.height, camera.width) == size:
        return camera
    if abs(width * camera.height / (height * camera.width) - 1) > SAME_SHAPE:
        raise DsegError(f"images of {width}x{height}, but camera_info of {camera.width}x{camera.height}")
    return camera.scaled(width, height)


def _bytes(values: NDArray[Any]) -> array.array[int]:
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return data
