"""Types, headers and stamps."""

from __future__ import annotations

from typing import Any

from rosbags.typesys import Stores, get_typestore

TYPESTORE = get_typestore(Stores.ROS2_HUMBLE)
"""The message types written; Humble's, which Jazzy reads too."""


def message(typename: str, **fields: Any) -> Any:
    """A rosbags message, by its type's name such as `sensor_msgs/msg/Image`."""
    return TYPESTORE.types[typename](**fields)


def stamp_ns(msg: Any) -> int:
    """The header stamp of a message, in nanoseconds."""
    return int(msg.header.stamp.sec) * 1_000_000_000 + int(msg.header.stamp.nanosec)


def header(stamp: int, frame_id: str) -> Any:
    """std_msgs/Header of a stamp in nanoseconds."""
    time = message("builtin_interfaces/msg/Time", sec=int(stamp // 10**9), nanosec=int(stamp % 10**9))
    return message("std_msgs/msg/Header", stamp=time, frame_id=frame_id)
