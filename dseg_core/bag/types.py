"""Deserialising, by the definitions that a bag carries, or else by those that are known."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dseg_core.bag.part import ZSTD_MAGIC, Channel, inflate
from dseg_core.errors import DsegError
from dseg_core.messages import register_extra_types, typestore

BROKEN = (
    SerdeError, struct.error, ValueError, TypeError, IndexError, KeyError, AssertionError, OverflowError, MemoryError,
)  # fmt: skip
"""What deserialising a garbled message raises."""

_BROKEN_TYPE = (TypesysError, *BROKEN, RecursionError, SyntaxError, AttributeError)
_IDL_SEPARATOR = "=" * 80 + "\n"


def plain_type(name: str) -> str:
    """A type's name as ROS 2 has it: `sensor_msgs/Image` of ROS 1 becomes `sensor_msgs/msg/Image`."""
    package, slash, rest = name.partition("/")
    return f"{package}/msg/{rest}" if slash and "/" not in rest else name


def decoder(channel: Channel) -> Callable[[bytes], Any]:
    """How the channel's messages are deserialised; what it returns raises one of BROKEN.

    Raises:
        DsegError: The type or the encoding is unknown; `what` is the reason.
    """
    if channel.encoding not in ("cdr", "ros1"):
        raise DsegError(f"encoding {channel.encoding!r} is unknown")
    store, kind = _store(replace(channel, topic="")), channel.type
    if channel.encoding == "ros1":
        return lambda data: store.deserialize_ros1(data, kind)

    def decode(data: bytes) -> Any:
        if data[:4] == ZSTD_MAGIC:  # compressed messages; CDR begins with a zero
            data, problem = inflate(data, "zstd")
            if problem:
                raise ValueError(problem)
        return store.deserialize_cdr(data, kind)

    return decode


@lru_cache(maxsize=256)
def _store(channel: Channel) -> Typestore:
    """A typestore that has the channel's type: one for each definition, as two may define a third type differently."""
    known = typestore() if channel.encoding == "cdr" else _ros1_types()
    if not channel.definition or channel.language not in ("ros2msg", "ros1msg", "ros2idl", "omgidl"):
        if channel.type not in known.types:
            raise DsegError("the bag has no definition of it")
        return known
    try:
        if channel.language.endswith("msg"):
            types = get_types_from_msg(channel.definition, channel.type)
        else:
            types = {}
            for text in channel.definition.split(_IDL_SEPARATOR):
                types.update(get_types_from_idl(text.partition("\n")[2] if text.startswith("IDL: ") else text))
        store = get_typestore(Stores.EMPTY)
        store.register(types)
        # Code is made for the type at its first use: a definition with holes shows now, not at each message.
        store.get_msgdef(channel.type)
    except _BROKEN_TYPE as error:
        reason = " ".join(str(error).split())[:200]
        raise DsegError(f"its definition cannot be used: {type(error).__name__} {reason}") from None
    return store


@cache
def _ros1_types() -> Typestore:
    store = get_typestore(Stores.ROS1_NOETIC)
    register_extra_types(store)
    return store
