"""/tf and /tf_static into the core's TransformTree, live: one place where the nodes listen to transforms."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from dseg_core.messages import stamp_ns, transform_from_message
from dseg_core.transforms import Matrix, TransformError, TransformTree
from dseg_ros.compat import TFMessage, missing
from dseg_ros.reasons import Reasons

_KEPT_NS = 30_000_000_000
_JUMP_NS = 1_000_000_000  # a stamp that is so far back is of a clock that was set back, as by a bag played in a loop
_TIDY = 500  # messages between two times that old transforms are let go of


class TransformSubscriber:
    """Listens from its making to `close`. `tree` may be asked from any thread.

    Args:
        node: Whose subscriptions these are.
        calibration: A file with transforms. What is heard of the same frames does not count then.
        kept_ns: How long transforms that move are kept.

    Raises:
        DsegError: The calibration file cannot be read.
    """

    def __init__(self, node: Node, calibration: Path | None, kept_ns: int = _KEPT_NS) -> None:
        self.tree = TransformTree() if calibration is None else TransformTree.from_calibration(calibration)
        self.broken = Reasons()
        self.jumps = 0
        self._node, self._kept_ns = node, kept_ns
        self._latest_ns: dict[str, int] = {}  # by child frame
        self._heard, self._changed = 0, threading.Condition()
        self._subscriptions: list[Any] = []
        if TFMessage is None:
            if calibration is None:
                node.get_logger().warning(missing("tf2_msgs", "transforms come from the parameter calibration only"))
            return
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._listen("/tf_static", latched, lambda message: self._add(message, static=True))
        self._listen("/tf", QoSProfile(depth=100), lambda message: self._add(message, static=False))

    def wait(self, known: Callable[[], bool], timeout: float) -> bool:
        """Wait at most so many seconds for transforms until something is known; in a thread that does not spin."""
        ends = time.monotonic() + timeout
        with self._changed:
            while not known():
                left = ends - time.monotonic()
                if left <= 0 or not self._subscriptions:
                    return False
                self._changed.wait(left)
        return True

    def connects(self, target: str, target_ns: int, source: str, source_ns: int) -> bool:
        """Whether T_target_source is known with all motion between the two times."""
        fixed = self.tree.fixed_frame(source)
        try:
            if fixed is None:
                self.tree.lookup(target, source, source_ns)
            else:
                self.tree.lookup_moving(target, target_ns, source, source_ns, fixed)
        except TransformError:
            return False
        return True

    def add(self, parent: str, child: str, T_parent_child: Matrix, stamp: int | None) -> None:
        """Add a transform that was heard. Raises TransformError."""
        with self._changed:
            if stamp is not None:
                self._keep_up(child.lstrip("/"), stamp)
            self.tree.add(parent, child, T_parent_child, stamp)
            self._changed.notify_all()

    def close(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        with self._changed:
            self._subscriptions = []
            self._changed.notify_all()

    def _listen(self, topic: str, qos: QoSProfile, callback: Callable[[Any], None]) -> None:
        self._subscriptions.append(self._node.create_subscription(TFMessage, topic, callback, qos))

    def _add(self, message: Any, static: bool) -> None:
        with self._changed:
            for transform in message.transforms:
                try:
                    self.add(*transform_from_message(transform), None if static else stamp_ns(transform))
                except TransformError as error:
                    name = f"{transform.header.frame_id} -> {transform.child_frame_id}: {error.what}"
                    if self.broken.add(name):
                        self._node.get_logger().warning(f"transform left out: {name}")

    def _keep_up(self, child: str, stamp: int) -> None:
        """Each frame by its own stamps: AMCL dates map -> odom a second ahead, and odometry may come late."""
        if self._latest_ns.get(child, stamp) - stamp > _JUMP_NS:
            self.jumps += 1
            self.tree.forget_motion()
            self._latest_ns = {}
        self._latest_ns[child] = max(self._latest_ns.get(child, stamp), stamp)
        self._heard += 1
        if self._heard % _TIDY == 0:
            self.tree.forget(max(self._latest_ns.values()) - self._kept_ns)
