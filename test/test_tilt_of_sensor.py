"""LiDARs that are mounted far from level are told of, by where TF has them; frames of no vehicle tell nothing."""

from __future__ import annotations

import numpy as np
import pytest

from dseg_core.tilt_of_sensor import tilt_note
from dseg_core.transforms import TransformTree


def turned(axis: str, degrees: float) -> np.ndarray:
    """4x4, about x or y."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    T = np.eye(4)
    T[:3, :3] = [[1, 0, 0], [0, c, -s], [0, s, c]] if axis == "x" else [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    return T


@pytest.mark.parametrize(
    ("degrees", "told"), [(0, 0), (8, 0), (20, 20), (-30, 30), (90, 0), (-100, 0), (180, 180), (-170, 170)]
)
@pytest.mark.parametrize("axis", ["x", "y"])
def test_by_how_far_z_is_from_up(axis: str, degrees: float, told: float) -> None:
    """About a mount on the roof, and while the vehicle drives uphill, which is no tilt of the sensor."""
    tree = TransformTree()
    tree.add("base_link", "roof", turned(axis, degrees / 2))
    tree.add("roof", "lidar", turned(axis, degrees / 2))
    for stamp in (10, 20):
        tree.add("odom", "base_link", turned("x", 25), stamp)
    assert tree.rigid_root("lidar") == "base_link"
    note = tilt_note(tree, "lidar")
    expected = f"lidar is turned by {told} deg from level: give --proposals.level base_link, else ground may be missed"
    assert note == (expected if told else "")


def test_a_sensor_that_nothing_is_known_of() -> None:
    assert tilt_note(TransformTree(), "lidar") == ""


def test_it_is_looked_up_again_only_when_something_is_mounted_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    tree, looked = TransformTree(), []
    tree.add("base_link", "lidar", turned("x", 20))
    monkeypatch.setattr(tree, "rigid_root", lambda frame: (looked.append(frame), "base_link")[1])
    for stamp in range(10, 50, 10):  # neither motion nor the same mounting told again is news
        tree.add("odom", "base_link", np.eye(4), stamp)
        tree.add("base_link", "lidar", turned("x", 20))
        assert "by 20 deg" in tilt_note(tree, "lidar")
    assert looked == ["lidar"]
    tree.add("base_link", "lidar", turned("x", 40))
    assert "by 40 deg" in tilt_note(tree, "lidar")
    tree.add("base_link", "lidar", turned("x", 0))
    assert tilt_note(tree, "lidar") == "" and len(looked) == 3
    tree.add("base_link", "lidar", turned("x", 30), 10)
    tree.settle()  # from /tf, where it turned out to be mounted
    assert "by 30 deg" in tilt_note(tree, "lidar")
