"""Velodyne's raw packets: what a car records that keeps bags small."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dseg_core.errors import DsegError
from dseg_core.messages.common import stamp_ns
from dseg_core.messages.point_times import LONGEST_NS
from dseg_core.records import Sweep

_LASERS = {
    **{"HDL64E_S1": 64, "HDL64E_S2": 64, "HDL64E_S3": 64, "HDL32E": 32, "VLP32A": 32, "VLP32B": 32, "VLP32C": 32},
    **{"VLP16": 16, "PuckHiRes": 16, "VLS128": 128},
}
_MODEL_CODES = {0x21: "HDL32E", 0x22: "VLP16", 0x24: "PuckHiRes", 0x28: "VLP32C", 0xA1: "VLS128"}
_PACKET_BYTES, _MOST_PACKETS = 1206, 8192  # the fastest model sends some 1250 in the slowest turn
_HOUR_US = 3_600_000_000  # packets count the microseconds of the hour
_INSTALL = "Install it: pip install 'dseg_ros[velodyne]'; or convert the bag with the driver to PointCloud2"
_NAME = "Name the model with --topics.velodyne-model, and give an HDL-64E's --topics.velodyne-calibration"


def sweep_from_packets(msg: Any, model: str = "auto", calibration: Path | None = None) -> Sweep:
    """Decode a velodyne_msgs/VelodyneScan; points x forward, y left, z up, rings counted from the lowest beam.

    Points carry the time of their firing by the sensor's clock, which the last packet's stamp ties to the receiving
    computer's; relative to the message's stamp, which drivers take from the first or the last packet. In dual mode,
    both returns are points. Decoding is velodyne-decoder's.

    Args:
        msg: The scan.
        model: A name of velodyne_decoder.Model, or "auto": as the packets say. Those of HDL-64E and VLP-32A/B do not.
        calibration: The unit's angles and offsets, YAML of the ROS driver; None: the model's. HDL-64E need their own.

    Raises:
        DsegError: velodyne-decoder is not installed, model or calibration are not known, or packets are broken.
    """
    try:
        import velodyne_decoder as vd
    except ImportError:
        raise DsegError("Velodyne packets need the package velodyne-decoder", fix=_INSTALL) from None
    stamp, packets = stamp_ns(msg), msg.packets
    if not len(packets):
        return Sweep(stamp, msg.header.frame_id, np.zeros((0, 3), np.float32))
    data = [bytes(packet.data) for packet in packets]
    if len(data) > _MOST_PACKETS or any(len(one) != _PACKET_BYTES for one in data):
        raise DsegError(f"scan of {len(data)} packets that are too many or not of {_PACKET_BYTES} bytes")
    if model == "auto":
        model = _MODEL_CODES.get(data[0][-1], "")
        if not model:
            raise DsegError(f"Velodyne packets of a model that they do not name (code {data[0][-1]:#x})", fix=_NAME)
    if calibration is not None:
        _check_lasers(calibration, model)  # the decoder would read beyond the ends of its tables
    # By the sensor's clock alone, counted on from hour to hour: it may never have been set to the computer's.
    last_us, decoded = _microseconds(data[-1]), vd.PacketVector()
    for one in data:
        since = (_microseconds(one) - last_us + _HOUR_US // 2) % _HOUR_US - _HOUR_US // 2
        decoded.append(vd.VelodynePacket((_HOUR_US + last_us + since) / 1e6, one))
    try:
        table = None if calibration is None else vd.Calibration.read(str(calibration))
        settings = vd.Config(model=vd.Model[model], calibration=table, min_range=0.0, max_range=1e4)
        _, points = vd.ScanDecoder(settings).decode(decoded)
    except (RuntimeError, ValueError, IndexError) as error:
        raise DsegError(f"Velodyne packets: {' '.join(str(error).split()).rstrip('.')}", fix=_NAME) from None
    last_stamp = int(packets[-1].stamp.sec) * 10**9 + int(packets[-1].stamp.nanosec)
    time_ns = np.rint(points[:, vd.PointField.time].astype(np.float64) * 1e9).astype(np.int64) + last_stamp - stamp
    return Sweep(
        stamp_ns=stamp,
        frame_id=msg.header.frame_id,
        xyz=np.ascontiguousarray(points[:, :3]),
        intensity=points[:, vd.PointField.intensity].copy(),
        ring=points[:, vd.PointField.ring].astype(np.uint16),
        time_ns=time_ns if len(points) and int(np.abs(time_ns).max()) <= LONGEST_NS else None,
    )


def _microseconds(data: bytes) -> int:
    """When the packet's first firing was, microseconds of the hour."""
    return int(struct.unpack_from("<I", data, _PACKET_BYTES - 6)[0])


def _check_lasers(calibration: Path, model: str) -> None:
    try:
        content = yaml.safe_load(calibration.read_text(encoding="utf-8"))
        lasers = len(content["lasers"])
        ids = {int(laser["laser_id"]) for laser in content["lasers"]}
    except (OSError, UnicodeError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        problem = " ".join(str(error).split())
        raise DsegError(f"is no calibration of a Velodyne: {problem}", where=calibration) from None
    if lasers != _LASERS[model] or ids != set(range(lasers)) or content.get("num_lasers", lasers) != lasers:
        raise DsegError(f"has {lasers} lasers, but a {model} has {_LASERS[model]}", where=calibration)
