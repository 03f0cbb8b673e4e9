"""Rosbags as streams of messages, whatever their storage; names of drives and cameras."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer

from dseg_core.errors import DsegError
from dseg_core.messages import TYPESTORE

_STORAGE = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
_FILES = (".mcap", ".db3")
_TRANSPORT_PARTS = ("image_raw", "image_rect", "image_rect_color", "image_color", "image_mono", "image", "compressed",
                    "ffmpeg", "h264", "h265", "video", "compressed_video")  # fmt: skip


@dataclass(frozen=True)
class Topic:
    """A topic of a bag: its name, its type such as `sensor_msgs/msg/Image`, its number of messages."""

    name: str
    type: str
    count: int


@dataclass(frozen=True)
class BagMessage:
    """One message: `log_ns` is when it was received, `data` the message with ROS field names."""

    topic: str
    log_ns: int
    data: Any


class BagReader:
    """A rosbag2 folder (sqlite3 or MCAP, compressed or not) or a bare .mcap or .db3 file. A context manager.

    Raises:
        DsegError: It does not exist, is no bag, or is broken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = drive_name(path)
        if not path.exists():
            raise DsegError("does not exist", where=path)
        if path.is_dir() and not (path / "metadata.yaml").is_file():
            raise DsegError("is no bag: it has no metadata.yaml", where=path, fix="Try `ros2 bag reindex` on it")
        if path.is_file() and path.suffix not in _FILES:
            raise DsegError(f"is no bag: files end in {' or '.join(_FILES)}", where=path)
        self._reader: AnyReader | None = None

    def __enter__(self) -> BagReader:
        try:
            # Bags of Humble's sqlite3 carry no definitions; then these are the types.
            self._reader = AnyReader([self.path], default_typestore=TYPESTORE)
            self._reader.open()
        except (AnyReaderError, OSError, ValueError, AssertionError) as error:
            self._reader = None
            raise DsegError(f"cannot be opened as a bag: {_one_line(error)}", where=self.path) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    @property
    def topics(self) -> tuple[Topic, ...]:
        """All topics, by name."""
        found = self._open().topics.items()
        return tuple(sorted((Topic(n, t.msgtype or "", t.msgcount) for n, t in found), key=lambda topic: topic.name))

    @property
    def start_ns(self) -> int:
        """Log time of the first message."""
        return int(self._open().start_time)

    @property
    def end_ns(self) -> int:
        """Log time of the last message."""
        return int(self._open().end_time)

    def of_type(self, *types: str) -> tuple[Topic, ...]:
        """The topics of these message types that have messages."""
        return tuple(topic for topic in self.topics if topic.type in types and topic.count)

    def messages(
        self, topics: Iterable[str] | None = None, start_ns: int | None = None, end_ns: int | None = None
    ) -> Iterator[BagMessage]:
        """Messages in the order of their log time; of `topics` only, from `start_ns` to before `end_ns`, when given.

        Raises:
            DsegError: The file is cut off or a message is broken.
        """
        reader = self._open()
        wanted = None if topics is None else set(topics)
        connections = [c for c in reader.connections if wanted is None or c.topic in wanted]
        if not connections:
            return
        try:
            for connection, log_ns, raw in reader.messages(connections, start_ns, end_ns):
                yield BagMessage(connection.topic, log_ns, reader.deserialize(raw, connection.msgtype))
        except (AnyReaderError, OSError, EOFError, ValueError, AssertionError) as error:
            raise DsegError(f"cannot be read further: {_one_line(error)}", where=self.path) from None

    def _open(self) -> AnyReader:
        if self._reader is None:
            raise RuntimeError("BagReader is used outside its with block")
        return self._reader


class BagWriter:
    """Writes a rosbag2 folder (metadata version 8, which Humble reads); it gets its name only when it is whole.

    Args:
        path: The folder to make; must not exist.
        storage: "mcap" or "sqlite3".

    Raises:
        DsegError: The folder exists.
    """

    def __init__(self, path: Path, storage: str = "mcap") -> None:
        if path.exists():
            raise DsegError("exists already", where=path, fix="Remove it or choose another name")
        self.path = path
        # rosbag2 names files after their folder, so the temporary folder has the final name, inside another.
        self._outside = path.with_name(f".{path.name}.tmp")
        shutil.rmtree(self._outside, ignore_errors=True)
        self._outside.mkdir(parents=True)
        self._writer = Writer(self._outside / path.name, version=8, storage_plugin=_STORAGE[storage])
        self._writer.open()
        self._connections: dict[str, Connection] = {}

    def write(self, topic: str, message: Any, log_ns: int) -> None:
        """Append a rosbags message; its type is the topic's from the first message on."""
        kind = message.__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=TYPESTORE)
        self._writer.write(self._connections[topic], log_ns, TYPESTORE.serialize_cdr(message, kind))

    def close(self) -> None:
        """Finish the bag and give it its name."""
        self._writer.close()
        (self._outside / self.path.name).replace(self.path)
        self._outside.rmdir()

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._writer.close()
            shutil.rmtree(self._outside, ignore_errors=True)


def find_bags(paths: Sequence[Path]) -> list[Path]:
    """Bags among `paths`: rosbag2 folders, bare files, and the bags inside a folder of bags, sorted.

    Raises:
        DsegError: A path does not exist or holds no bag, or two bags would have the same drive name.
    """
    bags: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DsegError("does not exist", where=path)
        if path.is_file() or (path / "metadata.yaml").is_file():
            bags.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if (p / "metadata.yaml").is_file() or p.suffix in _FILES)
        if not inside:
            raise DsegError("holds no bag", where=path, fix="Give rosbag2 folders, .mcap or .db3 files")
        bags.extend(inside)
    seen: dict[str, Path] = {}
    for bag in bags:
        other = seen.setdefault(drive_name(bag), bag)
        if other is not bag:
            raise DsegError(
                f"has the same name as {other}", where=bag, fix="Rename one: drives are called by their bags"
            )
    return bags


def drive_name(path: Path) -> str:
    """The name of a drive: its bag's, with only letters, digits, `.`, `_` and `-`."""
    stem = path.resolve().stem if path.suffix in _FILES else path.resolve().name
    return _safe(stem)


def camera_name(topic: str) -> str:
    """A camera's name from its image topic: `/camera/front/image_raw/compressed` -> `camera_front`."""
    return _safe(without_transport(topic).strip("/").replace("/", "_"))


def without_transport(topic: str) -> str:
    """The namespace of a camera: its image topic without what names the image and its transport."""
    parts = topic.strip("/").split("/")
    while len(parts) > 1 and parts[-1] in _TRANSPORT_PARTS:
        parts.pop()
    return "/" + "/".join(parts)


def _safe(name: str) -> str:
    """A name that is one path component: what else it has becomes `_`."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    return kept.lstrip(".") or "_"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
