"""Serialised messages that wait for their turn, and the memory that they may take."""

from __future__ import annotations

import struct
import threading
from typing import Any

from dseg_core.bag.types import BROKEN
from dseg_core.errors import DsegError
from dseg_core.messages import typestore

QUEUE_FULL = "queue full"
"""Why a message is dropped that there is no room for."""


class Memory:
    """Counts the bytes of the messages that live, in any thread.

    Args:
        limit: Bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Take so many bytes; False, and nothing is taken, where they are not left."""
        with self._lock:
            if self.used + size > self.limit:
                return False
            self.used += size
        return True

    def give_back(self, size: int) -> None:
        """So many bytes are free again."""
        with self._lock:
            self.used -= size


class LiveMessage:
    """A serialised message whose type begins with a header. Its memory is free again when nothing refers to it.

    `stamp_ns` and `frame_id`: the header's.

    Args:
        kind: Its type, such as `sensor_msgs/msg/Image`.
        data: Its CDR.
        header: Its stamp [ns] and frame_id, see `header_of`.
        memory: What it lives in; must have been taken for it.
    """

    __slots__ = ("_memory", "data", "frame_id", "kind", "stamp_ns")

    def __init__(self, kind: str, data: bytes, header: tuple[int, str], memory: Memory) -> None:
        self.kind, self.data, self._memory = kind, data, memory
        self.stamp_ns, self.frame_id = header

    def read(self) -> Any:
        """The message itself, its arrays views of `data`. Raises DsegError."""
        try:
            return typestore().deserialize_cdr(self.data, self.kind)
        except BROKEN:
            raise DsegError("cannot be deserialised") from None

    def __del__(self) -> None:
        """Nothing refers to it any more."""
        self._memory.give_back(len(self.data))


def header_of(data: bytes) -> tuple[int, str]:
    """Stamp [ns] and frame_id of a serialised message that begins with a std_msgs/Header. Raises DsegError."""
    try:
        order = "<" if data[1] & 1 else ">"  # the encapsulation's last bit tells the order of bytes
        seconds, nanoseconds, length = struct.unpack_from(f"{order}iII", data, 4)
        text = data[16 : 16 + length]
        if len(text) != length:
            raise DsegError("cannot be deserialised")
        return seconds * 1_000_000_000 + nanoseconds, text.rstrip(b"\0").decode()
    except (IndexError, struct.error, UnicodeDecodeError):
        raise DsegError("cannot be deserialised") from None
