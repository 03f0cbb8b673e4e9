"""Point clouds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dseg_core.errors import DsegError
from dseg_core.messages.common import header, message, stamp_ns
from dseg_core.records import Sweep

_POINT_FIELDS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_POINT_TYPES = {np.dtype(code): number for number, code in _POINT_FIELDS.items()}
_TIME_NAMES = ("t", "time", "timestamp", "time_stamp", "offset_time", "t_offset")
_RING_NAMES = ("ring", "channel", "line", "row")
_INTENSITY_NAMES = ("intensity", "reflectivity", "i")


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
