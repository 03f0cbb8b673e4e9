"""Odometry into the transforms, where /tf has nothing that moves the vehicle; as from a bag."""

from __future__ import annotations

import time
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile

from dseg_core.messages import odometry_from_message, stamp_ns
from dseg_core.transforms import TransformError
from dseg_core.transforms_from_bag import ODOMETRY_TYPE
from dseg_ros.topic_watch import TopicWatch
from dseg_ros.transform_subscriber import TransformSubscriber

_DEPTH = 100


class OdometrySubscriber:
    """Listens from its making to `close`. `left_out`: poses that could not be used. `watch`: what happens on the topic.

    Args:
        node: Whose subscription this is.
        topic: Of nav_msgs/Odometry.
        transforms: Where the vehicle's motion goes.
        qos: Of the other sensors; more poses wait, as they are small and every one counts.
    """

    def __init__(self, node: Node, topic: str, transforms: TransformSubscriber, qos: QoSProfile) -> None:
        self._node, self._topic, self._transforms = node, topic, transforms
        self._vehicle = self._own = self._hung = ""
        self.left_out = 0
        many = QoSProfile(depth=_DEPTH, reliability=qos.reliability)
        self.watch = TopicWatch(node, topic, ODOMETRY_TYPE, many)
        callbacks = self.watch.callbacks()
        self._subscription = node.create_subscription(Odometry, topic, self._take, many, event_callbacks=callbacks)

    def close(self) -> None:
        """Stop listening."""
        self._node.destroy_subscription(self._subscription)

    def _take(self, message: Any) -> None:
        """Hang the vehicle's topmost frame below the odometry's, so that nothing that /tf has hung up is cut off."""
        tree = self._transforms.tree
        self.watch.saw(time.monotonic(), stamp_ns(message))
        try:
            parent, child, T_parent_vehicle = odometry_from_message(message)
            self._vehicle = self._vehicle or child
            if not child or child != self._vehicle:
                raise TransformError(f"the pose of {child or 'no frame'}, not of {self._vehicle or 'the vehicle'}")
            above = tree.fixed_frame(child)
            if above is None:  # as long as nothing moves the vehicle, and again when a clock was set back
                self._own, self._hung = parent.lstrip("/"), tree.root(child)
            elif above != self._own:
                return  # /tf moves it
            T_vehicle_hung = tree.lookup(child, self._hung, 0)
            self._transforms.add(parent, self._hung, T_parent_vehicle @ T_vehicle_hung, stamp_ns(message))
        except TransformError as error:
            if not self.left_out:
                self._node.get_logger().warning(f"{self._topic}: pose left out: {error}")
            self.left_out += 1
