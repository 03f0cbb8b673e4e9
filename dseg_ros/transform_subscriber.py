"""/tf and /tf_static into the core's TransformTree, live: one place where the nodes listen to transforms."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from dseg_core.messages import stamp_ns, transform_from_message
from dseg_core.transforms import Matrix, TransformError, TransformTree, same, stands_still
from dseg_ros.compat import TFMessage, missing
from dseg_ros.reasons import Reasons

_KEPT_NS = 30_000_000_000
_JUMP_NS = 1_000_000_000  # a stamp that is so far back is of a clock that was set back, as by a bag played in a loop
_TIDY = 500  # messages between two times that old transforms are let go of


@dataclass
class _Mount:
    """What /tf has said of a frame again and again: its parent, T_parent_child, and the first and the latest stamp."""

    parent: str
    T: Matrix
    first_ns: int
    last_ns: int


class TransformSubscriber:
    """Listens from its making to `close`. `tree` may be asked from any thread.

    What is the same in every message of /tf is taken as mounted as long as it is, as `TransformTree.settle` does with
    a bag's: mounts that are published again and again hold at all times, and are no motion. `mounted` are their frames.

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
        self._mounts: dict[str, _Mount] = {}  # likewise
        self._moved: set[str] = set()  # child frames that are no mounts
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
        """Add a transform as it is: one with a stamp moves. Raises TransformError."""
        with self._changed:
            if stamp is not None:
                self._keep_up(child.lstrip("/"), stamp)
            self.tree.add(parent, child, T_parent_child, stamp)
            self._changed.notify_all()

    @property
    def mounted(self) -> tuple[str, ...]:
        """Frames that have never moved on /tf so far."""
        return tuple(sorted(self._mounts.copy()))

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
                    parent, child, T = transform_from_message(transform)
                    stamp = None if static else stamp_ns(transform)
                    if stamp is None or not self._is_mount(parent.lstrip("/"), child.lstrip("/"), T, stamp):
                        self.add(parent, child, T, stamp)
                except TransformError as error:
                    name = f"{transform.header.frame_id} -> {transform.child_frame_id}: {error.what}"
                    if self.broken.add(name):
                        self._node.get_logger().warning(f"transform left out: {name}")

    def _is_mount(self, parent: str, child: str, T: Matrix, stamp: int) -> bool:
        """Whether /tf has said nothing else of a frame so far; it is in the tree then. Raises TransformError."""
        if child in self._moved or child in self.tree.given:
            return False
        mount = self._mounts.get(child)
        if mount is None and not stands_still(parent):
            self.add(parent, child, T, None)
            self._mounts[child] = _Mount(parent, T, stamp, stamp)
            return True
        if mount is not None and mount.parent == parent and same(mount.T, T):
            mount.last_ns = stamp  # that of another day, where a clock was set back
            mount.first_ns = min(mount.first_ns, stamp)
            return True
        self._moved.add(child)
        if mount is not None:
            del self._mounts[child]
            for when in (mount.first_ns, mount.last_ns):  # until now it has stood there
                self.tree.add(mount.parent, child, mount.T, when)
        return False

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
