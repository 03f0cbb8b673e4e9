"""Rosbags of ROS 1 and 2 as streams of messages, whatever their storage, and whatever of them is whole."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from dseg_core.bag.files import open_part
from dseg_core.bag.metadata import read_metadata
from dseg_core.bag.names import GIVE_BAGS, drive_name, is_bag_file, part_order
from dseg_core.bag.part import Channel, Part, merged
from dseg_core.bag.types import BROKEN, decoder
from dseg_core.errors import DsegError, system_error
from dseg_core.words import count, one_line

_FIRST_NS, _AFTER_NS = -(2**63), 2**63 - 1


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
    """A bag, open within a `with` block: what is whole of it.

    It is a rosbag2 folder (sqlite3 or MCAP, of one file or several, compressed or not, metadata.yaml or not), a file
    .mcap or .db3, or a ROS 1 .bag. Types are named as in ROS 2. Damage costs what it hit: see `notes`, `unreadable`.

    Raises:
        DsegError: It does not exist, is no bag, nothing of it can be read, or it points outside its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = drive_name(path)
        if not path.exists():
            raise DsegError("does not exist", where=path, fix=GIVE_BAGS)
        if not path.is_dir() and not is_bag_file(path):
            raise DsegError("is no bag", where=path, fix=GIVE_BAGS)
        self.unreadable: dict[str, int] = {}
        """Messages by topic that `Topic.count` counts and that the last pass over the topic could not give out."""
        self._notes: dict[str, str] = {}
        self._parts: list[Part] | None = None
        self._stack = ExitStack()
        self._decoders: dict[Channel, Callable[[bytes], Any] | str] = {}
        self._topics: dict[str, Topic] = {}

    def __enter__(self) -> BagReader:
        try:
            self._parts = self._open_parts()
            self._find_topics()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._parts = None

    @property
    def notes(self) -> list[str]:
        """What is lost of the bag, and how to repair it; complete once its messages have been read."""
        return list(self._notes.values())

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The topics whose types are known, by name."""
        self._open()
        return tuple(self._topics[name] for name in sorted(self._topics))

    @property
    def start_ns(self) -> int:
        """Log time of the first message."""
        return min((part.start_ns for part in self._open() if part.counts.total()), default=0)

    @property
    def end_ns(self) -> int:
        """Log time of the last message."""
        return max((part.end_ns for part in self._open() if part.counts.total()), default=0)

    @property
    def fingerprint(self) -> str:
        """Tells bags of one name apart: when it begins and ends, and how many messages of each topic it has."""
        counts = ",".join(f"{topic.name}:{topic.count}" for topic in self.topics)
        return hashlib.sha256(f"{self.start_ns},{self.end_ns},{counts}".encode()).hexdigest()[:16]

    def of_type(self, *types: str) -> tuple[Topic, ...]:
        """The topics of these message types that have messages."""
        return tuple(topic for topic in self.topics if topic.type in types and topic.count)

    def messages(
        self, topics: Iterable[str] | None = None, start_ns: int | None = None, end_ns: int | None = None
    ) -> Iterator[BagMessage]:
        """Messages in the order of their log time; of `topics` only, from `start_ns` to before `end_ns`, when given.

        Those that cannot be read are left out: `notes` and `unreadable` tell.

        Raises:
            DsegError: The disk fails.
        """
        wanted = {name for name in self._topics if topics is None} | (self._topics.keys() & set(topics or ()))
        start = _FIRST_NS if start_ns is None else start_ns
        end = _AFTER_NS if end_ns is None else end_ns
        given: Counter[str] = Counter()
        broken: Counter[str] = Counter()
        sources = []
        for part in self._open():
            channels = {number for number, c in part.channels.items() if c.topic in wanted and self._is_usable(c)}
            if channels and any(part.counts[number] for number in channels):
                sources.append((part.start_ns, lambda p=part, c=channels: p.messages(c, start, end)))
        try:
            for raw in merged(sources):
                topic = raw.channel.topic
                decode = self._decoders[raw.channel]
                try:
                    data = decode(raw.data)  # type: ignore[operator]  # channels whose types are unknown are not wanted
                except BROKEN as error:
                    broken[topic] += 1
                    self._note(f"{count(broken[topic], 'message')} of {topic} cannot be read: {one_line(error)}", topic)
                    continue
                given[topic] += 1
                yield BagMessage(topic, raw.log_ns, data)
        except OSError as error:
            raise DsegError(f"cannot be read further: {one_line(error)}", where=self.path) from None
        if start_ns is None and end_ns is None:
            for name in wanted:
                self._account(name, self._topics[name].count - given[name], broken[name])

    def counts(self, topics: Iterable[str], start_ns: int, end_ns: int) -> Counter[str]:
        """How many messages of topics were logged from `start_ns` to before `end_ns`, without making sense of them."""
        found = Counter[str]()
        for part in self._open():
            channels = {number for number, c in part.channels.items() if c.topic in set(topics)}
            found.update(raw.channel.topic for raw in (part.messages(channels, start_ns, end_ns) if channels else ()))
        return found

    def _account(self, topic: str, missing: int, broken: int) -> None:
        """Keep what a pass over all messages of a topic has missed."""
        if missing:
            self.unreadable[topic] = missing
        if missing > broken:
            lost = missing - broken
            told = f"{count(lost, 'message')} of {topic} {'was' if lost == 1 else 'were'} on what is lost"
            self._note(told, f"lost {topic}")

    def _open_parts(self) -> list[Part]:
        """Open the bag's files; those that cannot be opened are noted, unless none can."""
        if self.path.is_file():
            paths, claimed = [self.path], None
        elif (self.path / "metadata.yaml").is_file():
            paths, claimed = read_metadata(self.path, self._note)
        else:
            paths, claimed = sorted((p for p in self.path.iterdir() if is_bag_file(p)), key=part_order), None
            if not paths:
                what = "is no bag: it has no metadata.yaml and no files of messages"
                raise DsegError(what, where=self.path, fix=GIVE_BAGS)
            self._note(f"metadata.yaml is missing; read are {_list(paths)}. `ros2 bag reindex` makes a new one")
        parts, errors = [], []
        for path in paths:
            try:
                part = open_part(path, self._stack, self._note)
            except DsegError as problem:
                errors.append(problem)
                continue
            except PermissionError as problem:
                errors.append(system_error(problem, path))
                continue
            except OSError as problem:
                errors.append(DsegError(f"cannot be opened as a bag: {one_line(problem)}", where=path))
                continue
            self._stack.callback(part.close)
            parts.append(part)
        if not parts:
            if errors:
                raise errors[0]
            raise DsegError("has no file of messages", where=self.path, fix="Copy its files again")
        for error in errors:
            self._note(f"{Path(error.where).name} {error.what}; it is left out")
        found = sum(part.counts.total() for part in parts)
        if claimed is not None and claimed != found:
            counts = f"metadata.yaml counts {count(claimed, 'message')}, the files have {found}"
            self._note(f"{counts}. `ros2 bag reindex` corrects it")
        return parts

    def _find_topics(self) -> None:
        for part in self._open():
            for number, channel in part.channels.items():
                count = part.counts[number]
                if not self._is_usable(channel):
                    if count:
                        why = self._decoders[channel]
                        key = f"skipped {channel.topic}"
                        self._note(f"{channel.topic} is skipped, its type is {channel.type}: {why}", key)
                    continue
                before = self._topics.get(channel.topic, Topic(channel.topic, channel.type, 0))
                self._topics[channel.topic] = Topic(before.name, before.type, before.count + count)

    def _is_usable(self, channel: Channel) -> bool:
        """Whether the channel's messages can be deserialised and are of its topic's type."""
        if channel not in self._decoders:
            try:
                self._decoders[channel] = decoder(channel)
            except DsegError as error:
                self._decoders[channel] = error.what
        topic = self._topics.get(channel.topic)
        if topic is not None and topic.type != channel.type:
            self._decoders[channel] = f"it has messages of type {topic.type} as well"
        return not isinstance(self._decoders[channel], str)

    def _note(self, text: str, key: str = "") -> None:
        """Note something once; a note of the same key replaces the one before."""
        self._notes[key or text] = text

    def _open(self) -> list[Part]:
        if self._parts is None:
            raise RuntimeError("BagReader is used outside its with block")
        return self._parts


def _list(paths: Iterable[Path]) -> str:
    return ", ".join(path.name for path in paths)
