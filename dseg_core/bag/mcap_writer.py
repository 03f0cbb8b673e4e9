"""MCAP files as rosbag2's own plugin writes them, for bags and for folders of frames alike."""

from __future__ import annotations

from functools import cache
from typing import BinaryIO

from mcap.writer import CompressionType, Writer

from dseg_core.messages import typestore

LATCHED = ("/tf_static",)
"""Topics whose last messages are kept for who comes later: tf2 asks for that, and hears nothing of others."""

_LATCHED_QOS = """\
- history: 1
  depth: 10
  reliability: 1
  durability: 1
  deadline: {sec: 0, nsec: 0}
  lifespan: {sec: 0, nsec: 0}
  liveliness: 1
  liveliness_lease_duration: {sec: 0, nsec: 0}
  avoid_ros_namespace_conventions: false
"""  # rmw's numbers, as metadata.yaml has them up to version 8; later readers take them, too


class McapWriter:
    """Writes ROS 2 messages; each topic's channel has the hash of its type (REP-2016), and /tf_static its QoS.

    Args:
        file: Where to; it is the caller's to close.
        chunk_size: Bytes of messages after which a chunk is closed.
        compression: Of the chunks.
    """

    def __init__(self, file: BinaryIO, chunk_size: int, compression: CompressionType) -> None:
        self._writer = Writer(file, chunk_size=chunk_size, compression=compression)
        self._writer.start(profile="ros2", library="dseg")
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}

    def write(
        self, topic: str, kind: str, data: bytes | memoryview, log_ns: int, stamp_ns: int, sequence: int = 0
    ) -> None:
        """Append a message.

        Args:
            topic: Its topic.
            kind: Its type, such as `sensor_msgs/msg/Image`; the topic's from the first message on.
            data: Its CDR.
            log_ns: When it was received.
            stamp_ns: When it was published.
            sequence: Its number.
        """
        if kind not in self._schemas:
            self._schemas[kind] = self._writer.register_schema(kind, "ros2msg", definition(kind))
        if topic not in self._channels:
            metadata = channel_metadata(topic, kind)
            self._channels[topic] = self._writer.register_channel(topic, "cdr", self._schemas[kind], metadata)
        self._writer.add_message(self._channels[topic], log_ns, data, stamp_ns, sequence)

    def flush(self) -> None:
        """Close the chunk."""
        self._writer.flush()

    def finish(self) -> None:
        """Write the index."""
        self._writer.finish()


def definition(kind: str) -> bytes:
    """A type's text as MCAP's schemas hold it, of encoding `ros2msg`."""
    return typestore().generate_msgdef(kind, ros_version=2)[0].encode()


def channel_metadata(topic: str, kind: str) -> dict[str, str]:
    """What rosbag2 keeps about a topic in its channel: QoS and the hash of its type."""
    return {"offered_qos_profiles": _LATCHED_QOS if topic in LATCHED else "", "topic_type_hash": type_hash(kind)}


@cache
def type_hash(kind: str) -> str:
    """`RIHS01_` and the hash of a type's definition, as it is written: Humble's, even where Jazzy has another."""
    return typestore().hash_rihs01(kind)
