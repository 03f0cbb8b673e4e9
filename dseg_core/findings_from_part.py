"""What is wrong with one part of a folder of frames: broken chunks and index, frames that do not hold together."""

from __future__ import annotations

import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
from mcap.exceptions import McapError
from mcap.reader import SeekingReader
from mcap.records import Channel, Chunk, Message
from mcap.stream_reader import StreamReader, breakup_chunk
from rosbags.serde import SerdeError

from dseg_core import messages as ros
from dseg_core.errors import DsegError
from dseg_core.findings_from_frame import AGAIN, Finding, of_points, of_view, picture_size
from dseg_core.frame_messages import COLORS, POINTS_TOPIC, camera_of, unpack, unpack_points
from dseg_core.records import Frame
from dseg_core.stage_options import FrameCheckOptions, PairingOptions
from dseg_core.words import one_line

_BROKEN = (McapError, EOFError, OSError, ValueError, RuntimeError, MemoryError, struct.error)
# What garbled CDR makes rosbags, numpy and OpenCV raise; a missing topic or field is a KeyError.
_UNREADABLE = (SerdeError, struct.error, ValueError, TypeError, IndexError, OverflowError, MemoryError, cv2.error)


@dataclass
class Seen:
    """What was counted in one part. `covered`: shares of the image under regions, 0..1, by camera."""

    frames: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    views: Counter[str] = field(default_factory=Counter)
    covered: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    offsets_ns: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    broken: bool = False


class PartReader:
    """Reads a part from its begin to its end; what it holds is then in `seen`.

    Args:
        part: The closed MCAP file.
        options: How deep, and from which shares on.
        pairing: As the drive was recorded; None where it is not known.
    """

    def __init__(self, part: Path, options: FrameCheckOptions, pairing: PairingOptions | None) -> None:
        self.part, self.drive = part, part.name.removesuffix("_0.mcap")
        self.options, self.pairing = options, pairing
        self.seen = Seen()
        self._channels = _channels(part)  # from the index: a broken chunk may be the one that names them
        self._last_ns: int | None = None
        self._stamps: set[int] = set()
        # A clock that was set back by more has been recorded anew.
        self._jump_ns = round((pairing or PairingOptions()).jump * 1e9)

    @property
    def is_of_frames(self) -> bool:
        """Whether its index has the topic that every frame has; not where it is broken."""
        return POINTS_TOPIC in self._channels.values()

    def findings(self) -> Iterator[list[Finding]]:
        """The part's findings, frame by frame, at last those of its index."""
        frame: list[Message] = []
        with self.part.open("rb") as file:
            try:
                for record in StreamReader(file, emit_chunks=True, validate_crcs=True).records:
                    if not isinstance(record, Chunk):
                        continue
                    try:
                        frame += self._messages(record)
                    except _BROKEN as error:
                        frame = []
                        yield [self._broken(f"a chunk is broken: {one_line(error)}", record.message_start_time)]
                        continue
                    if frame and self._channels[frame[-1].channel_id] == POINTS_TOPIC:
                        yield list(self._frame({self._channels[m.channel_id]: m for m in frame}))
                        self.seen.messages.update(self._channels[m.channel_id] for m in frame)
                        frame = []
                if frame and not self.is_of_frames:
                    yield [self._broken("is no part of frames: it has no points", fix="Move it elsewhere")]
                elif frame:
                    yield [self._broken("ends with a frame that has no points")]
            except _BROKEN as error:
                if not self.seen.broken:  # the checksum of all data says no more than that of the chunk
                    yield [self._broken(f"is broken: {one_line(error)}")]
        yield list(self._index())

    def _broken(self, what: str, stamp_ns: int | None = None, fix: str = AGAIN) -> Finding:
        self.seen.broken = True
        return Finding(what, str(self.part), fix, stamp_ns)

    def _messages(self, chunk: Chunk) -> list[Message]:
        """Raises ValueError, too, when a message's channel is not declared."""
        records = breakup_chunk(chunk, validate_crc=True)
        self._channels.update({inner.id: inner.topic for inner in records if isinstance(inner, Channel)})
        found = [inner for inner in records if isinstance(inner, Message)]
        unknown = {message.channel_id for message in found} - self._channels.keys()
        if unknown:
            raise ValueError(f"messages of undeclared channels {', '.join(map(str, sorted(unknown)))}")
        return found

    def _frame(self, found: Mapping[str, Message]) -> Iterator[Finding]:
        stamp_ns = found[POINTS_TOPIC].log_time
        self.seen.frames += 1
        if any(m.log_time != stamp_ns for m in found.values()):
            yield Finding("messages of one frame have different log times", self.drive, AGAIN, stamp_ns)
        if stamp_ns in self._stamps:
            yield Finding("the frame is there twice", self.drive, AGAIN, stamp_ns)
        elif self._last_ns is not None and 0 < self._last_ns - stamp_ns <= self._jump_ns:
            yield Finding("stamps do not grow", self.drive, AGAIN, stamp_ns)
        self._stamps.add(stamp_ns)
        self._last_ns = stamp_ns
        for topic, message in found.items():
            camera = camera_of(topic)
            if camera is not None:
                self.seen.views[camera] += 1
                self.seen.offsets_ns[camera].append(message.publish_time - stamp_ns)
        data = {topic: bytes(message.data) for topic, message in found.items()}
        try:
            frame = unpack(self.drive, data) if self.options.deep else unpack_points(self.drive, data[POINTS_TOPIC])
            previews = {view.camera: _preview(view.camera, data) for view in frame.views}
        except DsegError as error:
            yield Finding(error.what, error.where or self.drive, error.fix or AGAIN, stamp_ns)
            return
        except KeyError as error:
            yield Finding(f"the frame lacks {error}", self.drive, AGAIN, stamp_ns)
            return
        except _UNREADABLE as error:
            yield Finding(f"messages cannot be read: {type(error).__name__}", self.drive, AGAIN, stamp_ns)
            return
        if frame.stamp_ns != stamp_ns:
            yield Finding("the sweep's stamp is not its log time", self.drive, AGAIN, stamp_ns)
        yield from of_points(frame)
        yield from self._views(frame, previews)

    def _views(self, frame: Frame, previews: Mapping[str, bytes]) -> Iterator[Finding]:
        tolerance, agreement = self._tolerance_ns(frame), self.options.least_agreement / 100
        for view in frame.views:
            offset = self.pairing.known_offsets_ns([view.camera])[view.camera] if self.pairing is not None else 0
            yield from of_view(frame, view, tolerance, offset, agreement)
            self.seen.covered[view.camera].append(float((view.regions != 0).mean()))
            try:
                picture_size(previews[view.camera])
            except DsegError as error:
                where = f"{frame.drive}/{view.camera}"
                yield Finding(f"the preview of the regions {error.what}", where, AGAIN, frame.stamp_ns)

    def _tolerance_ns(self, frame: Frame) -> int | None:
        """Of image and sweep. The beam's crossing lies anywhere in the sweep's time."""
        if self.pairing is None:
            return None
        tolerance = round(self.pairing.tolerance * 1e9)
        times = frame.sweep.time_ns
        if self.pairing.reference == "crossing" and times is not None and len(times):
            tolerance += int(abs(times).max())
        return tolerance

    def _index(self) -> Iterator[Finding]:
        """The part's index against its data; the format's own checksum of the index."""
        size = self.part.stat().st_size
        with self.part.open("rb") as file:
            try:
                summary = SeekingReader(file).get_summary()
                file.seek(max(0, size - 28))  # start of the index (8), its offsets (8), its checksum (4), magic (8)
                start, _, checksum = struct.unpack("<QQI", file.read(20))
                file.seek(start)
                true = zlib.crc32(file.read(size - 12 - start))
            except _BROKEN as error:
                if not self.seen.broken:
                    yield self._broken(f"has no index: {one_line(error)}")
                return
        if checksum not in (0, true):
            yield self._broken("its index is broken")
        elif summary is None or summary.statistics is None:
            yield self._broken("has no index")
        elif not self.seen.broken:
            counts = summary.statistics.channel_message_counts
            told = {summary.channels[n].topic if n in summary.channels else "": c for n, c in counts.items()}
            if told != dict(self.seen.messages):
                yield self._broken("its index counts other messages than it has")


def _preview(camera: str, data: Mapping[str, bytes]) -> bytes:
    message: Any = ros.typestore().deserialize_cdr(data[f"/dseg/{camera}/{COLORS}"], "sensor_msgs/msg/CompressedImage")
    return bytes(message.data)


def _channels(part: Path) -> dict[int, str]:
    """Topics by channel, as the index has them; none where it is broken, which reading it again tells."""
    with part.open("rb") as file:
        try:
            summary = SeekingReader(file).get_summary()
        except _BROKEN:
            return {}
    return {c.id: c.topic for c in summary.channels.values()} if summary is not None else {}
