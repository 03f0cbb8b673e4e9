"""ROS messages of a simulated drive."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

from dseg_core.simulation.meshes import Floats
from dseg_core.simulation.sensors import CameraSpec

TYPESTORE = get_typestore(Stores.ROS2_HUMBLE)
_DATATYPES = {"uint8": 2, "uint16": 4, "uint32": 6, "float32": 7}


def _new(typename: str, **fields: Any) -> Any:
    return TYPESTORE.types[typename](**fields)


def _header(stamp_ns: int, frame_id: str) -> Any:
    stamp = _new("builtin_interfaces/msg/Time", sec=int(stamp_ns // 10**9), nanosec=int(stamp_ns % 10**9))
    return _new("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def image(stamp_ns: int, frame_id: str, pixels: NDArray[Any]) -> Any:
    """sensor_msgs/Image: uint8 (H, W, 3) as rgb8, uint8 (H, W) as mono8, uint16 (H, W) as 16UC1."""
    encoding = "rgb8" if pixels.ndim == 3 else {1: "mono8", 2: "16UC1"}[pixels.itemsize]
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
    step = len(data) // height
    return _new(
        "sensor_msgs/msg/Image", header=_header(stamp_ns, frame_id), height=height, width=width, encoding=encoding,
        is_bigendian=0, step=step, data=data,
    )  # fmt: skip


def camera_info(stamp_ns: int, camera: CameraSpec) -> Any:
    """sensor_msgs/CameraInfo of a rectified pinhole camera."""
    K = camera.K()
    P = np.concatenate([K, np.zeros((3, 1))], axis=1)
    roi = _new("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return _new(
        "sensor_msgs/msg/CameraInfo", header=_header(stamp_ns, camera.frame_id), height=camera.height,
        width=camera.width, distortion_model="plumb_bob", d=np.zeros(5), k=K.ravel(), r=np.eye(3).ravel(), p=P.ravel(),
        binning_x=0, binning_y=0, roi=roi,
    )  # fmt: skip


def cloud(stamp_ns: int, frame_id: str, fields: dict[str, NDArray[Any]]) -> Any:
    """sensor_msgs/PointCloud2 of (N,) columns, packed without gaps in the order given."""
    dtype = np.dtype([(name, values.dtype) for name, values in fields.items()])
    records = np.empty(len(next(iter(fields.values()))), dtype=dtype)
    described = []
    for name, values in fields.items():
        records[name] = values
        offset = dtype.fields[name][1]  # type: ignore[index]
        kind = _DATATYPES[values.dtype.name]
        described.append(_new("sensor_msgs/msg/PointField", name=name, offset=offset, datatype=kind, count=1))
    return _new(
        "sensor_msgs/msg/PointCloud2", header=_header(stamp_ns, frame_id), height=1, width=len(records),
        fields=described, is_bigendian=False, point_step=dtype.itemsize, row_step=dtype.itemsize * len(records),
        data=records.view(np.uint8).reshape(-1), is_dense=True,
    )  # fmt: skip


def _quaternion(T: Floats) -> Any:
    x, y, z, w = (float(v) for v in Rotation.from_matrix(T[:3, :3]).as_quat())
    return _new("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)


def transforms(stamp_ns: int, edges: list[tuple[str, str, Floats]]) -> Any:
    """tf2_msgs/TFMessage of (parent, child, T_parent_child)."""
    stamped = []
    for parent, child, T in edges:
        x, y, z = (float(v) for v in T[:3, 3])
        moved = _new(
            "geometry_msgs/msg/Transform", translation=_new("geometry_msgs/msg/Vector3", x=x, y=y, z=z),
            rotation=_quaternion(T),
        )  # fmt: skip
        header = _header(stamp_ns, parent)
        stamped.append(_new("geometry_msgs/msg/TransformStamped", header=header, child_frame_id=child, transform=moved))
    return _new("tf2_msgs/msg/TFMessage", transforms=stamped)


def odometry(stamp_ns: int, T: Floats, speed: float, turn_rate: float) -> Any:
    """nav_msgs/Odometry of base_link in odom."""
    x, y, z = (float(v) for v in T[:3, 3])
    vector = "geometry_msgs/msg/Vector3"
    pose = _new(
        "geometry_msgs/msg/Pose", position=_new("geometry_msgs/msg/Point", x=x, y=y, z=z), orientation=_quaternion(T)
    )
    twist = _new(
        "geometry_msgs/msg/Twist",
        linear=_new(vector, x=speed, y=0.0, z=0.0),
        angular=_new(vector, x=0.0, y=0.0, z=turn_rate),
    )
    covariance = np.zeros(36)
    return _new(
        "nav_msgs/msg/Odometry", header=_header(stamp_ns, "odom"), child_frame_id="base_link",
        pose=_new("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=covariance),
        twist=_new("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=covariance),
    )  # fmt: skip
