"""Types beyond ROS's core: serialised to the bytes that their definitions ask for, and back."""

import struct

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from dseg_core.messages import EXTRA_DEFINITIONS, message, register_extra_types, typestore


@pytest.mark.parametrize("store", [Stores.ROS1_NOETIC, Stores.ROS2_FOXY, Stores.ROS2_JAZZY])
def test_every_extra_type_is_usable_in_every_store(store: Stores) -> None:
    types = get_typestore(store)
    register_extra_types(types)
    register_extra_types(types)  # again changes nothing
    assert set(EXTRA_DEFINITIONS) <= set(types.types)
    assert types.fielddefs["std_msgs/msg/Header"] == get_typestore(store).fielddefs["std_msgs/msg/Header"]


def test_compressed_video_has_the_bytes_of_its_definition() -> None:
    stamp = message("builtin_interfaces/msg/Time", sec=7, nanosec=9)
    kind = "foxglove_msgs/msg/CompressedVideo"
    video = message(kind, timestamp=stamp, frame_id="cam", data=np.array([1, 2, 3], np.uint8), format="h264")
    raw = bytes(typestore().serialize_cdr(video, kind))
    body = struct.pack("<iI", 7, 9) + struct.pack("<I", 4) + b"cam\0" + struct.pack("<I", 3) + b"\1\2\3"
    assert raw == b"\0\1\0\0" + body + b"\0" + struct.pack("<I", 5) + b"h264\0"
    assert typestore().deserialize_cdr(raw, kind).format == "h264"


def test_a_velodyne_packet_is_1206_bytes_after_its_stamp_in_ros_1() -> None:
    types = get_typestore(Stores.ROS1_NOETIC)
    register_extra_types(types)
    raw = struct.pack("<II", 3, 4) + bytes(range(201)) * 6
    packet = types.deserialize_ros1(raw, "velodyne_msgs/msg/VelodynePacket")
    assert (packet.stamp.sec, packet.stamp.nanosec, bytes(packet.data)) == (3, 4, raw[8:])
