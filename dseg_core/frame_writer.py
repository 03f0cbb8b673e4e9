"""Writing frames to disk, one drive's part at a time. The layout is `store`'s."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType

from dseg_core.bag.mcap_writer import channel_metadata, definition
from dseg_core.errors import DsegError
from dseg_core.frame_messages import CLOUD, POINTS_CHANNEL, POINTS_TOPIC, PackedFrame, PackedMessage, pack
from dseg_core.mcap_from_chunks import ChunkFile, ChunkMessage, packed_chunk
from dseg_core.progress import sync_folder
from dseg_core.records import Frame
from dseg_core.rosbag2_metadata import write_metadata


class FrameWriter:
    """Writes one drive's part. A context manager: closing gives the part its name and lists it in metadata.yaml.

    Args:
        folder: The folder of frames; made when missing.
        drive: Name of the drive, a single path component.
        sync: Wait for the disk after every frame, so that a power cut costs at most one: for recording on the car.
        listed: Whether closing lists the part; not where several processes write parts of one folder.

    Raises:
        DsegError: The drive is in the folder already.
    """

    def __init__(self, folder: Path, drive: str, sync: bool = False, listed: bool = True) -> None:
        self.path = part_path(folder, drive)
        if self.path.exists():
            raise DsegError(f"drive {drive} is recorded already", where=folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.drive, self.frames = drive, 0
        self._sync_each, self._listed = sync, listed
        self._temporary = unfinished_part(folder, drive)
        self._file = self._temporary.open("wb")
        sync_folder(folder)  # a file whose name is not on the disk is lost with all that was synced into it
        self._chunks = ChunkFile(self._file, profile="ros2", library="dseg")
        if self._channel(POINTS_TOPIC, CLOUD) != POINTS_CHANNEL:
            raise RuntimeError("points are not the first channel")

    def write(self, frame: Frame | PackedFrame) -> None:
        """Append a frame of at least one view."""
        packed = pack(frame) if isinstance(frame, Frame) else frame
        views = [self._message(message, packed.stamp_ns) for message in packed.views]
        self._chunks.append(packed_chunk(views, self._chunks.take_declarations()))
        self._chunks.append(packed.points)
        self._file.flush()
        if self._sync_each:
            self.sync()
        self.frames += 1

    def sync(self) -> None:
        """Wait until what is written is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def _message(self, message: PackedMessage, log_ns: int) -> ChunkMessage:
        return ChunkMessage(self._channel(message.topic, message.type), log_ns, message.stamp_ns, (message.data,))

    def _channel(self, topic: str, kind: str) -> int:
        known = self._chunks.channel(topic)
        if known is not None:
            return known
        return self._chunks.declare(topic, kind, definition(kind), channel_metadata(topic, kind))

    def discard(self) -> None:
        """Forget what was written: where an error follows, nothing is kept for the next run."""
        self.frames = 0

    def close(self) -> None:
        """Finish the part, give it its name and list it."""
        self._chunks.finish()
        self.sync()
        self._file.close()
        self._temporary.replace(self.path)
        sync_folder(self.path.parent)
        if self._listed:
            write_metadata(self.path.parent)

    def abandon(self) -> None:
        """Let go of the part: without frames it goes, else it stays as `.tmp`, and its whole frames can be salvaged."""
        with contextlib.suppress(OSError):  # what a full disk did not take before it does not take now either
            self._file.close()
        if not self.frames:
            self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> FrameWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and not self._file.closed:
            self.close()
        else:
            self.abandon()


def part_path(folder: Path, drive: str) -> Path:
    """A drive's finished part."""
    return folder / f"{drive}_0.mcap"


def unfinished_part(folder: Path, drive: str) -> Path:
    """Where a drive's part is while it is being written, or was left by a kill."""
    return folder / f"{drive}_0.mcap.tmp"
