"""Frames on disk.

A folder of frames is a rosbag2 folder: one MCAP part per drive, standard messages, so that `ros2 bag play`, RViz and
Foxglove show it. Every message of a frame has the sweep's stamp as its log time; a frame is two chunks, first images,
regions and calibration, then points, so that training never reads points. A part is called `.tmp` until it is closed.
"""

from __future__ import annotations

import os
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.reader import SeekingReader
from mcap.records import Channel, Chunk, ChunkIndex, Message
from mcap.stream_reader import StreamReader, breakup_chunk
from mcap.writer import CompressionType, Writer
from numpy.typing import NDArray

from dseg_core import messages as ros
from dseg_core.class_table import distinct_color
from dseg_core.errors import DsegError
from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND, EncodedImage, Frame, Sweep, View, ViewKey
from dseg_core.rosbag2_metadata import write_metadata
from dseg_core.stage_options import StoreOptions

POINTS_TOPIC = "/dseg/points"
_IMAGE, _REGIONS, _COLORS = "image/compressed", "regions/compressed", "regions_color/compressed"
_INFO, _TRANSFORM = "camera_info", "T_image_sweep"
# What mcap's reader raises on files that are cut off or garbled.
_BROKEN = (McapError, EOFError, OSError, ValueError, RuntimeError, MemoryError, struct.error)
_AGAIN = "Remove it and record its drive again"
_NEVER = 2**62  # chunks end when a frame's half does, not by size


def decode(image: EncodedImage) -> NDArray[np.uint8]:
    """Decode to RGB: uint8 (H, W, 3). Raises DsegError when the data is broken."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    bgr = cv2.imdecode(np.frombuffer(image.data, np.uint8), flags) if image.data else None
    if bgr is None:
        raise DsegError(f"the {image.format} image of {image.frame_id} at {image.stamp_ns} ns cannot be decoded")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def encode(stamp_ns: int, frame_id: str, rgb: NDArray[np.uint8], options: StoreOptions) -> EncodedImage:
    """Encode an RGB image uint8 (H, W, 3) as the options say."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    if options.image_format == "png":
        data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    else:
        data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, options.jpeg_quality])[1]
    return EncodedImage(stamp_ns, frame_id, options.image_format, data.tobytes())


def region_colors(regions: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """A picture of regions: black none, dark violet ground, a colour per object; uint8 (H, W, 3) RGB."""
    palette = np.array([distinct_color(i) for i in range(int(regions.max(initial=0)) + 1)], dtype=np.uint8)
    palette[0] = 0
    palette[REGION_GROUND:REGION_FIRST_OBJECT] = (128, 64, 128)
    return palette[regions]


class FrameWriter:
    """Writes one drive's part. A context manager: closing gives the part its name and lists it in metadata.yaml.

    Args:
        folder: The folder of frames; made when missing.
        drive: Name of the drive, a single path component.
        options: Formats.
        sync: Wait for the disk after every frame, so that a power cut costs at most one: for recording on the car.

    Raises:
        DsegError: The drive is in the folder already.
    """

    def __init__(self, folder: Path, drive: str, options: StoreOptions, sync: bool = False) -> None:
        self.path = folder / f"{drive}_0.mcap"
        if self.path.exists():
            raise DsegError(f"drive {drive} is recorded already", where=folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.drive, self.options, self.frames = drive, options, 0
        self._sync = sync
        self._temporary = unfinished_part(folder, drive)
        self._file = self._temporary.open("wb")
        self._writer = Writer(self._file, chunk_size=_NEVER, compression=CompressionType.LZ4)
        self._writer.start(profile="ros2", library="dseg")
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}

    def write(self, frame: Frame) -> None:
        """Append a frame; stamps must grow."""
        for view in frame.views:
            self._write_view(view, frame)
        self._writer.flush()
        sweep = frame.sweep
        columns: dict[str, NDArray[Any]] = {axis: sweep.xyz[:, i] for i, axis in enumerate("xyz")}
        if sweep.intensity is not None:
            columns["intensity"] = sweep.intensity
        if sweep.ring is not None:
            columns["ring"] = sweep.ring
        if sweep.time_ns is not None:
            columns["t"] = sweep.time_ns.astype(np.int32)
        columns["proposal"] = frame.proposals
        cloud = ros.cloud_to_message(sweep.stamp_ns, sweep.frame_id, columns, sweep.rows)
        self._put(POINTS_TOPIC, cloud, frame, sweep.stamp_ns)
        self._writer.flush()
        if self._sync:
            os.fsync(self._file.fileno())
        self.frames += 1

    def _write_view(self, view: View, frame: Frame) -> None:
        stamp, frame_id, place = view.stamp_ns, view.image.frame_id, f"/dseg/{view.camera}"
        regions = cv2.imencode(".png", view.regions, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
        colors = cv2.cvtColor(region_colors(view.regions), cv2.COLOR_RGB2BGR)
        preview = cv2.imencode(".png", colors, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
        # A transform with the vehicle's motion in it holds at the image's time, else always: stamp 0, as in /tf_static.
        held = stamp if view.motion_compensated else 0
        parts = {
            _IMAGE: ros.encoded_to_message(view.image),
            _REGIONS: ros.encoded_to_message(EncodedImage(stamp, frame_id, "16UC1; png compressed", regions)),
            _COLORS: ros.encoded_to_message(EncodedImage(stamp, frame_id, "png", preview)),
            _INFO: ros.camera_to_message(stamp, view.calibration),
            _TRANSFORM: ros.transform_to_message(held, frame_id, frame.sweep.frame_id, view.T_image_sweep),
        }
        for name, message in parts.items():
            self._put(f"{place}/{name}", message, frame, stamp)

    def _put(self, topic: str, message: Any, frame: Frame, stamp_ns: int) -> None:
        kind = message.__msgtype__
        if kind not in self._schemas:
            definition = ros.TYPESTORE.generate_msgdef(kind, ros_version=2)[0].encode()
            self._schemas[kind] = self._writer.register_schema(kind, "ros2msg", definition)
        if topic not in self._channels:
            self._channels[topic] = self._writer.register_channel(topic, "cdr", self._schemas[kind])
        data = bytes(ros.TYPESTORE.serialize_cdr(message, kind))
        self._writer.add_message(self._channels[topic], frame.stamp_ns, data, stamp_ns, self.frames)

    def close(self) -> None:
        """Finish the part, give it its name and list it."""
        self._writer.finish()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.replace(self.path)
        write_metadata(self.path.parent)

    def __enter__(self) -> FrameWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            # What is written stays as `.tmp`: the next run salvages its whole frames.
            self._writer.flush()
            self._file.close()


def unfinished_part(folder: Path, drive: str) -> Path:
    """Where a drive's part is while it is being written, or was left by a kill."""
    return folder / f"{drive}_0.mcap.tmp"


def salvage(part: Path, drive: str) -> Iterator[Frame]:
    """The whole frames of a part that was cut off, in order; what is broken at its end is left out."""
    channels: dict[int, str] = {}
    found: list[Message] = []
    with part.open("rb") as file:
        try:
            for record in StreamReader(file, emit_chunks=True).records:
                if not isinstance(record, Chunk):
                    continue
                for inner in breakup_chunk(record, validate_crc=True):
                    if isinstance(inner, Channel):
                        channels[inner.id] = inner.topic
                    elif isinstance(inner, Message):
                        found.append(inner)
                if found and channels[found[-1].channel_id] == POINTS_TOPIC:
                    yield _frame(drive, {channels[m.channel_id]: m for m in found})
                    found = []
        except _BROKEN:
            return  # the cut


@dataclass(frozen=True)
class _Place:
    """Where the chunks of one frame are."""

    part: int
    views: ChunkIndex | None
    points: ChunkIndex


class FrameStore:
    """A folder of frames, read at random.

    Raises:
        DsegError: There are no frames, or a part is broken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise DsegError("does not exist", where=folder, fix="`dseg record BAG --out FRAMES` makes frames")
        parts = sorted(folder.glob("*_0.mcap"))
        if not parts:
            raise DsegError("holds no frames", where=folder, fix="`dseg record BAG --out FRAMES` makes frames")
        self._files = [part.open("rb") for part in parts]
        self._channels: list[dict[int, str]] = []
        self._places: dict[tuple[str, int], _Place] = {}
        keys: list[ViewKey] = []
        for index, part in enumerate(parts):
            keys.extend(self._index(index, part))
        self.view_keys: tuple[ViewKey, ...] = tuple(sorted(keys))
        self.frame_keys: tuple[tuple[str, int], ...] = tuple(sorted(self._places))
        self.drives: tuple[str, ...] = tuple(sorted({drive for drive, _ in self.frame_keys}))
        self.cameras: tuple[str, ...] = tuple(sorted({key.camera for key in keys}))

    def __len__(self) -> int:
        return len(self.frame_keys)

    def frame(self, drive: str, stamp_ns: int) -> Frame:
        """A whole frame. Raises KeyError when there is none."""
        place = self._places[drive, stamp_ns]
        found = {**self._messages(place, place.views), **self._messages(place, place.points)}
        return _frame(drive, found)

    def frames(self) -> Iterator[Frame]:
        """All frames, by drive and time."""
        return (self.frame(*key) for key in self.frame_keys)

    def view(self, key: ViewKey) -> View:
        """One camera's part of a frame; points are not read. Raises KeyError when there is none."""
        place = self._places[key.drive, key.stamp_ns]
        return _view(key.camera, self._messages(place, place.views))

    @property
    def source_bags(self) -> dict[str, Path]:
        """The bag that each drive was recorded from, where the summary tells."""
        path = self.folder / "summary.json"
        rows = read_json(path).get("results", {}).get("drives", {}) if path.is_file() else {}
        return {drive: Path(row["bag"]) for drive, row in rows.items() if "bag" in row}

    def _index(self, index: int, part: Path) -> Iterator[ViewKey]:
        drive = part.name.removesuffix("_0.mcap")
        try:
            summary = SeekingReader(self._files[index]).get_summary()
        except _BROKEN as error:
            raise DsegError(f"is broken: {error}", where=part, fix=_AGAIN) from None
        if summary is None:
            raise DsegError("has no index", where=part, fix=_AGAIN)
        channels = {c.id: c.topic for c in summary.channels.values()}
        self._channels.append(channels)
        chunks: dict[int, list[ChunkIndex]] = defaultdict(list)
        for chunk in summary.chunk_indexes:
            chunks[chunk.message_start_time].append(chunk)
        for stamp_ns, found in chunks.items():
            topics = [{channels[c] for c in chunk.message_index_offsets} for chunk in found]
            points = next(c for c, t in zip(found, topics, strict=True) if POINTS_TOPIC in t)
            views = next((c for c, t in zip(found, topics, strict=True) if POINTS_TOPIC not in t), None)
            self._places[drive, stamp_ns] = _Place(index, views, points)
            for topic in set().union(*topics):
                if topic.endswith(_IMAGE):
                    yield ViewKey(drive, stamp_ns, topic.split("/")[2])

    def _messages(self, place: _Place, chunk_index: ChunkIndex | None) -> dict[str, Message]:
        if chunk_index is None:
            return {}
        file, channels = self._files[place.part], self._channels[place.part]
        try:
            data = os.pread(file.fileno(), chunk_index.chunk_length, chunk_index.chunk_start_offset)
            chunk = Chunk.read(ReadDataStream(BytesIO(data[9:])))  # after opcode and length
            records = breakup_chunk(chunk, validate_crc=True)
        except _BROKEN as error:
            raise DsegError(f"is broken: {error}", where=Path(file.name), fix=_AGAIN) from None
        return {channels[record.channel_id]: record for record in records if isinstance(record, Message)}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises DsegError."""
    import json

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DsegError(f"cannot be read: {error}", where=path) from None
    if not isinstance(content, dict):
        raise DsegError("is no JSON object", where=path)
    return content


def _frame(drive: str, found: dict[str, Message]) -> Frame:
    cloud = _deserialize(found[POINTS_TOPIC], "sensor_msgs/msg/PointCloud2")
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
    cameras = sorted(topic.split("/")[2] for topic in found if topic.endswith(_IMAGE))
    return Frame(drive, sweep, columns["proposal"], tuple(_view(camera, found) for camera in cameras))


def _view(camera: str, found: dict[str, Message]) -> View:
    image = f"/dseg/{camera}/{_IMAGE}"
    if image not in found:
        raise KeyError(camera)
    compressed = "sensor_msgs/msg/CompressedImage"
    source = ros.encoded_from_message(_deserialize(found[image], compressed))
    packed = _deserialize(found[f"/dseg/{camera}/{_REGIONS}"], compressed)
    regions = cv2.imdecode(np.asarray(packed.data), cv2.IMREAD_UNCHANGED)
    info = _deserialize(found[f"/dseg/{camera}/{_INFO}"], "sensor_msgs/msg/CameraInfo")
    transform = _deserialize(found[f"/dseg/{camera}/{_TRANSFORM}"], "geometry_msgs/msg/TransformStamped")
    return View(
        camera=camera,
        image=source,
        regions=np.asarray(regions, dtype=np.uint16),
        calibration=ros.camera_from_message(info, bool(info.roi.do_rectify)),
        T_image_sweep=ros.transform_from_message(transform)[2],
        motion_compensated=ros.stamp_ns(transform) != 0,
    )


def _deserialize(message: Message, kind: str) -> Any:
    return ros.TYPESTORE.deserialize_cdr(message.data, kind)
