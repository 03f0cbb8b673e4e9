"""Records from ROS messages and back: the one place of dseg_core that knows message fields.

Reading goes by attribute names, so that the messages of rosbags and of rclpy both work. Writing makes rosbags'
messages. Stamps are header stamps in nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore

from dseg_core.cameras import Camera
from dseg_core.errors import DsegError
from dseg_core.records import EncodedImage, Image, Sweep
from dseg_core.transforms import Matrix, matrix_from_pose, pose_from_matrix

TYPESTORE = get_typestore(Stores.ROS2_HUMBLE)
"""The message types written; Humble's, which Jazzy reads too."""

_POINT_FIELDS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_POINT_TYPES = {np.dtype(code): number for number, code in _POINT_FIELDS.items()}
_TIME_NAMES = ("t", "time", "timestamp", "time_stamp", "offset_time", "t_offset")
_RING_NAMES = ("ring", "channel", "line", "row")
_INTENSITY_NAMES = ("intensity", "reflectivity", "i")


def message(typename: str, **fields: Any) -> Any:
    """A rosbags message, by its type's name such as `sensor_msgs/msg/Image`."""
    return TYPESTORE.types[typename](**fields)


def stamp_ns(msg: Any) -> int:
    """The header stamp of a message, in nanoseconds."""
    return int(msg.header.stamp.sec) * 1_000_000_000 + int(msg.header.stamp.nanosec)


def header(stamp: int, frame_id: str) -> Any:
    """std_msgs/Header of a stamp in nanoseconds."""
    time = message("builtin_interfaces/msg/Time", sec=int(stamp // 10**9), nanosec=int(stamp % 10**9))
    return message("std_msgs/msg/Header", stamp=time, frame_id=frame_id)


# Images


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


# Point clouds


def columns_from_cloud(msg: Any) -> dict[str, NDArray[Any]]:
    """Every single-valued field of a sensor_msgs/PointCloud2 as a column (N,), in native byte order.

    Raises:
        DsegError: Fields or sizes that do not fit the data.
    """
    order = ">" if msg.is_bigendian else "<"
    width, height, step = int(msg.width), int(msg.height), int(msg.point_step)
    names, formats, offsets = [], [], []
    for point_field in msg.fields:
        code = _POINT_FIELDS.get(int(point_field.datatype))
        if code is None or int(point_field.count) > 1:
            continue  # an unknown type or an array per point: not for us, and the offsets skip it
        if int(point_field.offset) + np.dtype(code).itemsize > step:
            raise DsegError(f"cloud field {point_field.name!r} lies outside the point of {step} bytes")
        names.append(point_field.name)
        formats.append(order + code)
        offsets.append(int(point_field.offset))
    if len(set(names)) != len(names):
        raise DsegError(f"cloud fields {', '.join(names)} are not unique")
    data = np.frombuffer(msg.data, dtype=np.uint8)
    row_step = int(msg.row_step) if height > 1 else width * step
    if width * height == 0:
        return {name: np.zeros(0, np.dtype(code).newbyteorder("=")) for name, code in zip(names, formats, strict=True)}
    if step < 1 or row_step < width * step or len(data) < row_step * (height - 1) + width * step:
        raise DsegError(f"cloud of {width}x{height} points of {step} bytes does not fit {len(data)} bytes")
    dtype = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": step})
    if row_step == width * step:
        points = data[: width * height * step].view(dtype)
    else:
        rows = [data[r * row_step : r * row_step + width * step].view(dtype) for r in range(height)]
        points = np.concatenate(rows)
    return {name: points[name].astype(points[name].dtype.newbyteorder("=")) for name in names}


def sweep_from_message(msg: Any) -> Sweep:
    """Read a sensor_msgs/PointCloud2 of any field layout; points with NaN or infinite coordinates are left out.

    Point times are understood as integers in ns or floats in s, absolute or relative to the header stamp.

    Raises:
        DsegError: No x, y, z, or sizes that do not fit the data.
    """
    columns = columns_from_cloud(msg)
    if not {"x", "y", "z"} <= columns.keys():
        raise DsegError(f"cloud has fields {', '.join(columns) or 'none'}, not x, y, z")
    xyz = np.stack([columns[axis].astype(np.float32) for axis in "xyz"], axis=1)
    finite = np.isfinite(xyz).all(axis=1)
    whole = bool(finite.all())

    def column(names: Iterable[str]) -> NDArray[Any] | None:
        values = next((columns[name] for name in names if name in columns), None)
        return values if values is None or whole else values[finite]

    intensity, ring, time = column(_INTENSITY_NAMES), column(_RING_NAMES), column(_TIME_NAMES)
    if time is not None and not (len(time) and np.isfinite(time).all()):
        time = None
    stamp = stamp_ns(msg)
    return Sweep(
        stamp_ns=stamp,
        frame_id=msg.header.frame_id,
        xyz=xyz if whole else xyz[finite],
        intensity=None if intensity is None else intensity.astype(np.float32),
        ring=None if ring is None else ring.astype(np.uint16),
        time_ns=None if time is None else _relative_time(time, stamp),
        rows=int(msg.height) if whole and msg.height > 1 else 0,
    )


def _relative_time(time: NDArray[Any], stamp: int) -> NDArray[np.int64]:
    """Times of points minus the stamp, ns. Floats are seconds, unless so large that they must be nanoseconds."""
    if np.issubdtype(time.dtype, np.floating):
        seconds = time.astype(np.float64)
        if np.abs(seconds).max(initial=0.0) > 1e15:  # absolute nanoseconds in float64
            return (seconds - stamp).astype(np.int64)
        if seconds.max(initial=0.0) > 1e6:  # absolute seconds
            return np.round((seconds - stamp // 10**9) * 1e9).astype(np.int64) - stamp % 10**9
        return np.round(seconds * 1e9).astype(np.int64)
    relative = time.astype(np.int64)
    return relative - stamp if relative.max(initial=0) > 10**15 else relative


def cloud_to_message(stamp: int, frame_id: str, columns: Mapping[str, NDArray[Any]], rows: int = 0) -> Any:
    """sensor_msgs/PointCloud2 of columns (N,), packed without gaps in the order given, organised in `rows` if any."""
    dtype = np.dtype([(name, values.dtype) for name, values in columns.items()])
    points = np.empty(len(next(iter(columns.values()))), dtype=dtype)
    fields = []
    for name, values in columns.items():
        points[name] = values
        offset, kind = dtype.fields[name][1], _POINT_TYPES[values.dtype]  # type: ignore[index]
        fields.append(message("sensor_msgs/msg/PointField", name=name, offset=offset, datatype=kind, count=1))
    height, width = (rows, len(points) // rows) if rows else (1, len(points))
    return message(
        "sensor_msgs/msg/PointCloud2", header=header(stamp, frame_id), height=height, width=width, fields=fields,
        is_bigendian=False, point_step=dtype.itemsize, row_step=dtype.itemsize * width,
        data=points.view(np.uint8).reshape(-1), is_dense=True,
    )  # fmt: skip


# Cameras


def camera_from_message(msg: Any, rectified: bool) -> Camera:
    """Calibration from a sensor_msgs/CameraInfo. `rectified`: the images are, as on `image_rect` topics.

    Raises:
        DsegError: Not calibrated, or matrices that make no camera.
    """
    # rosbags and rclpy name the arrays in lower case, ROS 1 in upper case.
    K, D, R, P = (np.asarray(getattr(msg, n, None) if hasattr(msg, n) else getattr(msg, n.upper())) for n in "kdrp")
    return Camera(
        frame_id=msg.header.frame_id, width=int(msg.width), height=int(msg.height),
        K=K.astype(np.float64).reshape(3, 3), model=msg.distortion_model or "plumb_bob", D=D.astype(np.float64).ravel(),
        R=R.astype(np.float64).reshape(3, 3), P=P.astype(np.float64).reshape(3, 4), rectified=rectified,
    )  # fmt: skip


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


# Transforms


def transform_from_message(msg: Any) -> tuple[str, str, Matrix]:
    """Parent, child and T_parent_child of a geometry_msgs/TransformStamped. Raises TransformError."""
    t, q = msg.transform.translation, msg.transform.rotation
    return msg.header.frame_id, msg.child_frame_id, matrix_from_pose((t.x, t.y, t.z), (q.x, q.y, q.z, q.w))


def odometry_from_message(msg: Any) -> tuple[str, str, Matrix]:
    """Parent, child and T_parent_child of a nav_msgs/Odometry. Raises TransformError."""
    p, q = msg.pose.pose.position, msg.pose.pose.orientation
    return msg.header.frame_id, msg.child_frame_id, matrix_from_pose((p.x, p.y, p.z), (q.x, q.y, q.z, q.w))


def transform_to_message(stamp: int, parent: str, child: str, T_parent_child: Matrix) -> Any:
    """geometry_msgs/TransformStamped."""
    translation, rotation = pose_from_matrix(T_parent_child)
    x, y, z = (float(v) for v in translation)
    qx, qy, qz, qw = (float(v) for v in rotation)
    moved = message(
        "geometry_msgs/msg/Transform",
        translation=message("geometry_msgs/msg/Vector3", x=x, y=y, z=z),
        rotation=message("geometry_msgs/msg/Quaternion", x=qx, y=qy, z=qz, w=qw),
    )
    head = header(stamp, parent)
    return message("geometry_msgs/msg/TransformStamped", header=head, child_frame_id=child, transform=moved)


def transforms_to_message(transforms: Iterable[tuple[int, str, str, Matrix]]) -> Any:
    """tf2_msgs/TFMessage of (stamp, parent, child, T_parent_child)."""
    return message("tf2_msgs/msg/TFMessage", transforms=[transform_to_message(*stamped) for stamped in transforms])
