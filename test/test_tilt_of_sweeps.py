"""A LiDAR that no transform tells to be tilted: its points do, however it hangs; walls and level streets do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bags import write_bag
from lidars import Box, cast, spinning
from scipy.spatial.transform import Rotation

from dseg_core import messages as ros
from dseg_core.frames_from_bag import record
from dseg_core.records import Sweep
from dseg_core.stage_options import RecordOptions
from dseg_core.tilt_of_sweeps import TiltWatch, street_up

HOUSES: tuple[Box, ...] = ((-30.0, 30.0, 6.0, 7.0, 8.0), (-30.0, 30.0, -9.0, -8.0, 8.0), (8.0, 12.0, -1.0, 1.0, 1.5))


def seen(R: np.ndarray, boxes: tuple[Box, ...] = HOUSES, highest: float = 15.0) -> np.ndarray:
    """Points (N, 3), float32, of a street with `boxes`, in the frame of a LiDAR that `R` turns into a level one."""
    ray, _ = spinning(np.linspace(highest, highest - 55, 48))
    xyz, truth = cast(ray, boxes)
    return np.asarray(xyz[truth > 0] @ R, np.float32)


def turned(axis: str, degrees: float) -> np.ndarray:
    return np.asarray(Rotation.from_euler(axis, degrees, degrees=True).as_matrix())


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("degrees", [0, -8, 10, 14, -25, 45, 90, -130, 180])
def test_the_way_up_from_the_street(axis: str, degrees: float) -> None:
    R = turned(axis, degrees)
    up = street_up(seen(R))
    if abs(degrees) <= 10:
        assert up is None
    else:
        assert up is not None and np.rad2deg(np.arccos(up @ R[2])) < 1.5


def test_walls_are_no_streets() -> None:
    """Even where one fills more of the sweep than the street does."""
    near = seen(np.eye(3), ((-30.0, 30.0, 2.5, 3.0, 30.0),), highest=30.0)
    on_wall, on_street = np.mean(np.abs(near[:, 1] - 2.5) < 0.1), np.mean(near[:, 2] < near[:, 2].min() + 0.1)
    assert on_wall > 1.2 * on_street > 0.1
    assert street_up(near) is None


def test_nothing_to_tell_by() -> None:
    for xyz in (
        np.zeros((0, 3)),
        np.full((500, 3), np.nan),
        np.full((500, 3), np.inf),
        np.tile([5.0, 0, -1], (500, 1)),
    ):
        assert street_up(xyz.astype(np.float32)) is None


def test_most_of_the_sweeps_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each LiDAR's apart, of three sweeps at least; later, only some are looked at."""
    level, tilted = seen(np.eye(3)), seen(turned("y", 20))
    watch, looked = TiltWatch(), list[str]()

    def note(xyz: np.ndarray, frame: str = "left") -> str:
        return watch.note(Sweep(0, frame, xyz))

    assert [note(level), note(tilted), note(tilted)][:2] == ["", ""]
    assert "street turned by 20 deg" in note(tilted) and "(roll 0, pitch 20 deg)" in note(level)
    assert note(tilted, "right") == note(tilted, "right") == ""
    monkeypatch.setattr("dseg_core.tilt_of_sweeps.street_up", lambda _: looked.append("one"))
    notes = [note(level) for _ in range(200)]
    assert len(looked) == 9 and notes[0] and not notes[-1]


def test_a_recording_tells_how_the_lidar_is_mounted(tmp_path: Path) -> None:
    """Sideways by 25 degrees, which no transform tells: the account says it, and what to do."""
    R, frames = turned("x", 25), tmp_path / "frames"

    def message(stamp: int) -> Any:
        xyz = seen(R)
        return ros.cloud_to_message(stamp, "lidar", {axis: xyz[:, i].copy() for i, axis in enumerate("xyz")})

    bag = write_bag(tmp_path / "bag", [0, 100, 200, 300], [4, 104, 204, 304], sweep=message)
    text = record([bag], frames, RecordOptions()).text
    assert "points of lidar show a street turned by 25 deg from level" in text and "(roll 25, pitch 0 deg)" in text
