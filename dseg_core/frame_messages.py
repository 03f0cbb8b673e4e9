"""Frames as ROS messages, and back: what a folder of frames and a bag of frames hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dseg_core import messages as ros
from dseg_core.image_codecs import decode_regions, encode_preview, encode_regions
from dseg_core.mcap_from_chunks import ChunkMessage, PackedChunk, packed_chunk
from dseg_core.records import EncodedImage, Frame, Sweep, View

POINTS_TOPIC = "/dseg/points"
POINTS_CHANNEL = 1
"""Its number in every part, so that chunks of points are made before they are written."""
_IMAGE, _REGIONS, COLORS = "image/compressed", "regions/compressed", "regions_color/compressed"
_INFO, _TRANSFORM = "camera_info", "T_image_sweep"
CLOUD, _COMPRESSED = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/CompressedImage"


@dataclass(frozen=True)
class PackedMessage:
    """A serialised message: its topic, its type, the stamp it is published with [ns], and its CDR."""

    topic: str
    type: str
    stamp_ns: int
    data: bytes | memoryview


@dataclass(frozen=True)
class PackedFrame:
    """A frame's messages: `views`, all cameras', and the chunk of its points; log times are `stamp_ns`, the sweep's."""

    drive: str
    stamp_ns: int
    views: tuple[PackedMessage, ...]
    points: PackedChunk

    @property
    def size(self) -> int:
        """Bytes of memory that it takes."""
        return sum(len(message.data) for message in self.views) + sum(map(len, self.points.content))


def pack(frame: Frame) -> PackedFrame:
    """Serialise a frame: nearly all the work of writing it, which any thread can do."""
    stamp = frame.stamp_ns
    views = tuple(message for view in frame.views for message in _pack_view(view, frame))
    points = packed_chunk([ChunkMessage(POINTS_CHANNEL, stamp, stamp, _cloud(frame))])
    return PackedFrame(frame.drive, stamp, views, points)


def unpack(drive: str, found: Mapping[str, bytes]) -> Frame:
    """The frame of its messages' data, by topic."""
    frame = unpack_points(drive, found[POINTS_TOPIC])
    cameras = sorted(camera for topic in found if (camera := camera_of(topic)) is not None)
    return replace(frame, views=tuple(unpack_view(camera, found) for camera in cameras))


def unpack_points(drive: str, data: bytes) -> Frame:
    """The frame of its points' message alone, without views."""
    cloud: Any = ros.typestore().deserialize_cdr(data, CLOUD)
    columns = ros.columns_from_cloud(cloud)
    sweep = Sweep(
        stamp_ns=ros.stamp_ns(cloud),
        frame_id=cloud.header.frame_id,
        xyz=np.stack([columns[axis] for axis in "xyz"], axis=1),
        intensity=columns.get("intensity"),
        ring=columns.get("ring"),
        time_ns=columns["t"].astype(np.int64) if "t" in columns else None,
        rows=int(cloud.height) if cloud.height > 1 else 0,
    )
    return Frame(drive, sweep, columns["proposal"], ())


def unpack_view(camera: str, found: Mapping[str, bytes]) -> View:
    """One camera's view of a frame's messages. Raises KeyError when there is none."""
    place = f"/dseg/{camera}"
    if f"{place}/{_IMAGE}" not in found:
        raise KeyError(camera)
    source = ros.encoded_from_message(_unpacked(found, f"{place}/{_IMAGE}", _COMPRESSED))
    regions = decode_regions(np.asarray(_unpacked(found, f"{place}/{_REGIONS}", _COMPRESSED).data))
    info = _unpacked(found, f"{place}/{_INFO}", "sensor_msgs/msg/CameraInfo")
    transform = _unpacked(found, f"{place}/{_TRANSFORM}", "geometry_msgs/msg/TransformStamped")
    return View(
        camera=camera,
        image=source,
        regions=regions,
        calibration=ros.camera_from_message(info, bool(info.roi.do_rectify)),
        T_image_sweep=ros.transform_from_message(transform)[2],
        motion_compensated=ros.stamp_ns(transform) != 0,
    )


def camera_of(topic: str) -> str | None:
    """The camera whose images a topic of frames holds; None for all other topics."""
    parts = topic.split("/")
    return parts[2] if topic.endswith(_IMAGE) and len(parts) == 5 and parts[1] == "dseg" else None


def _pack_view(view: View, frame: Frame) -> list[PackedMessage]:
    stamp, frame_id = view.stamp_ns, view.image.frame_id
    # A transform with the vehicle's motion in it holds at the image's time, else always: stamp 0, as in /tf_static.
    held = stamp if view.motion_compensated else 0
    parts = {
        _IMAGE: ros.encoded_to_message(view.image),
        _REGIONS: ros.encoded_to_message(
            EncodedImage(stamp, frame_id, "16UC1; png compressed", encode_regions(view.regions))
        ),
        COLORS: ros.encoded_to_message(EncodedImage(stamp, frame_id, "png", encode_preview(view.regions))),
        _INFO: ros.camera_to_message(stamp, view.calibration),
        _TRANSFORM: ros.transform_to_message(held, frame_id, frame.sweep.frame_id, view.T_image_sweep),
    }
    return [_packed(f"/dseg/{view.camera}/{name}", stamp, message) for name, message in parts.items()]


def _cloud(frame: Frame) -> tuple[bytes | memoryview, ...]:
    sweep = frame.sweep
    columns: dict[str, NDArray[Any]] = {axis: sweep.xyz[:, i] for i, axis in enumerate("xyz")}
    if sweep.intensity is not None:
        columns["intensity"] = sweep.intensity
    if sweep.ring is not None:
        columns["ring"] = sweep.ring
    if sweep.time_ns is not None:
        columns["t"] = sweep.time_ns.astype(np.int32)
    columns["proposal"] = frame.proposals
    return ros.cloud_to_cdr(sweep.stamp_ns, sweep.frame_id, columns, sweep.rows)


def _packed(topic: str, stamp_ns: int, message: Any) -> PackedMessage:
    kind = message.__msgtype__
    return PackedMessage(topic, kind, stamp_ns, ros.typestore().serialize_cdr(message, kind))


def _unpacked(found: Mapping[str, bytes], topic: str, kind: str) -> Any:
    return ros.typestore().deserialize_cdr(found[topic], kind)
