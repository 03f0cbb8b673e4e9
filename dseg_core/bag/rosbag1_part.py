"""ROS 1's .bag files: by their index where they have one, else chunk by chunk, as `rosbag reindex` does."""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from pathlib import Path

from dseg_core.bag.part import Channel, Chunk, ChunkedPart, Note, inflate
from dseg_core.bag.types import plain_type
from dseg_core.errors import DsegError
from dseg_core.words import count

MAGIC = b"#ROSBAG V2.0\n"
_FIX = "`rosbag reindex` repairs it"
_BAG, _CHUNK, _CONNECTION, _MESSAGE, _INDEX, _CHUNK_INFO = 3, 5, 7, 2, 4, 6
_LARGEST_HEADER = 1 << 20  # bytes; real ones have less than a hundred, connections a few thousand


class Rosbag1Part(ChunkedPart):
    """A ROS 1 bag of format 2.0, indexed or not (.bag.active).

    Raises:
        DsegError: It is no bag, an older format, or encrypted.
    """

    def __init__(self, path: Path, note: Note) -> None:
        super().__init__(path, note)
        magic = self._at(0, len(MAGIC))
        if magic != MAGIC:
            self._file.close()
            old = magic.startswith(b"#ROS")
            what = "is empty" if not self.size else "is a bag of an older format" if old else "is no ROS 1 bag"
            raise DsegError(what, where=path, fix="Run `rosbag fix` on it" if old else "Record it again")
        if not self._indexed():
            self._walk()
        self._count()

    def _indexed(self) -> bool:
        """Take chunks and connections from the index at the file's end; False where there is none that is whole."""
        first = self._record(len(MAGIC))
        if first is None or _op(first[0]) != _BAG:
            return False
        if first[0].get(b"encryptor"):
            raise DsegError("is encrypted", where=self.path, fix="Decrypt it with `rosbag decrypt`")
        position = _number(first[0], b"index_pos", "<Q")
        if not 0 < position < self.size:
            return False
        while position < self.size:
            record = self._record(position)
            if record is None or _op(record[0]) not in (_CONNECTION, _CHUNK_INFO):
                break
            fields, start, end = record
            body = self._at(start, end - start)
            if _op(fields) == _CONNECTION:
                self._connect(fields, body)
            else:
                counts = Counter(dict(struct.iter_unpack("<II", body[: len(body) // 8 * 8])))
                first_ns, last_ns = _time(fields.get(b"start_time", b"")), _time(fields.get(b"end_time", b""))
                self.chunks.append(Chunk(_number(fields, b"chunk_pos", "<Q"), 0, first_ns, last_ns, counts))
            position = end
        expected = (_number(first[0], b"chunk_count", "<I"), _number(first[0], b"conn_count", "<I"))
        if expected == (len(self.chunks), len(self.channels)) and position >= self.size:
            return True
        self.chunks.clear()
        return False

    def _walk(self) -> None:
        """Find the chunks from the file's beginning on."""
        self._note(f"{self.path.name} has no index: its recorder was killed or the file was cut off. {_FIX}")
        position = len(MAGIC)
        while position < self.size:
            record = self._record(position)
            if record is None or (record[2] > self.size and _op(record[0]) != _CHUNK):
                position = self._next_chunk(position)
                continue
            fields, start, end = record
            op = _op(fields)
            if op == _CHUNK:
                self.chunks.append(Chunk(position, end - position, whole=end <= self.size))
                if end > self.size:
                    self._note(f"{self.path.name} is cut off in its last chunk. {_FIX}")
            elif op == _CONNECTION:
                self._connect(fields, self._at(start, end - start))
            position = end

    def _next_chunk(self, position: int) -> int:
        """Where the next chunk begins after broken bytes; the file's end if there is none."""
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            found, at = self.size, position
            while (at := view.find(b"op=\x05", at + 1)) >= 0:
                # The field may stand anywhere in the record's header, which is short.
                before = (b for b in range(at - 4, max(position, at - 100), -1) if self._is_chunk(b))
                if (begin := next(before, None)) is not None:
                    found = begin
                    break
        where = "at its end" if found == self.size else f"at byte {position}"
        self._note(f"{self.path.name}: {found - position} bytes {where} are broken and left out. {_FIX}")
        return found

    def _is_chunk(self, position: int) -> bool:
        record = self._record(position)
        return record is not None and _op(record[0]) == _CHUNK and b"compression" in record[0]

    def _read(self, chunk: Chunk) -> list[tuple[int, int, bytes]]:
        record = self._record(chunk.offset)
        if record is None or _op(record[0]) != _CHUNK:
            self._lost(chunk, "it is overwritten")
            return []
        fields, start, end = record
        packed = self._at(start, end - start)
        content, problem = inflate(packed, fields.get(b"compression", b"none").decode(errors="replace"))
        if not problem and chunk.whole and len(content) != _number(fields, b"size", "<I"):
            problem = f"it has {len(content)} bytes, not {_number(fields, b'size', '<I')}"
        if problem and chunk.whole:
            self._lost(chunk, problem)
        found, position = [], 0
        while inner := _split(content, position):
            fields, start, position = inner
            if position > len(content):
                break
            if _op(fields) == _CONNECTION:
                self._connect(fields, content[start:position])
            elif _op(fields) == _MESSAGE:
                found.append((_time(fields.get(b"time", b"")), _number(fields, b"conn", "<I"), content[start:position]))
        known = [message for message in found if message[1] in self.channels]
        if len(known) < len(found):
            self._lost(chunk, f"the topics of {count(len(found) - len(known), 'message')} are unknown")
        return known

    def _lost(self, chunk: Chunk, why: str) -> None:
        self._note(f"{self.path.name}: messages of the chunk at byte {chunk.offset} are lost: {why}. {_FIX}")

    def _connect(self, fields: dict[bytes, bytes], body: bytes) -> None:
        """Take up a connection record."""
        more = _fields(body)
        topic, kind = fields.get(b"topic"), more.get(b"type") if more else None
        if topic and kind and more and b"conn" in fields:
            text = more.get(b"message_definition", b"").decode(errors="replace")
            channel = Channel(
                topic.decode(errors="replace"), plain_type(kind.decode(errors="replace")), "ros1", "ros1msg", text
            )
            self.channels.setdefault(_number(fields, b"conn", "<I"), channel)

    def _record(self, position: int) -> tuple[dict[bytes, bytes], int, int] | None:
        """The record at a position: its fields, where its data begins, where it ends (perhaps behind the file)."""
        head = self._at(position, 4)
        if len(head) < 4 or (size := struct.unpack("<I", head)[0]) > _LARGEST_HEADER:
            return None
        return _split(self._at(position, 8 + size), 0, position)


def _split(content: bytes, position: int, base: int = 0) -> tuple[dict[bytes, bytes], int, int] | None:
    """A record in bytes: its fields, where its data begins, where it ends, both plus `base`. None where it is cut."""
    if position + 8 > len(content):
        return None
    (size,) = struct.unpack_from("<I", content, position)
    start = position + 8 + size
    if start > len(content):
        return None
    fields = _fields(content[position + 4 : start - 4])
    if not fields or b"op" not in fields:
        return None
    (length,) = struct.unpack_from("<I", content, start - 4)
    return fields, base + start, base + start + length


def _fields(header: bytes) -> dict[bytes, bytes] | None:
    """name=value fields, each with its length before it."""
    fields, position = {}, 0
    while position < len(header):
        if position + 4 > len(header):
            return None
        (size,) = struct.unpack_from("<I", header, position)
        field = header[position + 4 : position + 4 + size]
        name, equals, value = field.partition(b"=")
        if len(field) < size or not equals:
            return None
        fields[name] = value
        position += 4 + size
    return fields


def _op(fields: dict[bytes, bytes]) -> int:
    return fields[b"op"][0] if fields.get(b"op") else 0


def _number(fields: dict[bytes, bytes], name: bytes, form: str) -> int:
    value = fields.get(name, b"")
    return int(struct.unpack(form, value)[0]) if len(value) == struct.calcsize(form) else 0


def _time(value: bytes) -> int:
    """Seconds and nanoseconds to nanoseconds."""
    seconds, rest = struct.unpack("<II", value) if len(value) == 8 else (0, 0)
    return int(seconds) * 10**9 + int(rest)
