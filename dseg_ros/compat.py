"""What ROS distributions call differently, and packages that not every machine has: each is imported here, once."""

from __future__ import annotations

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

try:
    from vision_msgs.msg import LabelInfo, VisionClass
except ImportError:
    LabelInfo = VisionClass = None

try:
    from tf2_msgs.msg import TFMessage
except ImportError:
    TFMessage = None

__all__ = ["LabelInfo", "SubscriptionEventCallbacks", "TFMessage", "VisionClass", "missing"]


def missing(package: str, without: str) -> str:
    """The log line about a message package that is not installed. `without`: what the node does without it."""
    apt = package.replace("_", "-")
    return f"{package} is not installed, so {without}; it comes with ROS: apt install ros-$ROS_DISTRO-{apt}"
