"""Sensors' messages to the pairing: message_filters' plumbing in front of dseg_core's state machine.

message_filters' own synchronizers stay out: they drop without telling, and pair differently from run to run.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Container, Mapping
from typing import Any

import message_filters
from rclpy.node import Node
from rclpy.qos import QoSProfile

from dseg_core.errors import DsegError
from dseg_ros.topic_watch import TopicWatch

Offer = Callable[[str, str, bytes], int]


class SensorSubscribers:
    """Subscribes sensors from its making to `close`. `watches`: what happens on their topics, by sensor.

    Messages stay serialised: making Python objects of those that are no pair in the end would cost the most.

    Args:
        node: Whose subscriptions these are.
        topics: Topic and type of each sensor.
        qos: Of all of them.
        offer: Takes sensor, type and CDR of every message, and returns its header stamp [ns].

    Raises:
        DsegError: A type's package is not installed.
    """

    def __init__(self, node: Node, topics: Mapping[str, tuple[str, str]], qos: QoSProfile, offer: Offer) -> None:
        self._node, self._qos, self._offer = node, qos, offer
        self.watches: dict[str, TopicWatch] = {}
        self._filters: dict[str, message_filters.Subscriber] = {}
        self.add(topics)

    def add(self, topics: Mapping[str, tuple[str, str]]) -> None:
        """Subscribe those sensors that are not subscribed yet. Raises DsegError."""
        topics = {sensor: topic for sensor, topic in topics.items() if sensor not in self.watches}
        types = {sensor: message_type(kind) for sensor, (_, kind) in topics.items()}
        for sensor, (topic, kind) in topics.items():
            watch = self.watches[sensor] = TopicWatch(self._node, topic, kind, self._qos)
            subscriber = message_filters.Subscriber(
                self._node, types[sensor], topic, qos_profile=self._qos, raw=True, event_callbacks=watch.callbacks()
            )
            subscriber.registerCallback(self._take, sensor)
            self._filters[sensor] = subscriber

    def keep(self, sensors: Container[str]) -> None:
        """Stop listening to all others."""
        for sensor in [sensor for sensor in self.watches if sensor not in sensors]:
            self._node.destroy_subscription(self._filters.pop(sensor).sub)
            del self.watches[sensor]

    def close(self) -> None:
        """Stop listening."""
        self.keep(())

    def _take(self, data: bytes, sensor: str) -> None:
        watch = self.watches[sensor]
        stamp = self._offer(sensor, watch.kind, data)
        if stamp:
            watch.saw(time.monotonic(), stamp)


def message_type(kind: str) -> Any:
    """The Python class of a message type such as `sensor_msgs/msg/Image`. Raises DsegError."""
    package, _, name = kind.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError):
        apt = package.replace("_", "-")
        raise DsegError(f"{kind} is not installed", fix=f"apt install ros-$ROS_DISTRO-{apt}") from None
