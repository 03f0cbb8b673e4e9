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
from typing import Any

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.reader import SeekingReader
from mcap.records import Channel, Chunk, ChunkIndex, Message
from mcap.stream_reader import StreamReader, breakup_chunk

from dseg_core.bag.names import FRAMES_MARK
from dseg_core.errors import DsegError
from dseg_core.frame_messages import POINTS_TOPIC, camera_of, unpack, unpack_view
from dseg_core.records import Frame, View, ViewKey
from dseg_core.words import one_line

# What mcap's reader raises on files that are cut off or garbled.
_BROKEN = (McapError, EOFError, OSError, ValueError, RuntimeError, MemoryError, struct.error)
_MAKE, _AGAIN = "`dseg record BAG --out FRAMES` makes frames", "Remove it and record its drive again"


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
                    yield unpack(drive, {channels[m.channel_id]: m.data for m in found})
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
            what = "is no folder of frames" if folder.exists() else "does not exist"
            raise DsegError(what, where=folder, fix=_MAKE)
        parts = sorted(folder.glob("*_0.mcap"))
        if not parts:
            raise DsegError("holds no frames", where=folder, fix=_MAKE)
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
        return unpack(drive, found)

    def frames(self) -> Iterator[Frame]:
        """All frames, by drive and time."""
        return (self.frame(*key) for key in self.frame_keys)

    def view(self, key: ViewKey) -> View:
        """One camera's part of a frame; points are not read. Raises KeyError when there is none."""
        place = self._places[key.drive, key.stamp_ns]
        return unpack_view(key.camera, self._messages(place, place.views))

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
            raise DsegError(f"is broken: {one_line(error)}", where=part, fix=self._fix()) from None
        if summary is None:
            raise DsegError("has no index", where=part, fix=self._fix())
        channels = {c.id: c.topic for c in summary.channels.values()}
        self._channels.append(channels)
        if POINTS_TOPIC not in channels.values():
            raise DsegError("is no part of frames", where=part, fix=_MAKE)
        chunks: dict[int, list[ChunkIndex]] = defaultdict(list)
        for chunk in summary.chunk_indexes:
            chunks[chunk.message_start_time].append(chunk)
        for stamp_ns, found in chunks.items():
            topics = [{channels[c] for c in chunk.message_index_offsets} for chunk in found]
            points = next((c for c, t in zip(found, topics, strict=True) if POINTS_TOPIC in t), None)
            if points is None:
                raise DsegError(f"is broken: frame {stamp_ns} has no points", where=part, fix=_AGAIN)
            views = next((c for c, t in zip(found, topics, strict=True) if POINTS_TOPIC not in t), None)
            self._places[drive, stamp_ns] = _Place(index, views, points)
            for topic in set().union(*topics):
                camera = camera_of(topic)
                if camera is not None:
                    yield ViewKey(drive, stamp_ns, camera)

    def _fix(self) -> str:
        """What to do about a part that cannot be told from the bag itself: nobody is told to remove that."""
        return _AGAIN if (self.folder / FRAMES_MARK).is_file() else _MAKE

    def _messages(self, place: _Place, chunk_index: ChunkIndex | None) -> dict[str, bytes]:
        if chunk_index is None:
            return {}
        file, channels = self._files[place.part], self._channels[place.part]
        try:
            data = os.pread(file.fileno(), chunk_index.chunk_length, chunk_index.chunk_start_offset)
            chunk = Chunk.read(ReadDataStream(BytesIO(data[9:])))  # after opcode and length
            records = breakup_chunk(chunk, validate_crc=True)
        except _BROKEN as error:
            raise DsegError(f"is broken: {one_line(error)}", where=Path(file.name), fix=_AGAIN) from None
        return {channels[record.channel_id]: record.data for record in records if isinstance(record, Message)}


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
