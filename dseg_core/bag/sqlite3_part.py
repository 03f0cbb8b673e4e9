"""rosbag2's sqlite3 files: by their index; where pages are broken or missing, row by row past them."""

from __future__ import annotations

import contextlib
import sqlite3
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from pathlib import Path
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from dseg_core.bag.part import WORTH_A_BAR, Channel, Note, Part, Raw
from dseg_core.bag.types import plain_type
from dseg_core.errors import DsegError
from dseg_core.progress import progress

_FIX = "`sqlite3 FILE .recover` saves more, then `ros2 bag reindex`"
_LAST_ID = 1 << 48
_Rows = NDArray[np.int64]  # (N, 3): number, topic, log time

_ROWS = "SELECT id, topic_id, timestamp, CASE WHEN length(data) <= ? THEN data END FROM messages WHERE "
"""NULL where the length is garbled, for which SQLite would gather a gigabyte: no message is larger than its file."""
_NO_TOPIC = -1


class Sqlite3Part(Part):
    """A .db3 file, with the write-ahead log beside it that a crash has left.

    Raises:
        DsegError: It is no bag, or nothing of it can be read.
    """

    def __init__(self, path: Path, note: Note) -> None:
        super().__init__(path, note)
        self._rows: _Rows | None = None
        self._size = path.stat().st_size
        if not self._size:
            raise DsegError("is empty", where=path, fix="Record it again")
        self._database = self._connect()
        try:
            self._channels()
            try:
                self._count()
            except sqlite3.DatabaseError:
                self._salvage()
        except sqlite3.DatabaseError as error:
            self._database.close()
            raise DsegError(f"cannot be read as a bag: {error}", where=path, fix=_FIX) from None

    def _connect(self) -> sqlite3.Connection:
        """Open read-only. A log beside the file is part of it, and leaves SQLite no choice but to lock."""
        name = f"file:{quote(str(self.path.resolve()))}"
        log = self.path.with_name(self.path.name + "-wal")
        if self.path.with_name(self.path.name + "-journal").is_file():
            self._note(f"{self.path.name} was killed while it was written; what was half written may be broken")
        if log.is_file() and log.stat().st_size:
            self._size += log.stat().st_size
            try:
                database = sqlite3.connect(f"{name}?mode=ro", uri=True)
                database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
                return database
            except sqlite3.DatabaseError as error:
                self._note(f"what {log.name} holds is lost: {error}. Copy both files to a folder that can be written")
        return sqlite3.connect(f"{name}?immutable=1", uri=True)

    def _channels(self) -> None:
        # With it, SQLite reads a file that is shorter than its header says.
        self._database.execute("PRAGMA writable_schema=ON")
        self._database.execute("PRAGMA trusted_schema=OFF")
        tables = {row[0] for row in self._database.execute("SELECT name FROM sqlite_master")}
        if not {"topics", "messages"} <= tables:
            raise sqlite3.DatabaseError("it has no table of topics and messages")
        texts: dict[str, tuple[str, str]] = {}
        if "message_definitions" in tables:
            query = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
            texts = {kind: (language, text) for kind, language, text in self._database.execute(query) if text}
        query = "SELECT id, name, type, serialization_format FROM topics"
        for number, topic, kind, encoding in self._database.execute(query):
            language, text = texts.get(kind, ("", ""))
            encoding = str(encoding) or "cdr"  # tools that rewrite bags leave it empty; nothing else is in these files
            self.channels[number] = Channel(str(topic), plain_type(str(kind)), encoding, language, text)

    def _count(self) -> None:
        query = "SELECT topic_id, COUNT(*), MIN(timestamp), MAX(timestamp) FROM messages GROUP BY topic_id"
        rows = [row for row in self._database.execute(query) if row[0] in self.channels]
        if not all(isinstance(value, int) for row in rows for value in row):
            raise sqlite3.DatabaseError("its times are garbled")
        self.counts = Counter({number: count for number, count, _, _ in rows})
        self.start_ns = min((row[2] for row in rows), default=0)
        self.end_ns = max((row[3] for row in rows), default=0)
        indexed = self._database.execute("SELECT 1 FROM sqlite_master WHERE type='index' AND tbl_name='messages'")
        if indexed.fetchone() is None and rows:
            self._rows = self._listed(self._database.execute("SELECT id, topic_id, timestamp FROM messages"))

    def _salvage(self) -> None:
        """Find the rows that can be read whole, data and all."""
        self._note(f"{self.path.name} is damaged; what can be read of it is used. {_FIX}")
        rows = self._rows = self._listed(self._readable_rows())
        self.counts = Counter({int(n): int(c) for n, c in zip(*np.unique(rows[:, 1], return_counts=True), strict=True)})
        self.start_ns, self.end_ns = (int(rows[0, 2]), int(rows[-1, 2])) if len(rows) else (0, 0)

    def _listed(self, rows: Iterable[tuple[int, int, int]]) -> _Rows:
        """Number, topic and log time of rows, 24 bytes each, by log time."""
        if self.path.stat().st_size > WORTH_A_BAR:
            rows = progress(rows, f"count {self.path.name}", unit="msg")
        numbers = array("q")
        for row in rows:
            if row[1] in self.channels and all(isinstance(value, int) for value in row):
                numbers.extend(row)
        table = np.frombuffer(numbers, dtype=np.int64).reshape(-1, 3)
        return table[np.lexsort((table[:, 0], table[:, 2]))]

    def _readable_rows(self) -> Iterator[tuple[int, int, int]]:
        last, lost = -1, False
        while True:
            try:
                query = _ROWS + "id > ? ORDER BY id"
                for number, topic, log_ns, data in self._database.execute(query, (self._size, last)):
                    _check_order(number > last)
                    last = number
                    yield number, topic if data is not None else _NO_TOPIC, log_ns
                break
            except sqlite3.DatabaseError:
                lost = True
            # The error may have come with the row after one that is whole and was not given out.
            row = self._readable_after(last)
            if row is None:
                break
            last = row[0]
            yield row
        if lost:
            self._note(f"{self.path.name}: messages on broken pages are lost. {_FIX}")

    def _readable_after(self, last: int) -> tuple[int, int, int] | None:
        """The first row after broken ones: steps that double, then halves."""
        low, high = last + 1, last + 1
        while (row := self._first_from(high)) is None:
            low, high = high + 1, high + 1 + (high - last)
            if high > _LAST_ID:
                return None
        while low < high:
            middle = (low + high) // 2
            found = self._first_from(middle)
            row, low, high = (row, middle + 1, high) if found is None else (found, low, middle)
        return row

    def _first_from(self, number: int) -> tuple[int, int, int] | None:
        query = _ROWS + "id >= ? ORDER BY id LIMIT 1"
        try:
            row = self._database.execute(query, (self._size, number)).fetchone()
        except sqlite3.DatabaseError:
            return None
        # Garbled numbers lead astray; going back to rows that were read would never end.
        if row is None or row[0] < number:
            return None
        return row[0], row[1] if row[3] is not None else _NO_TOPIC, row[2]

    def messages(self, wanted: Set[int], start_ns: int, end_ns: int) -> Iterator[Raw]:
        """See Part."""
        done = (start_ns, -1)  # log time and number of the last row that was given out
        rows = self._rows
        if rows is None:
            query = _ROWS + "timestamp >= ? AND timestamp < ? AND "
            query += f"topic_id IN ({','.join(str(int(number)) for number in wanted)}) ORDER BY timestamp, id"
            try:
                for number, topic, log_ns, data in self._database.execute(query, (self._size, start_ns, end_ns)):
                    _check_order((log_ns, number) > done)
                    done = (log_ns, number)
                    yield Raw(log_ns, self.channels[topic], data)
                return
            except sqlite3.DatabaseError:
                self._note(f"{self.path.name} is damaged; what can be read of it is used. {_FIX}")
                rows = self._listed(self._readable_rows())
        for begin in range(0, len(rows), 1000):
            for number, topic, log_ns in rows[begin : begin + 1000].tolist():
                if topic in wanted and (log_ns, number) > done and log_ns < end_ns:
                    with contextlib.suppress(sqlite3.DatabaseError):  # what it was listed for is gone meanwhile
                        query = "SELECT data FROM messages WHERE id = ?"
                        for (data,) in self._database.execute(query, (number,)):
                            yield Raw(log_ns, self.channels[topic], data)

    def close(self) -> None:
        """See Part."""
        self._database.close()


def _check_order(grows: bool) -> None:
    """Rows that do not come in their order are of a damaged tree, which may lead round in a circle."""
    if not grows:
        raise sqlite3.DatabaseError("its rows are out of order")
