"""Mounting and motion as a bag and a calibration file tell them: whose word counts, and what is left out is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bags
import numpy as np
import pytest
from bags import MS, START_NS, write_bag

from dseg_core import messages as ros
from dseg_core.bag import BagReader, BagWriter
from dseg_core.frames_from_bag import record
from dseg_core.stage_options import RecordOptions
from dseg_core.store import FrameStore
from dseg_core.transforms import TransformTree, matrix_from_pose
from dseg_core.transforms_from_bag import transforms_from_bag

OPTICAL = ["parent: lidar, child: camera_optical", "quaternion: [-0.5, 0.5, -0.5, 0.5]"]


def odometry(ms: int, x: float, child: str = "vehicle", w: float = 1.0, parent: str = "odom") -> Any:
    """nav_msgs/Odometry of a vehicle x metres ahead, turned by 90 deg to the left."""
    made = ros.message
    pose = made(
        "geometry_msgs/msg/Pose",
        position=made("geometry_msgs/msg/Point", x=x, y=0.0, z=0.0),
        orientation=made("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=w * 0.5**0.5, w=w * 0.5**0.5),
    )
    zero = made("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
    return made(
        "nav_msgs/msg/Odometry",
        header=ros.header(START_NS + ms * MS, parent),
        child_frame_id=child,
        pose=made("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36)),
        twist=made(
            "geometry_msgs/msg/TwistWithCovariance",
            twist=made("geometry_msgs/msg/Twist", linear=zero, angular=zero),
            covariance=np.zeros(36),
        ),
    )


def vehicle_below_the_root() -> Any:
    """base_link -> vehicle 1 m up: the odometry's child is not the topmost frame."""
    up = matrix_from_pose((0, 0, 1), (0, 0, 0, 1))
    return ros.transforms_to_message([(START_NS, "base_link", "vehicle", up)])


def read(path: Path, *rows: tuple[str, Any, int], calibration: Path | None = None) -> tuple[TransformTree, list[str]]:
    with BagReader(write_bag(path, more=rows)) as reader:
        return transforms_from_bag(reader, calibration)


def poses(topic: str, *messages: Any) -> list[tuple[str, Any, int]]:
    return [(topic, message, ros.stamp_ns(message)) for message in messages]


def test_odometry_moves_what_is_mounted_on_the_vehicle(tmp_path: Path) -> None:
    mounted = ("/tf_static", vehicle_below_the_root(), START_NS)
    tree, notes = read(tmp_path / "bag", mounted, *poses("/odom", odometry(0, 5.0), odometry(100, 7.0)))
    assert tree.fixed_frame("lidar") == "odom" and not notes
    T = tree.lookup("odom", "lidar", START_NS + 50 * MS)
    np.testing.assert_allclose(T @ [1, 0, 0, 1], [6, 1, -1, 1], atol=1e-9)  # 1 m ahead is to the left, 1 m below


def test_a_pose_that_is_none_costs_only_itself(tmp_path: Path) -> None:
    """Odometry that has not begun to work publishes zeros."""
    begun = poses("/odom", odometry(0, 0.0, w=0.0), odometry(10, 5.0), odometry(20, 6.0))
    tree, notes = read(tmp_path / "bag", ("/tf_static", vehicle_below_the_root(), START_NS), *begun)
    assert tree.lookup("odom", "lidar", START_NS + 20 * MS)[0, 3] == pytest.approx(6)
    (note,) = notes
    assert note.startswith("/odom: 1 pose left out: the quaternion")


@pytest.mark.parametrize("parent", ["odom", "map"])
def test_poses_of_two_sources_are_not_mixed(parent: str, tmp_path: Path) -> None:
    wheels = poses("/wheels", *(odometry(t, 5.0) for t in range(0, 100, 10)))
    satellites = poses("/gps", *(odometry(t, 99.0, parent=parent) for t in range(5, 100, 20)))
    tree, notes = read(tmp_path / "bag", ("/tf_static", vehicle_below_the_root(), START_NS), *wheels, *satellites)
    assert [tree.lookup("odom", "vehicle", START_NS + t * MS)[0, 3] for t in (0, 4, 5, 90)] == pytest.approx([5] * 4)
    assert notes == ["/gps is left out: /wheels has the odometry"]


def test_odometry_of_no_frame_is_told(tmp_path: Path) -> None:
    tree, notes = read(tmp_path / "bag", *poses("/odom", odometry(0, 5.0, child="")))
    assert tree.fixed_frame("lidar") is None
    assert notes == ["/odom is left out: its poses have no child_frame_id"]


def test_a_calibration_file_counts_more_than_the_bag(tmp_path: Path) -> None:
    """It is given by hand to mend what the bag has wrong, as `dseg inspect` proposes."""
    file = tmp_path / "mended.yaml"
    file.write_text(f"transforms:\n- {{{', '.join([*OPTICAL, 'translation: [9, 8, 7]'])}}}\n")
    tree, notes = read(tmp_path / "bag", calibration=file)
    mended = bags.T_LIDAR_CAMERA.copy()
    mended[:3, 3] = 9, 8, 7
    np.testing.assert_allclose(tree.lookup("lidar", "camera_optical", 0), mended, atol=1e-9)
    assert tree.root("lidar") == "base_link", "what the file does not name is the bag's"
    assert notes == ["/tf_static: lidar -> camera_optical: 1 transform left out: mended.yaml has it"]


def mounted_by_tf(times: range, moving: str = "") -> list[tuple[str, Any, int]]:
    """base_link -> lidar -> camera_optical, published again and again; `moving`: the frame that drives below it."""
    rows = []
    for t in times:
        stamp = START_NS + t * MS
        edges = [(stamp, "base_link", "lidar", np.eye(4)), (stamp, "lidar", "camera_optical", bags.T_LIDAR_CAMERA)]
        if moving:
            edges.append((stamp, moving, "base_link", matrix_from_pose((0.01 * t, 0, 0), (0, 0, 0, 1))))
        rows.append(("/tf", ros.transforms_to_message(edges), stamp))
    return rows


def test_mounts_on_tf_hold_at_all_times_and_are_no_motion(tmp_path: Path) -> None:
    """As ROS 1's static_transform_publisher has them: ten times a second, first after the first sweep."""
    with BagReader(write_bag(tmp_path / "bag", leave_out=["/tf_static"])) as reader:
        assert transforms_from_bag(reader, None)[0].frames == ()
    rows = [*bags.bag_rows(leave_out=["/tf_static"]), *mounted_by_tf(range(50, 190, 100))]
    with BagWriter(tmp_path / "late") as writer:
        for row in sorted(rows, key=lambda row: row[2]):
            writer.write(*row)
    summary = record([tmp_path / "late"], tmp_path / "frames", RecordOptions())
    assert "lidar, camera_optical: never move on /tf, so they are taken as mounted" in summary.text
    (drive,) = summary.results["drives"].values()
    assert drive["motion"] == {"compensated": 0, "not_compensated": {"no odometry": 3}}
    for frame in FrameStore(tmp_path / "frames").frames():
        np.testing.assert_allclose(np.linalg.inv(frame.views[0].T_image_sweep), bags.T_LIDAR_CAMERA, atol=1e-9)


def test_mounts_on_tf_below_a_vehicle_that_drives(tmp_path: Path) -> None:
    rows = mounted_by_tf(range(-50, 400, 100), "odom")
    tree, _ = read(tmp_path / "bag", *rows)
    assert tree.fixed_frame("lidar") == "odom"
    assert tree.lookup("odom", "lidar", START_NS)[0, 3] == pytest.approx(0)
    np.testing.assert_allclose(tree.lookup("lidar", "camera_optical", 0), bags.T_LIDAR_CAMERA, atol=1e-9)


def test_a_vehicle_that_stands_has_odometry_and_an_arm_that_moves_stays_an_arm() -> None:
    tree, apart = TransformTree(), matrix_from_pose((0, 0, 1e-3), (0, 0, 0, 1))
    for t in range(3):
        tree.add("robot/odom", "base_link", np.eye(4), t)
        tree.add("base_link", "arm", apart if t == 1 else np.eye(4), t)
        tree.add("arm", "hand", apart, t)
    assert tree.settle() == ("hand",)
    assert tree.fixed_frame("base_link") == "robot/odom" and tree.fixed_frame("hand") == "robot/odom"
    assert tree.lookup("base_link", "arm", 1)[2, 3] == 1e-3
