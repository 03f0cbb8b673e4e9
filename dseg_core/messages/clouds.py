"""Point clouds."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dseg_core.errors import DsegError
from dseg_core.messages.common import header, message, stamp_ns, typestore
from dseg_core.messages.livox import columns_from_livox
from dseg_core.messages.point_times import times_from_column
from dseg_core.messages.velodyne import sweep_from_packets
from dseg_core.records import Sweep

_POINT_FIELDS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
_POINT_TYPES = {np.dtype(code): number for number, code in _POINT_FIELDS.items()}
_TIME_NAMES = ("t", "time", "timestamp", "time_stamp", "offset_time", "time_offset", "t_offset", "time_offset_ns")
# Not Livox's `line`: its lasers sweep all elevations, so they are no beams.
_RING_NAMES = ("ring", "channel", "row", "laser_id", "line_index", "scan_id")
_INTENSITY_NAMES = ("intensity", "reflectivity", "reflectance", "i")
_SAME_RAY = 1e-4  # rad; beams and firings lie ten times as far apart
_SAME_PLACE = 1e-3  # m
SOME = 0.01
"""Share of second returns, or copies, from which on they are told of."""
_ITSELF = 1.0  # m; what is nearer is the vehicle, and misses that drivers put at any azimuth


def columns_from_cloud(msg: Any) -> dict[str, NDArray[Any]]:
    """Every single-valued field of a sensor_msgs/PointCloud2 as a column (N,), in native byte order.

    Arrays per point, fields of unknown types and padding (no name, or only `_`) are left out.

    Raises:
        DsegError: Fields or sizes that do not fit the data, or names that are not unique.
    """
    points = _points(msg)
    return {name: _column(points, name) for name in points.dtype.names or ()}


def sweep_from_message(msg: Any, model: str = "auto", calibration: Path | None = None) -> Sweep:
    """Read a sensor_msgs/PointCloud2 of any driver's field layout, a velodyne_msgs/VelodyneScan or a Livox CustomMsg.

    Names of fields may be in any case.

    Points without a measurement are left out and counted: NaN or infinite coordinates, or all of them 0. When that
    takes points out of an organised cloud without rings, its rows become the rings, or its columns where those are the
    beams. Times are read by `times_from_column`.
    Second returns stay in; the nearest point of a beam stands for it where proposals are made.

    Args:
        msg: The message.
        model: Of a VelodyneScan's sensor, as `sweep_from_packets` takes it.
        calibration: The same sensor's.

    Raises:
        DsegError: No x, y, z, coordinates that are no floats, or sizes that do not fit the data.
    """
    return _read(msg, model, calibration)[0]


def cloud_notes(msg: Any, model: str = "auto", calibration: Path | None = None) -> tuple[str, ...]:
    """What people should know about a topic's clouds, from one of them; empty where all is usual.

    Points without times, times or rings that cannot be used and why, units that are not the usual ones, second returns.

    Raises:
        DsegError: As `sweep_from_message`.
    """
    sweep, notes = _read(msg, model, calibration)
    if not len(sweep):
        return ()
    if sweep.time_ns is None and not any("time" in note for note in notes):
        notes.append("points have no times")
    second, copies = second_returns(sweep)
    if second > SOME:
        notes.append(f"second returns: {second:.0%} of the points")
    if copies > SOME:
        notes.append(f"copies of other points: {copies:.0%} of the points")
    return tuple(notes)


def _read(msg: Any, model: str, calibration: Path | None) -> tuple[Sweep, list[str]]:
    if hasattr(msg, "packets"):
        return sweep_from_packets(msg, model, calibration), []
    if hasattr(msg, "points"):
        msg = cloud_to_message(stamp_ns(msg), msg.header.frame_id, columns_from_livox(msg))
    return _sweep_from_cloud(msg)


def _sweep_from_cloud(msg: Any) -> tuple[Sweep, list[str]]:
    points = _points(msg)
    # In any case that drivers use; of `t` and `T`, the small one.
    names = {name.lower(): name for name in sorted(points.dtype.names or ())}
    if not {"x", "y", "z"} <= names.keys():
        raise DsegError(f"cloud has fields {', '.join(names) or 'none'}, not x, y, z")
    xyz, square = np.empty((points.size, 3), dtype=np.float32), np.zeros(points.size, dtype=np.float32)
    for i, axis in enumerate("xyz"):
        values = points[names[axis]]
        if not np.issubdtype(values.dtype, np.floating):
            raise DsegError(f"cloud field {axis} is {values.dtype.name}, of unknown unit", fix="Record float metres")
        # A float64 too large becomes infinite, and is left out.
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            xyz[:, i] = values.reshape(-1)
            square += xyz[:, i] * xyz[:, i]
    with np.errstate(invalid="ignore"):
        measured = (square > 0) & (square < np.inf)  # refuses NaN, too
    kept = None if measured.all() else np.flatnonzero(measured)

    def column(wanted: Iterable[str]) -> NDArray[Any] | None:
        name = next((names[name] for name in wanted if name in names), None)
        if name is None:
            return None
        values = _column(points, name)
        return values if kept is None else values.take(kept)

    stamp, notes = stamp_ns(msg), []
    intensity, ring, time = column(_INTENSITY_NAMES), column(_RING_NAMES), column(_TIME_NAMES)
    if ring is not None:
        ring, note = _rings(ring)
        notes += [note] if note else []
    xyz = xyz if kept is None else xyz.take(kept, axis=0)
    rows, of_cells = int(msg.height) if msg.height > 1 else 0, False
    if rows and kept is not None:
        if ring is None:
            ring = _organised_rings(kept, points.shape[1], xyz)
            of_cells = ring is not None
        rows = 0
    time_ns = None
    if time is not None:
        time_ns, note = times_from_column(time, stamp)
        notes += [note] if note else []
    with np.errstate(over="ignore", invalid="ignore"):
        strength = None if intensity is None else intensity.astype(np.float32, copy=False)
    left_out = points.size - len(xyz)
    return Sweep(stamp, msg.header.frame_id, xyz, strength, ring, time_ns, rows, left_out, of_cells), notes


def _points(msg: Any) -> NDArray[Any]:
    """The message's memory as structured points (height, width); nothing is copied. Raises DsegError."""
    order = ">" if msg.is_bigendian else "<"
    width, height, step = int(msg.width), int(msg.height), int(msg.point_step)
    names, formats, offsets = [], [], []
    for field in msg.fields:
        code = _POINT_FIELDS.get(int(field.datatype))
        if code is None or int(field.count) > 1 or not field.name.strip("_"):
            continue  # an unknown type, an array per point or padding: not for us, and the offsets skip it
        if int(field.offset) + np.dtype(code).itemsize > step:
            raise DsegError(f"cloud field {field.name!r} lies outside the point of {step} bytes")
        names.append(field.name)
        formats.append(order + code)
        offsets.append(int(field.offset))
    if len(set(names)) != len(names):
        raise DsegError(f"cloud fields {', '.join(names)} are not unique")
    if width * height == 0:
        return np.zeros((0, 0), dtype=list(zip(names, formats, strict=True)))
    data = np.frombuffer(msg.data, dtype=np.uint8)
    row_step = int(msg.row_step)
    if height == 1 or len(data) == width * height * step:  # where it says nothing, drivers write anything
        row_step = width * step
    if step < 1 or row_step < width * step or len(data) < row_step * (height - 1) + width * step:
        raise DsegError(f"cloud of {width}x{height} points of {step} bytes does not fit {len(data)} bytes")
    dtype = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": step})
    return np.ndarray((height, width), dtype, data, strides=(row_step, step))


def _column(points: NDArray[Any], name: str) -> NDArray[Any]:
    """One field as a column (N,) of its own memory, in native byte order."""
    values = points[name]
    return values.astype(values.dtype.newbyteorder("=")).reshape(-1)


def _rings(ring: NDArray[Any]) -> tuple[NDArray[np.uint16] | None, str]:
    """Beam numbers as uint16 (N,), and why not where they are none."""
    if ring.dtype.itemsize > 2 or ring.dtype.kind != "u":
        whole = np.isfinite(ring).all() and (len(ring) == 0 or (ring.min() >= 0 and ring.max() < 2**16))
        if not whole or (ring.dtype.kind == "f" and (ring % 1).any()):
            return None, "rings are no numbers of beams: not used"
    if len(ring) > 1 and ring.min() == ring.max():
        return None, "all points have the same ring: not used"
    return ring.astype(np.uint16, copy=False), ""


def _organised_rings(kept: NDArray[np.int64], columns: int, xyz: NDArray[np.float32]) -> NDArray[np.uint16] | None:
    """Beam numbers (N,) of the points (N, 3) that are `kept` of an organised cloud; None where it shows no beams."""
    from dseg_core.lidar.points import points_of
    from dseg_core.lidar.rows import beams_of_cells

    beams = beams_of_cells(kept, columns, points_of(xyz)) if len(kept) else None
    return None if beams is None or beams.max() >= 2**16 else beams.astype(np.uint16)


def second_returns(sweep: Sweep) -> tuple[float, float]:
    """The shares of points behind or before another one, of their own beam where beams are known, and at its place."""
    from dseg_core.lidar.rows import RINGS, found_rows

    far = np.einsum("ij,ij->i", sweep.xyz, sweep.xyz) > _ITSELF**2
    x, y, z = sweep.xyz[far].astype(np.float64).T
    azimuth = np.rint(np.arctan2(y, x) / _SAME_RAY).astype(np.int64)
    # The lasers of one sensor do not shine from one point: only the azimuth is the same at every range.
    elevation = np.rint(np.arctan2(z, np.hypot(x, y)) / _SAME_RAY).astype(np.int64)
    found = found_rows(sweep)
    ring = None if RINGS in found.refused else sweep.ring
    named = ring if found.rows is None else found.rows.row
    beam = elevation if named is None else named[far].astype(np.int64)
    ray = azimuth * 2**17 + beam
    reach = np.minimum(np.sqrt(x * x + y * y + z * z) / _SAME_PLACE, 2.0**28 - 1)
    places = len(np.unique(ray * 2**28 + np.rint(reach).astype(np.int64)))  # less than 2**34 rays, and 268 km
    n = max(1, len(ray))
    return (places - len(np.unique(ray))) / n, (len(ray) - places) / n


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


def cloud_to_cdr(
    stamp: int, frame_id: str, columns: Mapping[str, NDArray[Any]], rows: int = 0
) -> tuple[bytes | memoryview, ...]:
    """`cloud_to_message` serialised, in pieces; the points are one of them, and not copied."""
    cloud = cloud_to_message(stamp, frame_id, columns, rows)
    points = cloud.data
    cloud.data = points[:0]
    empty = bytes(typestore().serialize_cdr(cloud, "sensor_msgs/msg/PointCloud2"))
    # Its end: the data's length, 4 bytes; the data; is_dense, a byte.
    return empty[:-5] + struct.pack("<I", len(points)), memoryview(points), empty[-1:]
