"""What /tf and /tf_static say over time, without DDS: callbacks are called as rclpy calls them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS's wheels are not installed")

from ros_world import header

from dseg_core.transforms import TransformError
from dseg_ros import transform_subscriber
from dseg_ros.transform_subscriber import TransformSubscriber

S = 1_000_000_000


class Node:
    """Takes subscriptions, and what is written to its log."""

    def __init__(self) -> None:
        self.callbacks: dict[str, Callable[[Any], None]] = {}
        self.log: list[str] = []

    def create_subscription(self, kind: Any, topic: str, callback: Callable[[Any], None], qos: Any) -> str:
        self.callbacks[topic] = callback
        return topic

    def destroy_subscription(self, topic: str) -> None:
        del self.callbacks[topic]

    def get_logger(self) -> Any:
        return SimpleNamespace(warning=self.log.append)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    """A node where tf2_msgs is installed."""
    monkeypatch.setattr(transform_subscriber, "TFMessage", object)
    return Node()


def tell(node: Node, stamp: int, parent: str, child: str, x: float = 0.0, topic: str = "/tf", w: float = 1.0) -> None:
    moved = SimpleNamespace(
        translation=SimpleNamespace(x=x, y=0.0, z=0.0), rotation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=w)
    )
    transform = SimpleNamespace(header=header(stamp, parent), child_frame_id=child, transform=moved)
    node.callbacks[topic](SimpleNamespace(transforms=[transform]))


def test_frames_of_different_clocks_are_no_jump(node: Node) -> None:
    """As nav2 has it: AMCL dates map -> odom a second ahead, so that it holds until the next one."""
    found: Any = TransformSubscriber(node, None)  # type: ignore[arg-type]
    for step in range(20):
        now = 100 * S + step * S // 10
        tell(node, now + 3 * S // 2, "map", "odom")
        tell(node, now, "odom", "base", x=float(step))
    assert found.jumps == 0
    assert found.tree.lookup("odom", "base", 100 * S + S // 2)[0, 3] == 5


def test_clock_that_is_set_back_begins_anew_but_for_what_is_fixed(node: Node) -> None:
    found: Any = TransformSubscriber(node, None)  # type: ignore[arg-type]
    tell(node, 0, "base", "lidar", x=2.0, topic="/tf_static")
    for stamp in (50 * S, 51 * S, 50 * S + S // 2):  # out of order is no jump
        tell(node, stamp, "odom", "base", x=stamp / S)
    assert found.jumps == 0
    tell(node, 10 * S, "odom", "base", x=10.0)
    tell(node, 11 * S, "odom", "base", x=11.0)
    assert found.jumps == 1
    assert found.tree.lookup("odom", "lidar", 10 * S + S // 2)[0, 3] == 12.5
    with pytest.raises(TransformError, match="only until"):
        found.tree.lookup("odom", "base", 50 * S)


def test_old_motion_is_let_go_of(node: Node) -> None:
    found: Any = TransformSubscriber(node, None, kept_ns=2 * S)  # type: ignore[arg-type]
    for step in range(1000):
        tell(node, S + step * S // 100, "odom", "base")
    with pytest.raises(TransformError, match="only from"):
        found.tree.lookup("odom", "base", S + S // 2)
    found.tree.lookup("odom", "base", 10 * S)


def test_broken_transforms_are_told_once(node: Node) -> None:
    found: Any = TransformSubscriber(node, None)  # type: ignore[arg-type]
    for stamp in range(3):
        tell(node, stamp, "odom", "base", w=0.0)
        tell(node, stamp, "base", "base")
    assert [line.partition(": ")[2].partition(":")[0] for line in node.log] == ["odom -> base", "base -> base"]
    assert sorted(found.broken.values()) == [3, 3]


def test_waits_until_a_transform_comes_and_no_longer_than_that(node: Node) -> None:
    found: Any = TransformSubscriber(node, None)  # type: ignore[arg-type]
    tell(node, 0, "base", "lidar", topic="/tf_static")
    asked = threading.Event()

    def known() -> bool:
        asked.set()
        return bool(found.connects("odom", 5, "lidar", 5))

    assert not found.wait(known, 0.0)
    asked.clear()
    answers: list[bool] = []
    waiter = threading.Thread(target=lambda: answers.append(found.wait(known, 60.0)))
    waiter.start()
    assert asked.wait(60)
    tell(node, 0, "odom", "base")
    tell(node, 10, "odom", "base")
    waiter.join(60)
    assert answers == [True]
    waiter = threading.Thread(target=lambda: answers.append(found.wait(lambda: False, 60.0)))
    waiter.start()
    found.close()
    waiter.join(30)
    assert answers == [True, False], "closing lets go of who waits"
    assert not node.callbacks


def test_calibration_stands_in_where_tf_cannot_be_heard(node: Node, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(transform_subscriber, "TFMessage", None)
    file = tmp_path / "mounting.yaml"
    file.write_text("transforms: [{parent: base, child: lidar, translation: [1, 0, 0], quaternion: [0, 0, 0, 1]}]\n")
    found: Any = TransformSubscriber(node, file)  # type: ignore[arg-type]
    assert (node.log, node.callbacks) == ([], {})
    assert found.connects("base", 5, "lidar", 5)
    TransformSubscriber(node, None)  # type: ignore[arg-type]
    assert "tf2_msgs is not installed" in node.log[0]


def test_what_never_moves_on_tf_is_mounted(node: Node) -> None:
    """As robot_state_publisher does it: no motion, and known at all times; odometry goes above it."""
    found: Any = TransformSubscriber(node, None)  # type: ignore[arg-type]
    for stamp in (5 * S, 6 * S):
        tell(node, stamp, "footprint", "base", x=1.0)
        tell(node, stamp, "base", "lidar", x=2.0)
    assert found.mounted == ("base", "lidar")
    assert found.tree.fixed_frame("lidar") is None
    assert found.tree.lookup("footprint", "lidar", 100 * S)[0, 3] == 3
    assert found.tree.root("lidar") == "footprint"


def test_odometry_of_a_vehicle_that_stands_is_no_mount(node: Node) -> None:
    found: Any = TransformSubscriber(node, None)  # type: ignore[arg-type]
    for stamp in (5 * S, 6 * S):
        tell(node, stamp, "odom", "base", x=1.0)
    assert found.mounted == ()
    assert found.tree.fixed_frame("base") == "odom"


def test_mount_that_moves_after_all_is_where_it_was_until_then(node: Node) -> None:
    found: Any = TransformSubscriber(node, None)  # type: ignore[arg-type]
    for stamp in (5 * S, 6 * S, 7 * S):
        tell(node, stamp, "base", "mast", x=1.0)
    tell(node, 8 * S, "base", "mast", x=3.0)
    assert found.mounted == ()
    assert found.tree.fixed_frame("mast") == "base"
    at = [found.tree.lookup("base", "mast", round(t * S))[0, 3] for t in (5.0, 6.5, 7.0, 7.5, 8.0)]
    assert at == [1, 1, 1, 2, 3]
    tell(node, 9 * S, "base", "mast", x=3.0)
    assert found.tree.lookup("base", "mast", 9 * S)[0, 3] == 3
    with pytest.raises(TransformError, match="only until"):
        found.tree.lookup("base", "mast", 10 * S)
    # A clock that is set back: what moves is forgotten, and found again.
    tell(node, S, "base", "mast", x=4.0)
    assert found.tree.lookup("base", "mast", S)[0, 3] == 4


def test_mounts_outlive_a_clock_that_is_set_back_and_what_a_file_mounts(node: Node, tmp_path: Path) -> None:
    file = tmp_path / "mounting.yaml"
    file.write_text("transforms: [{parent: base, child: lidar, translation: [7, 0, 0], quaternion: [0, 0, 0, 1]}]\n")
    found: Any = TransformSubscriber(node, file)  # type: ignore[arg-type]
    for stamp in (50 * S, 51 * S):
        tell(node, stamp, "odom", "base", x=0.0)
        tell(node, stamp, "base", "camera", x=1.0)
        tell(node, stamp, "base", "lidar", x=2.0)
    tell(node, 10 * S, "odom", "base", x=0.0)
    assert found.jumps == 1 and found.mounted == ("camera",)
    assert found.tree.lookup("camera", "lidar", 10 * S)[0, 3] == 6
