"""Rosbags of ROS 1 and 2: reading, writing, names."""

from dseg_core.bag.names import (
    FRAMES_MARK,
    check_source,
    drive_name,
    find_bags,
    is_bag_file,
    is_bag_folder,
)
from dseg_core.bag.reader import BagMessage, BagReader, Topic
from dseg_core.bag.writer import BagWriter

__all__ = [
    "FRAMES_MARK",
    "BagMessage",
    "BagReader",
    "BagWriter",
    "Topic",
    "check_source",
    "drive_name",
    "find_bags",
    "is_bag_file",
    "is_bag_folder",
]
