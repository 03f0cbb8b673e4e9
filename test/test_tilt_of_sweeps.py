"""A LiDAR that no transform tells to be tilted: its points do, however it hangs; walls and level streets do not."""

from __future__ import annotations

import re
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
from dseg_core.store import FrameStore
from dseg_core.tilt_of_sweeps import TiltWatch, street_up
from dseg_core.transforms import TransformTree, matrix_from_pose

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
    """But for one on its side over a house's front, which may as well be a level one between houses."""
    R = turned(axis, degrees)
    up = street_up(seen(R))
    if abs(degrees) <= 10 or (axis, degrees) == ("x", 90):
        assert up is None
    else:
        assert up is not None and np.rad2deg(np.arccos(up @ R[2])) < 1.5


def test_walls_are_no_streets() -> None:
    """Even where one fills more of the sweep than the street does."""
    near = seen(np.eye(3), ((-30.0, 30.0, 2.5, 3.0, 30.0),), highest=30.0)
    on_wall, on_street = np.mean(np.abs(near[:, 1] - 2.5) < 0.1), np.mean(near[:, 2] < near[:, 2].min() + 0.1)
    assert on_wall > 1.2 * on_street > 0.1
    assert street_up(near) is None


def planes(ray: np.ndarray, surfaces: list[tuple[tuple[float, float, float], float]], far: float = 80.0) -> np.ndarray:
    """Where rays meet the nearest of planes normal * x = d, with noise of 2 cm, float32 (N, 3)."""
    with np.errstate(divide="ignore"):
        reach = np.stack([np.where((t := d / (ray @ np.array(n))) > 0, t, np.inf) for n, d in surfaces]).min(axis=0)
    reach += np.random.default_rng(0).normal(0, 0.02, len(reach))
    return np.asarray(ray[reach < far] * reach[reach < far, None], np.float32)


BANK = float(np.tan(np.deg2rad(30)))


@pytest.mark.parametrize("height", [1.0, 1.8, 2.5])
@pytest.mark.parametrize("beams", [np.linspace(15, -15, 16), np.linspace(22, -22, 64), np.linspace(2, -24.8, 64)])
def test_walls_banks_and_ceilings_that_have_more_points_than_the_street_are_no_streets(
    beams: np.ndarray, height: float
) -> None:
    ray, _ = spinning(beams)
    floor, left, right = ((0, 0, 1), -height), ((0, 1, 0), 3.0), ((0, 1, 0), -6.0)
    tunnel = [floor, left, right, ((0, 0, 1), 5.0 - height)]
    for surfaces in (tunnel, [floor, left, right], [floor, ((0, 1, 0), 2.5)]):
        assert street_up(planes(ray, surfaces)) is None
    level = planes(ray, [floor])
    banks = [(side, planes(ray, [((0, -side * BANK, 1), -height - 2.5 * BANK)])) for side in (-1, 1)]
    parts = [level[np.abs(level[:, 1]) < 2.5], *(bank[side * bank[:, 1] > 2.5] for side, bank in banks)]
    sunken = np.concatenate(parts)
    assert street_up(sunken) is None


def test_a_wall_beside_one_that_looks_upwards_only_tells_nothing() -> None:
    ray, _ = spinning(np.linspace(90, 2, 32))
    assert street_up(planes(ray, [((0, 1, 0), 2.5)], 30.0)) is None


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
    watch, looked = TiltWatch(TransformTree()), list[str]()

    def note(xyz: np.ndarray, frame: str = "left") -> str:
        return watch.note(Sweep(0, frame, xyz))

    assert [note(level), note(tilted), note(tilted)][:2] == ["", ""]
    told = note(tilted)
    assert "street turned by 20 deg" in told and "quaternion [0, 0.1736, 0, 0.9848], which is roll 0, pitch 20" in told
    assert note(tilted, "right") == note(tilted, "right") == ""
    monkeypatch.setattr("dseg_core.tilt_of_sweeps.street_up", lambda _: looked.append("one"))
    assert {note(level) for _ in range(200)} == {told} and not looked, "said once, it stays"
    assert not any(note(level, "third") for _ in range(200)) and len(looked) == 12


@pytest.mark.parametrize("degrees", [60.0, -90.0, 20.0])
def test_a_mount_that_is_told_is_not_asked_for(degrees: float) -> None:
    """With a heading, which the points cannot show."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("zyx", [60, degrees, 0], degrees=True).as_matrix()
    T[:3, 3] = (0.5, 0, 1.8)
    tree = TransformTree()
    tree.add("base_link", "lidar", T)
    xyz = seen(T[:3, :3], ((-30.0, 30.0, 6.0, 7.0, 8.0),))
    watch = TiltWatch(tree)
    notes = [watch.note(Sweep(0, "lidar", xyz)) for _ in range(3)]
    assert notes[2].endswith("as its mount is told to be: give --proposals.level base_link, else ground may be missed")


def test_what_is_told_stays_the_same() -> None:
    """However the estimate changes with every sweep: else it is told again."""
    watch = TiltWatch(TransformTree())
    notes = [watch.note(Sweep(0, "lidar", seen(turned("y", degrees)))) for degrees in (20, 21, 22, 23, 24)]
    assert notes[:2] == ["", ""] and len({*notes[2:]}) == 1 and "turned by 21 deg" in notes[2]


def test_what_transforms_know_of_the_mount_stays() -> None:
    """Its place and heading, which would be lost with the advice; where nobody knows its place, that is said."""
    tree = TransformTree()
    half = np.sqrt(0.5)
    tree.add("base_link", "roof", matrix_from_pose([1.2, 0, 1.5], [0, 0, 0, 1]))
    tree.add("roof", "lidar", matrix_from_pose([0, 0.5, 0.25], [0, 0, half, half]))  # its x axis to the left
    tree.add("optical", "other", matrix_from_pose([1, 2, 3], [half, 0, 0, half]))
    watch, xyz = TiltWatch(tree), seen(turned("y", 20))
    told, other, unknown = ([watch.note(Sweep(0, f, xyz)) for _ in range(3)][2] for f in ("lidar", "other", "none"))
    assert "its mount in base_link (translation [1.2, 0.5, 1.75], quaternion [" in told
    assert "roll 0, pitch 20, yaw 90 deg" in told and "--proposals.level base_link" in told
    numbers = re.search(r"quaternion \[(.*?)\]", told)
    assert numbers is not None
    T = matrix_from_pose([0, 0, 0], [float(number) for number in numbers[1].split(", ")])
    assert np.allclose(T[:3, :3], turned("z", 90) @ turned("y", 20), atol=1e-3)
    for note in (other, unknown):
        assert (
            "its mount (translation [0, 0, 0], or where it is once measured, quaternion [0, 0.1736, 0, 0.9848]" in note
        )
        assert note.endswith("--proposals.level the frame that is level")


def test_a_recording_tells_how_the_lidar_is_mounted(tmp_path: Path) -> None:
    """Sideways and forwards, which no transform tells: what the account says of it, told to it, finds the ground."""
    R = Rotation.from_euler("xyz", [25, -15, 0], degrees=True).as_matrix()
    xyz = seen(R)

    def message(stamp: int) -> Any:
        return ros.cloud_to_message(stamp, "lidar", {axis: xyz[:, i].copy() for i, axis in enumerate("xyz")})

    def ground(frames: Path, options: dict[str, Any]) -> tuple[str, float]:
        """The account, and how much of the street is ground."""
        text = record([bag], frames, RecordOptions.from_mapping(options)).text
        frame = next(FrameStore(frames).frames())
        up = frame.sweep.xyz @ R[2]
        return text, float(np.mean(frame.proposals[up < up.min() + 0.1] == 1))

    bag = write_bag(tmp_path / "bag", [0, 100, 200, 300], [4, 104, 204, 304], sweep=message)
    text, missed = ground(tmp_path / "frames", {})
    told = re.search(r"turned by 29 deg.*in base_link \(translation \[0, 0, 0\], quaternion \[(.*?)\], which", text)
    assert told and missed < 0.9
    assert text.count("street turned") == 1 and "roll 25, pitch -15, yaw 0 deg" in text and "4 sweeps" not in text
    mount = f"{{parent: base_link, child: lidar, translation: [0, 0, 1.8], quaternion: [{told[1]}]}}"
    (tmp_path / "mount.yaml").write_text(f"transforms: [{mount}]\n")
    level = {"topics.calibration": str(tmp_path / "mount.yaml"), "proposals.level": "base_link"}
    text, found = ground(tmp_path / "level", level)
    assert "street turned" not in text and found > 0.98
