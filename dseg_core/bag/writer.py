"""Writing rosbag2 folders."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin, Writer

from dseg_core.errors import DsegError
from dseg_core.messages import typestore

_STORAGE = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}


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
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=typestore())
        self._writer.write(self._connections[topic], log_ns, typestore().serialize_cdr(message, kind))

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
