"""Types, headers and stamps."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

EXTRA_DEFINITIONS: dict[str, str] = {
    "foxglove_msgs/msg/CompressedVideo": """\
builtin_interfaces/Time timestamp
string frame_id
uint8[] data
string format
""",
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket": """\
std_msgs/Header header
int32 width
int32 height
string encoding
uint64 pts
uint8 flags
bool is_bigendian
uint8[] data
""",
    "velodyne_msgs/msg/VelodynePacket": """\
builtin_interfaces/Time stamp
uint8[1206] data
""",
    "velodyne_msgs/msg/VelodyneScan": """\
std_msgs/Header header
velodyne_msgs/VelodynePacket[] packets
""",
}
for _package in ("livox_ros_driver2", "livox_ros_driver"):
    EXTRA_DEFINITIONS[f"{_package}/msg/CustomPoint"] = """\
uint32 offset_time
float32 x
float32 y
float32 z
uint8 reflectivity
uint8 tag
uint8 line
"""
    EXTRA_DEFINITIONS[f"{_package}/msg/CustomMsg"] = f"""\
std_msgs/Header header
uint64 timebase
uint32 point_num
uint8 lidar_id
uint8[3] rsvd
{_package}/CustomPoint[] points
"""
"""Types that drivers write and no ROS distribution's core has; type -> its .msg text."""


def register_extra_types(store: Typestore) -> None:
    """Add EXTRA_DEFINITIONS to a typestore, of ROS 1 or 2; types that it knows already stay as they are."""
    from rosbags.typesys import get_types_from_msg

    types = {}
    for name, text in EXTRA_DEFINITIONS.items():
        types.update(get_types_from_msg(text, name))
    store.register({name: fields for name, fields in types.items() if name not in store.fielddefs})


@cache
def typestore() -> Typestore:
    """The message types written; Humble's, which Jazzy reads too, and the extra ones.

    Made when first asked for: the segmenter on the car reads messages without rosbags.
    """
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    register_extra_types(store)
    return store


def message(typename: str, **fields: Any) -> Any:
    """A rosbags message, by its type's name such as `sensor_msgs/msg/Image`."""
    return typestore().types[typename](**fields)


def stamp_ns(msg: Any) -> int:
    """The stamp in a message's header (Foxglove's types have it outside), in nanoseconds; a VideoImage's own."""
    if hasattr(msg, "stamp_ns"):
        return int(msg.stamp_ns)
    stamp = msg.header.stamp if hasattr(msg, "header") else msg.timestamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def header(stamp: int, frame_id: str) -> Any:
    """std_msgs/Header of a stamp in nanoseconds."""
    time = message("builtin_interfaces/msg/Time", sec=int(stamp // 10**9), nanosec=int(stamp % 10**9))
    return message("std_msgs/msg/Header", stamp=time, frame_id=frame_id)
