"""MCAP files: by their index where they have one, else by walking from record to record, past what is broken."""

from __future__ import annotations

import mmap
import re
import struct
import zlib
from collections import Counter
from pathlib import Path

from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.reader import SeekingReader

from dseg_core.bag.part import Channel, Chunk, ChunkedPart, Note, inflate
from dseg_core.bag.types import plain_type
from dseg_core.errors import DsegError
from dseg_core.words import count

MAGIC = b"\x89MCAP0\r\n"
_FIX = "`mcap recover` or `ros2 bag reindex` repairs it"
_CHUNK = re.compile(
    rb"\x06.{6}\0\0.{8}.{8}.{6}\0\0.{4}(?:\0{4}|\x03\0{3}lz4|\x04\0{3}zstd)", re.DOTALL
)  # opcode, length, times, size, checksum, compression: what a chunk begins with
_RUN = 1 << 22  # bytes of messages outside chunks that are read at a time
_BROKEN_INDEX = (McapError, struct.error, ValueError, KeyError, IndexError, EOFError, AssertionError, OverflowError)


class McapPart(ChunkedPart):
    """An MCAP file of ROS 2 or ROS 1 messages.

    Raises:
        DsegError: It is no MCAP file.
    """

    def __init__(self, path: Path, note: Note) -> None:
        super().__init__(path, note)
        self._schemas: dict[int, tuple[str, str, str]] = {}
        if self._at(0, len(MAGIC)) != MAGIC:
            self._file.close()
            raise DsegError("is empty" if not self.size else "is no MCAP file", where=path, fix="Record it again")
        if not self._indexed():
            self._walk()
        self._count()

    def _indexed(self) -> bool:
        """Take chunks and channels from the index at the file's end; False where there is none that is whole."""
        try:
            summary = SeekingReader(self._file).get_summary()
        except _BROKEN_INDEX:
            return False
        if summary is None or summary.statistics is None:
            return False
        statistics, indexes = summary.statistics, summary.chunk_indexes
        unchunked = statistics.message_count and not indexes
        if unchunked or len(indexes) != statistics.chunk_count or len(summary.channels) != statistics.channel_count:
            return False
        for number, schema in summary.schemas.items():
            self._schemas[number] = (schema.name, schema.encoding, schema.data.decode(errors="replace"))
        for number, channel in summary.channels.items():
            self._add_channel(number, channel.schema_id, channel.topic, channel.message_encoding)
        for index in indexes:
            start, end = index.message_start_time, index.message_end_time
            # The lengths of its message indexes tell how many messages a chunk has of each channel.
            places = sorted((offset, number) for number, offset in index.message_index_offsets.items())
            ends = [o for o, _ in places[1:]]
            ends.append(index.chunk_start_offset + index.chunk_length + index.message_index_length)
            counts = Counter({n: (e - o - 15) // 16 for (o, n), e in zip(places, ends, strict=True)})
            chunk = Chunk(index.chunk_start_offset, index.chunk_length, start, end, counts if places else None)
            self.chunks.append(chunk)
        known = sum(c.counts.total() for c in self.chunks if c.counts is not None)
        if any(c.counts is None for c in self.chunks) or known != statistics.message_count:
            for chunk in self.chunks:
                chunk.counts = None
        return True

    def _walk(self) -> None:
        """Find chunks, channels and messages outside chunks from the file's beginning on."""
        self.chunks.clear()
        position, indexed, finished = len(MAGIC), Chunk(0, 0), False
        while position < self.size and not finished:
            head = self._at(position, 9)
            opcode, length = struct.unpack("<BQ", head) if len(head) == 9 else (0, 0)
            end = position + 9 + length
            if opcode == Opcode.CHUNK and (chunk := self._chunk(position, length)):
                self.chunks.append(chunk)
                indexed = Chunk(0, 0)
                if chunk.whole:
                    indexed = chunk
                else:
                    end = self.size
                    self._note(f"{self.path.name} is cut off in its last chunk. {_FIX}")
            elif not 0 < opcode <= Opcode.DATA_END or opcode == Opcode.CHUNK or end > self.size:
                end = self._next_chunk(position)
                indexed = Chunk(0, 0)
            elif opcode == Opcode.MESSAGE_INDEX and length >= 6:
                number, size = struct.unpack("<HI", self._at(position + 9, 6))
                if size == length - 6:
                    indexed.counts = (indexed.counts or Counter()) + Counter({number: size // 16})
            elif opcode == Opcode.MESSAGE and length >= 22:
                self._extend_run(position, length)
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                self._take(opcode, self._at(position + 9, length))
            finished = opcode == Opcode.FOOTER
            position = end
        if self.chunks:
            self.chunks[-1].counts = None  # its indexes may not have been written any more
        if not finished:
            self._note(f"{self.path.name} has no end: its recorder was killed or the file was cut off. {_FIX}")

    def _chunk(self, position: int, length: int) -> Chunk | None:
        """The chunk at a position, None where its sizes do not agree."""
        head = self._at(position + 9, 48)
        if len(head) < 40:
            return None
        start, end, _, _, name = struct.unpack_from("<QQQII", head)
        if name not in (0, 3, 4) or len(head) < 40 + name:
            return None
        (size,) = struct.unpack_from("<Q", head, 32 + name)
        if size != length - 40 - name or end < start:
            return None
        return Chunk(position, 9 + length, start, end, None, position + 9 + length <= self.size)

    def _next_chunk(self, position: int) -> int:
        """Where the next chunk begins after broken bytes; the file's end if there is none."""
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            found = self.size
            for match in _CHUNK.finditer(view, position + 1):
                (length,) = struct.unpack_from("<Q", view, match.start() + 1)
                if self._chunk(match.start(), length):
                    found = match.start()
                    break
        where = "at its end" if found == self.size else f"at byte {position}"
        self._note(f"{self.path.name}: {found - position} bytes {where} are broken and left out. {_FIX}")
        return found

    def _extend_run(self, position: int, length: int) -> None:
        """Add a message outside chunks to the run of such messages before it."""
        number, _, log_ns = struct.unpack("<HIQ", self._at(position + 9, 14))
        run = self.chunks[-1] if self.chunks else None
        after = run is not None and run.counts is not None and run.offset + run.size == position
        if run is None or not after or run.size > _RUN or self._at(run.offset, 1) != bytes([Opcode.MESSAGE]):
            run = Chunk(position, 0, log_ns, log_ns, Counter())
            self.chunks.append(run)
        run.size += 9 + length
        run.start_ns, run.end_ns = min(run.start_ns, log_ns), max(run.end_ns, log_ns)
        run.counts = (run.counts or Counter()) + Counter([number])

    def _read(self, chunk: Chunk) -> list[tuple[int, int, bytes]]:
        content: bytes | memoryview = self._at(chunk.offset, chunk.size)
        if content[:1] == bytes([Opcode.CHUNK]):
            content = self._content(chunk, memoryview(content))
        elif content[:1] != bytes([Opcode.MESSAGE]):
            self._lost(chunk, "it is overwritten")
            return []
        found, position = [], 0
        while position + 9 <= len(content):
            opcode, length = struct.unpack_from("<BQ", content, position)
            position += 9
            if position + length > len(content):
                break
            if opcode == Opcode.MESSAGE and length >= 22:
                number, _, log_ns = struct.unpack_from("<HIQ", content, position)
                found.append((log_ns, number, bytes(content[position + 22 : position + length])))
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                self._take(opcode, bytes(content[position : position + length]))
            position += length
        known = [message for message in found if message[1] in self.channels]
        if len(known) < len(found):
            self._lost(chunk, f"the topics of {count(len(found) - len(known), 'message')} are unknown")
        return known

    def _content(self, chunk: Chunk, record: memoryview) -> bytes | memoryview:
        """A chunk's records, decompressed; of a cut one, those before the cut; of one with a wrong checksum, none."""
        if len(record) < 49:
            return b""
        size, checksum, name = struct.unpack_from("<QII", record, 25)
        compression = bytes(record[41 : 41 + name]).decode("ascii", errors="replace") if name <= 4 else "?"
        content, problem = inflate(record[49 + name :], compression)
        if not chunk.whole:
            return content
        if not problem and len(content) != size:
            problem = f"it has {len(content)} bytes, not {size}"
        if not problem and checksum and zlib.crc32(content) != checksum:
            problem = "its checksum is wrong"
        if problem:
            self._lost(chunk, problem)
            return b""
        return content

    def _lost(self, chunk: Chunk, why: str) -> None:
        self._note(f"{self.path.name}: the chunk of {chunk.size} bytes at byte {chunk.offset} is lost: {why}. {_FIX}")

    def _take(self, opcode: int, body: bytes) -> None:
        """Take up a schema or a channel record."""
        try:
            if opcode == Opcode.SCHEMA:
                number = struct.unpack_from("<H", body)[0]
                name, position = _text(body, 2)
                encoding, position = _text(body, position)
                text, _ = _text(body, position)
                self._schemas.setdefault(number, (name, encoding, text))
            else:
                number, schema = struct.unpack_from("<HH", body)
                topic, position = _text(body, 4)
                self._add_channel(number, schema, topic, _text(body, position)[0])
        except struct.error:
            return  # a garbled record; what it names stays unknown, and that is noted

    def _add_channel(self, number: int, schema: int, topic: str, encoding: str) -> None:
        name, language, text = self._schemas.get(schema, ("", "", ""))
        self.channels.setdefault(number, Channel(topic, plain_type(name), encoding, language, text))


def _text(body: bytes, position: int) -> tuple[str, int]:
    """A string with its length before it, and the position after it."""
    (length,) = struct.unpack_from("<I", body, position)
    end = position + 4 + length
    return body[position + 4 : end].decode(errors="replace"), end
