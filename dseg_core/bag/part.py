"""What the files of a bag have in common, whatever their storage: channels, raw messages in log-time order, damage."""

from __future__ import annotations

import bz2
import heapq
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import lz4.frame
import zstandard

from dseg_core.errors import DsegError
from dseg_core.progress import progress

Data = TypeVar("Data", bytes, memoryview)
Note = Callable[[str], None]
"""Told, in words, what is lost of a file."""

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_LARGEST = 4 << 30  # bytes; no chunk or message is larger, but a few garbled ones would say they are
_PIECE = 1 << 20  # bytes decompressed at a time
WORTH_A_BAR = 256 << 20
"""Bytes of a file that are worth a progress bar when they are counted."""


@dataclass(frozen=True)
class Channel:
    """A topic in one file.

    `type`: as `pkg/msg/Name`. `encoding`: of messages, `cdr` or `ros1`. `definition`: of the type, in `language`
    `ros2msg`, `ros2idl` or `ros1msg`; both "" where there is none.
    """

    topic: str
    type: str
    encoding: str
    language: str = ""
    definition: str = ""


class Raw(NamedTuple):
    """A message that is not deserialised yet."""

    log_ns: int
    channel: Channel
    data: bytes


class Part(ABC):
    """One file of a bag. `counts`: messages by channel number. `start_ns`, `end_ns`: log times, of its messages."""

    def __init__(self, path: Path, note: Note) -> None:
        self.path = path
        self.channels: dict[int, Channel] = {}
        self.counts: Counter[int] = Counter()
        self.start_ns, self.end_ns = 0, 0
        self._note = note

    @abstractmethod
    def messages(self, wanted: Set[int], start_ns: int, end_ns: int) -> Iterator[Raw]:
        """Messages of the wanted channels with start_ns <= log time < end_ns, in the order of log time."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""


@dataclass
class Chunk:
    """A chunk of messages at `offset`, `size` bytes in all. `counts` by channel is None until it is known.

    `whole`: the file does not end in it.
    """

    offset: int
    size: int
    start_ns: int = 0
    end_ns: int = 0
    counts: Counter[int] | None = None
    whole: bool = True


class ChunkedPart(Part):
    """A file of chunks. The subclass fills `chunks` and `channels`, and reads a chunk."""

    def __init__(self, path: Path, note: Note) -> None:
        super().__init__(path, note)
        self.size = path.stat().st_size
        self.chunks: list[Chunk] = []
        self._file: BinaryIO = path.open("rb")

    @abstractmethod
    def _read(self, chunk: Chunk) -> list[tuple[int, int, bytes]]:
        """What is whole of a chunk: (log time, channel, data); takes up channels that it finds."""

    def messages(self, wanted: Set[int], start_ns: int, end_ns: int) -> Iterator[Raw]:
        """See Part. One chunk is in memory, or those that overlap in time."""

        def source(chunk: Chunk) -> Iterator[Raw]:
            found = [m for m in self._read(chunk) if m[1] in wanted and start_ns <= m[0] < end_ns]
            found.sort(key=lambda m: m[0])
            found.reverse()
            while found:  # popped, so that what is done with can be freed
                log_ns, channel, data = found.pop()
                yield Raw(log_ns, self.channels[channel], data)

        chunks = [c for c in self.chunks if c.end_ns >= start_ns and c.start_ns < end_ns]
        chunks = [c for c in chunks if c.counts is None or not wanted.isdisjoint(c.counts)]
        return merged((chunk.start_ns, lambda chunk=chunk: source(chunk)) for chunk in chunks)  # type: ignore[misc]

    def close(self) -> None:
        """See Part."""
        self._file.close()

    def _at(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(max(0, min(size, self.size - offset)))

    def _count(self) -> None:
        """Sum up the chunks' counts; chunks whose contents nothing tells are read for it."""
        unknown = sum(c.size for c in self.chunks if c.counts is None)
        chunks: Iterable[Chunk] = self.chunks
        if unknown > WORTH_A_BAR:
            chunks = progress(chunks, f"count {self.path.name}", len(self.chunks), "chunk")
        for chunk in chunks:
            if chunk.counts is None or not chunk.counts.keys() <= self.channels.keys():
                found = self._read(chunk)
                chunk.counts = Counter(channel for _, channel, _ in found)
                if found:
                    chunk.start_ns, chunk.end_ns = min(m[0] for m in found), max(m[0] for m in found)
            self.counts.update(chunk.counts)
        full = [chunk for chunk in self.chunks if chunk.counts]
        self.start_ns = min((chunk.start_ns for chunk in full), default=0)
        self.end_ns = max((chunk.end_ns for chunk in full), default=0)


def merged(sources: Iterable[tuple[int, Callable[[], Iterator[Raw]]]]) -> Iterator[Raw]:
    """Merge sources by log time.

    Each is (log time of its first message, how to open it), and opened not before that: heapq.merge opens all at once.
    """
    waiting = sorted(enumerate(sources), key=lambda item: (item[1][0], item[0]), reverse=True)
    heap: list[tuple[int, int, Raw, Iterator[Raw]]] = []
    while waiting or heap:
        while waiting and (not heap or waiting[-1][1][0] <= heap[0][0]):
            number, (_, open_source) = waiting.pop()
            source = open_source()
            first = next(source, None)
            if first is not None:
                heapq.heappush(heap, (first.log_ns, number, first, source))
        if not heap:
            continue
        _, number, raw, source = heapq.heappop(heap)
        yield raw
        following = next(source, None)
        if following is not None:
            heapq.heappush(heap, (following.log_ns, number, following, source))


def inflate(data: Data, compression: str) -> tuple[Data | bytes, str]:
    """Decompress `""`/`none`, `lz4`, `zstd` or `bz2` data as far as it goes: the bytes, and what is wrong after them.

    No size that the data says is believed; more than 4 GiB is refused.
    """
    if compression in ("", "none"):
        return data, ""
    problem = ""
    pieces: list[bytes] = []
    try:
        for piece in _pieces(data, compression):
            pieces.append(piece)
            if sum(map(len, pieces)) > _LARGEST:
                return b"".join(pieces), "it decompresses to more than 4 GiB"
    except (zstandard.ZstdError, RuntimeError, OSError, EOFError, ValueError) as error:
        problem = f"{compression}: {' '.join(str(error).split())}"
    return b"".join(pieces), problem


def _pieces(data: bytes | memoryview, compression: str) -> Iterator[bytes]:
    if compression == "zstd":
        unpacker = zstandard.ZstdDecompressor().decompressobj()
        step = 1 << 16
        for start in range(0, len(data), step):
            yield unpacker.decompress(data[start : start + step])
        if not unpacker.eof:
            raise ValueError("it is cut off")
        return
    if compression not in ("lz4", "bz2"):
        raise ValueError(f"compression {compression!r} is unknown")
    if compression == "lz4":
        unpack: lz4.frame.LZ4FrameDecompressor | bz2.BZ2Decompressor = lz4.frame.LZ4FrameDecompressor()
    else:
        unpack = bz2.BZ2Decompressor()
    fed = data
    while not unpack.eof:
        piece = unpack.decompress(fed, max_length=_PIECE)
        fed = b""
        if not piece and unpack.needs_input:
            raise ValueError("it is cut off")
        yield piece


def unpack_file(packed: Path, target: Path, note: Note) -> Path:
    """Decompress a zstd file into another, as far as it goes; returns the other.

    Raises:
        DsegError: No room for it.
    """
    unpacker = zstandard.ZstdDecompressor()
    size = packed.stat().st_size
    with packed.open("rb") as source, target.open("wb") as file:
        pieces = unpacker.read_to_iter(source, write_size=_PIECE)
        shown = progress(pieces, f"unpack {packed.name}", unit="MiB") if size > WORTH_A_BAR else pieces
        try:
            for piece in shown:
                file.write(piece)
        except zstandard.ZstdError as error:
            note(f"{packed.name} is damaged, and only its beginning could be decompressed: {error}")
        except OSError as error:
            raise DsegError(
                f"cannot be decompressed into {target.parent}: {error.strerror}",
                where=packed,
                fix="Set TMPDIR to a folder with room",
            ) from None
    return target
