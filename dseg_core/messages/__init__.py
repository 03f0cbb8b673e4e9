"""Records from ROS messages and back: the one place of dseg_core that knows message fields.

Reading goes by attribute names, so that the messages of rosbags and of rclpy both work. Writing makes rosbags'
messages. Stamps are header stamps in nanoseconds.
"""

from dseg_core.messages.calibrations import camera_from_message, camera_to_message
from dseg_core.messages.clouds import (
    cloud_notes,
    cloud_to_cdr,
    cloud_to_message,
    columns_from_cloud,
    sweep_from_message,
)
from dseg_core.messages.common import (
    EXTRA_DEFINITIONS,
    header,
    message,
    register_extra_types,
    stamp_ns,
    typestore,
)
from dseg_core.messages.encodings import encoding_note
from dseg_core.messages.images import encoded_from_message, encoded_to_message, image_from_message, image_to_message
from dseg_core.messages.livox import LIVOX_TYPES
from dseg_core.messages.transforms import (
    odometry_from_message,
    transform_from_message,
    transform_to_message,
    transforms_to_message,
)
from dseg_core.messages.video import VIDEO_TYPES, VideoDecoder, VideoImage

__all__ = [
    "EXTRA_DEFINITIONS",
    "LIVOX_TYPES",
    "VIDEO_TYPES",
    "VideoDecoder",
    "VideoImage",
    "camera_from_message",
    "camera_to_message",
    "cloud_notes",
    "cloud_to_cdr",
    "cloud_to_message",
    "columns_from_cloud",
    "encoded_from_message",
    "encoded_to_message",
    "encoding_note",
    "header",
    "image_from_message",
    "image_to_message",
    "message",
    "odometry_from_message",
    "register_extra_types",
    "stamp_ns",
    "sweep_from_message",
    "transform_from_message",
    "transform_to_message",
    "transforms_to_message",
    "typestore",
]
