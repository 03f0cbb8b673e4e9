"""Writing rosbag2 folders."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from mcap.writer import CompressionType
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer

from dseg_core.bag.mcap_writer import LATCHED, McapWriter
from dseg_core.errors import DsegError
from dseg_core.messages import typestore
from dseg_core.progress import of_file
from dseg_core.rosbag2_metadata import write_metadata

_CHUNK = 1 << 20  # bytes
_ANY = QosTime(0, 0)
_LATCHED_QOS = Qos(
    QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL,
    _ANY, _ANY, QosLiveliness.AUTOMATIC, _ANY, False,
)  # fmt: skip


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
        folder = self._outside / path.name
        try:
            with of_file(path):
                self._outside.mkdir(parents=True)
                self._storage: _Storage = _Sqlite3(folder) if storage == "sqlite3" else _Mcap(folder)
        except OSError:
            shutil.rmtree(self._outside, ignore_errors=True)
            raise
        self._kinds: dict[str, str] = {}

    def write(self, topic: str, message: Any, log_ns: int) -> None:
        """Append a rosbags message; its type is the topic's from the first message on."""
        kind = self._kinds.setdefault(topic, message.__msgtype__)
        with of_file(self.path):
            self._storage.write(topic, kind, typestore().serialize_cdr(message, kind), log_ns)

    def close(self) -> None:
        """Finish the bag and give it its name; where that fails, nothing is left."""
        try:
            with of_file(self.path):
                self._storage.close()
                (self._outside / self.path.name).replace(self.path)
                self._outside.rmdir()
        except OSError:
            self._abandon()
            raise

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._abandon()

    def _abandon(self) -> None:
        with suppress(OSError):  # what a full disk did not take before it does not take now either
            self._storage.abort()
        shutil.rmtree(self._outside, ignore_errors=True)


class _Storage(Protocol):
    def write(self, topic: str, kind: str, data: bytes | memoryview, log_ns: int) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


class _Mcap:
    """A folder of one MCAP file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._file = (folder / f"{folder.name}_0.mcap").open("wb")
        self._writer = McapWriter(self._file, _CHUNK, CompressionType.NONE)

    def write(self, topic: str, kind: str, data: bytes | memoryview, log_ns: int) -> None:
        self._writer.write(topic, kind, data, log_ns, log_ns)

    def close(self) -> None:
        self._writer.finish()
        self._file.close()
        write_metadata(self._folder)

    def abort(self) -> None:
        self._file.close()


class _Sqlite3:
    """A folder of one SQLite file, by rosbags."""

    def __init__(self, folder: Path) -> None:
        self._writer = Writer(folder, version=8, storage_plugin=StoragePlugin.SQLITE3)
        with _as_of_system():
            self._writer.open()
        self._connections: dict[str, Connection] = {}
        self._is_open = True

    def write(self, topic: str, kind: str, data: bytes | memoryview, log_ns: int) -> None:
        with _as_of_system():
            if topic not in self._connections:
                offered = [_LATCHED_QOS] if topic in LATCHED else []
                self._connections[topic] = self._writer.add_connection(
                    topic, kind, typestore=typestore(), offered_qos_profiles=offered
                )
            self._writer.write(self._connections[topic], log_ns, data)

    def close(self) -> None:
        self._is_open = False  # rosbags takes no second call, not even where the first one failed
        with _as_of_system():
            self._writer.close()

    def abort(self) -> None:
        if self._is_open:
            self.close()


@contextmanager
def _as_of_system() -> Iterator[None]:
    """SQLite has errors of its own for a disk that is full or gone."""
    try:
        yield
    except sqlite3.OperationalError as error:
        full = "full" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, os.strerror(errno.ENOSPC) if full else str(error)) from None
