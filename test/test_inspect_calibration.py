"""Known errors are put into simulated and real drives, and must be found; where nothing can be told, nothing is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import bags
import box_street
import numpy as np
import pytest
import yaml
from rewritten_bags import rewrite
from scipy.spatial.transform import Rotation

from dseg_core import messages as ros
from dseg_core.cameras import Camera
from dseg_core.inspection.alignment import EdgePair
from dseg_core.inspection.correction_search import search
from dseg_core.inspection.depth_edges import SIDEWAYS, UPWARDS, edges_from_sweep
from dseg_core.inspection.image_edges import as_pinhole, edges_from_image, pinhole_of
from dseg_core.inspection.inspect import inspect
from dseg_core.records import Sweep
from dseg_core.stage_options import InspectOptions, SimulateOptions, TopicOptions

# The simulated front camera in the LiDAR's frame, which is base_link's: 2 degrees down, by the simulation's sensors.
SIMULATED = Rotation.from_euler("y", 2, degrees=True) * Rotation.from_matrix([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
NOTHING = (0.0, 0.0, 0.0)
QUICK = [(40.0, NOTHING), (-80.0, NOTHING), (0.0, (0.0, 1.0, 0.0)), (0.0, (-2.0, 0.0, 0.0)), (20.0, (0.0, -0.5, 1.0))]
GRID = [(sign * late, NOTHING) for late in (20.0, 40.0, 80.0) for sign in (-1, 1)] + [
    (0.0, tuple(sign * degrees * (axis == i) for i in range(3)))
    for degrees in (0.5, 1.0, 2.0)
    for sign in (-1, 1)
    for axis in range(3)
]


def simulated(path: Path, **options: Any) -> Path:
    from dseg_core.simulation.simulate import simulate

    simulate(path, SimulateOptions(**{"width": 480, "height": 160, "samples": 1, **options}))
    return path


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated(tmp_path_factory.mktemp("drive") / "street", seed=2, sweeps=14, speed=10.0)


def verdict(bag: Path, out: Path) -> Any:
    (found,) = inspect(bag, InspectOptions(out=out)).results["calibration"].values()
    return found


def check_found(source: Path, late_ms: float, turned: Any, tmp_path: Path) -> None:
    found = verdict(rewrite(source, tmp_path / "bag", late_ms, turned), tmp_path)
    assert found["verdict"] == "wrong", found
    assert np.abs(np.subtract(found["rotation_deg"], turned)).max() < 0.3, found
    assert found["offset_ms"] == pytest.approx(late_ms, abs=10)
    assert found["best_score"] > found["score"]
    mended = Rotation.from_quat(found["mounting"]["quaternion"])
    assert np.rad2deg((mended * SIMULATED.inv()).magnitude()) < 0.4, "the bag's own mounting comes out again"


@pytest.mark.parametrize(("late_ms", "turned"), QUICK)
def test_errors_are_found(late_ms: float, turned: Any, street: Path, tmp_path: Path) -> None:
    check_found(street, late_ms, turned, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("late_ms", "turned"), GRID)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_errors_are_found_in_every_street(
    seed: int, late_ms: float, turned: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = tmp_path_factory.getbasetemp() / f"street_{seed}"
    if not source.exists():
        simulated(source, seed=seed, sweeps=30, speed=10.0, width=640, height=256)
    check_found(source, late_ms, turned, tmp_path)


def test_the_mounting_that_it_proposes_mends_the_drive_as_a_calibration_file(street: Path, tmp_path: Path) -> None:
    bag = rewrite(street, tmp_path / "bag", 0.0, (0.0, 1.5, 0.0))
    file = tmp_path / "mended.yaml"
    file.write_text(yaml.safe_dump({"transforms": [verdict(bag, tmp_path)["mounting"]]}))
    mended = InspectOptions(out=tmp_path, topics=TopicOptions(calibration=file))
    (found,) = inspect(bag, mended).results["calibration"].values()
    assert found["verdict"] == "right", found


def test_what_is_right_is_left_alone(street: Path, tmp_path: Path) -> None:
    found = verdict(street, tmp_path)
    assert found["verdict"] == "right", found
    assert np.abs(found["rotation_deg"]).max() < 0.3 and abs(found["offset_ms"]) < 10


BEAMS_16, BEAMS_32, BEAMS_64 = np.linspace(-15, 15, 16), np.linspace(-30.67, 10.67, 32), np.linspace(-24, 3, 64)


@pytest.mark.parametrize("tilt", [("y", 0.0), ("y", 8.0), ("x", 8.0)], ids=["level", "pitched", "rolled"])
@pytest.mark.parametrize(("beams", "columns"), [(BEAMS_16, 1800), (BEAMS_32, 1080), (BEAMS_64, 1024)])
def test_few_edges_between_far_beams_are_not_held_against_a_camera(
    beams: Any, columns: int, tilt: tuple[str, float], tmp_path: Path
) -> None:
    found = verdict(box_street.write(tmp_path / "boxes", beams, columns, tilt), tmp_path)
    assert found["verdict"] != "wrong", found
    if found["verdict"] == "right":  # as far as beams show: the truth is no turn, and lies within what is told
        assert (np.abs(found["rotation_deg"]) < 2 * np.array(found["rotation_deviation_deg"]) + 0.3).all(), found
        assert max(found["rotation_deviation_deg"]) < 1.0


@pytest.mark.parametrize(("beams", "columns"), [(BEAMS_16, 1800), (BEAMS_32, 1080)])
@pytest.mark.parametrize("turned", [(2.0, 0.0, 0.0), (0.0, -1.0, 0.0)])
def test_far_beams_show_what_is_wrong_by_more_than_their_spacing(
    beams: Any, columns: int, turned: Any, tmp_path: Path
) -> None:
    source = box_street.write(tmp_path / "boxes", beams, columns)
    found = verdict(rewrite(source, tmp_path / "bag", 0.0, turned), tmp_path)
    assert found["verdict"] == "wrong", found
    off = np.abs(np.subtract(found["rotation_deg"], turned))
    assert (off < 2 * np.array(found["rotation_deviation_deg"])).all(), found


def test_edges_know_between_which_beams_they_lie() -> None:
    """Beams of the box are 0.77 degrees apart, columns 0.3; its left side is one piece of 3 beams' span or more."""
    edges = edges_from_sweep(box_sweep())
    assert edges is not None
    assert np.rad2deg(edges.width[edges.kind == UPWARDS]) == pytest.approx(30 / 39, abs=0.03)
    assert np.rad2deg(edges.width[edges.kind == SIDEWAYS]) == pytest.approx(0.3, abs=0.03)
    for kind, axis in ((SIDEWAYS, 1), (UPWARDS, 2)):
        for side in (-1, 1):
            outline = edges.piece[(edges.kind == kind) & (np.sign(edges.xyz[:, axis]) == side)]
            assert 1 <= len(np.unique(outline)) <= 3 and len(outline) > 10
    assert not np.isin(edges.piece[edges.kind == SIDEWAYS], edges.piece[edges.kind == UPWARDS]).any()


def test_standing_still_shows_no_offset_in_time(tmp_path: Path) -> None:
    source = simulated(tmp_path / "still", seed=2, sweeps=8, speed=0.0)
    found = verdict(rewrite(source, tmp_path / "bag", 40.0), tmp_path)
    assert found["offset_ms"] is None and "does not move" in found["offset_not_observable"]
    assert found["verdict"] != "wrong", found


def test_a_camera_that_looks_elsewhere_is_not_corrected(street: Path, tmp_path: Path) -> None:
    found = verdict(rewrite(street, tmp_path / "bag", 0.0, (20.0, 8.0, 0.0)), tmp_path)
    assert found["verdict"] == "cannot tell" and found["rotation_deg"] is None, found


def test_a_real_drive_is_right_and_a_turn_of_a_degree_is_found_in_it(kitti_bag: Path, tmp_path: Path) -> None:
    found = verdict(kitti_bag, tmp_path)
    assert found["verdict"] == "right" and found["score"] > 5
    assert np.abs(found["rotation_deg"]).max() < 0.3
    assert found["offset_not_observable"] == "no odometry"
    turned = verdict(rewrite(kitti_bag, tmp_path / "bag", 0.0, (0.0, 1.0, 0.0)), tmp_path)
    assert turned["verdict"] == "wrong"
    assert np.abs(np.subtract(turned["rotation_deg"], (0, 1, 0))).max() < 0.3
    assert turned["score"] < found["score"] - 2
    assert turned["mounting"]["child"] == "camera_front_optical"
    assert turned["mounting"]["translation"] == pytest.approx(position(kitti_bag), abs=0.01)


def position(bag: Path) -> Any:
    """Of the camera in the LiDAR's frame, as the bag has it."""
    options = InspectOptions.from_mapping({"check": {"frames": 0}, "max_frames": 1})
    return inspect(bag, options).results["sensors"]["cameras"][0]["position"]


def box_sweep() -> Sweep:
    """A box 4 m wide and 2 m high, 10 m ahead, before a wall 30 m ahead; 40 beams."""
    elevation, azimuth = np.meshgrid(
        np.deg2rad(np.linspace(15, -15, 40)), np.deg2rad(np.arange(-60, 60, 0.3)), indexing="ij"
    )
    direction = np.stack([np.ones_like(azimuth), np.tan(azimuth), np.tan(elevation) / np.cos(azimuth)], -1)
    hit = direction * 10
    box = (np.abs(hit[..., 1]) < 2) & (np.abs(hit[..., 2]) < 1)
    xyz = np.where(box[..., None], hit, direction * 30).reshape(-1, 3).astype(np.float32)
    ring = np.repeat(np.arange(40, dtype=np.uint16), azimuth.shape[1])
    return Sweep(0, "lidar", xyz, ring=ring)


def test_depth_edges_are_the_outline_of_the_box() -> None:
    edges = edges_from_sweep(box_sweep())
    assert edges is not None
    flat = edges.xyz / edges.xyz[:, :1] * 10  # on the plane of the box's face
    sides, ends = flat[edges.kind == SIDEWAYS], flat[edges.kind == UPWARDS]
    assert len(sides) and len(ends)
    assert np.abs(np.abs(sides[:, 1]) - 2).max() < 0.06  # half a step of azimuth is 0.03 m
    assert np.abs(np.abs(ends[:, 2]) - 1).max() < 0.09  # half a step of elevation is 0.07 m
    assert abs(float(np.abs(sides[:, 1]).mean()) - 2) < 0.03, "edges lie as often within as outside"
    assert set(np.unique(np.sign(sides[:, 1]))) == {-1, 1} and set(np.unique(np.sign(ends[:, 2]))) == {-1, 1}


def test_a_cloud_without_beams_has_no_edges() -> None:
    rng = np.random.default_rng(0)
    assert edges_from_sweep(Sweep(0, "lidar", rng.normal(0, 10, (5000, 3)).astype(np.float32))) is None


def test_image_edges_tell_upright_from_level() -> None:
    rgb = np.full((120, 200, 3), 40, np.uint8)
    rgb[40:80, 60:140, 1] = 200
    upright, level = edges_from_image(rgb)
    assert upright[60, 60] > 100 and upright[60, 139] > 100 and upright[40, 100] < 20
    assert level[40, 100] > 100 and level[79, 100] > 100 and level[60, 60] < 20


def test_a_bent_image_becomes_straight() -> None:
    """A bright pixel of a lens lands where the pinhole projects the same direction."""
    straight = Camera.pinhole("optical", 300, 200, 200.0, 200.0, 149.5, 99.5)
    bent = replace(straight, D=np.array([-0.3, 0.05, 0.0, 0.0, 0.0]), rectified=False)
    direction = np.array([[0.45, 0.3, 1.0]])
    (u, v), (x, y) = bent.project(direction)[0][0], straight.project(direction)[0][0]
    rgb = np.zeros((200, 300, 3), np.uint8)
    rgb[round(v) - 2 : round(v) + 3, round(u) - 2 : round(u) + 3] = 255
    found = as_pinhole(rgb, bent, pinhole_of(bent))[..., 0].astype(float)
    rows, columns = np.indices(found.shape)
    center = (columns * found).sum() / found.sum(), (rows * found).sum() / found.sum()
    assert np.hypot(u - x, v - y) > 5
    assert np.hypot(center[0] - x, center[1] - y) < 1.0


def test_search_of_edges_that_fit_nothing_finds_no_agreement() -> None:
    rng, camera = np.random.default_rng(1), pinhole_of(bags.CAMERA)
    pairs = []
    for _ in range(8):
        xyz = np.append(rng.uniform(-0.6, 0.6, (200, 2)), np.ones((200, 1)), axis=1) * rng.uniform(5, 30, (200, 1))
        image = rng.integers(0, 255, (camera.height, camera.width, 3)).astype(np.uint8)
        kind = rng.integers(0, 2, 200).astype(np.uint8)
        still, width = np.zeros((200, 3), np.float32), np.full(200, 0.007, np.float32)
        edges = edges_from_image(image)
        pairs.append(EdgePair(xyz.astype(np.float32), still, kind, width, np.arange(200), edges))
    found = search(pairs, camera, np.deg2rad(3), 0.0)
    assert found.best < 4 or (found.apart[:3] > np.deg2rad(0.5)).any()


@pytest.mark.parametrize("blind", ["images", "sweeps"])
def test_a_lens_cap_or_a_sweep_without_edges_tells_nothing(blind: str, tmp_path: Path) -> None:
    def black(stamp: int, _: int) -> Any:
        return ros.image_to_message(stamp, "camera_optical", np.zeros((48, 64, 3), np.uint8))

    def ball(stamp: int) -> Any:
        directions = bags.scene() / np.linalg.norm(bags.scene(), axis=1, keepdims=True)
        columns = {axis: 20 * directions[:, i] for i, axis in enumerate("xyz")} | {"ring": bags.rings()}
        return ros.cloud_to_message(stamp, "lidar", columns)

    sweeps = range(0, 500, 100)
    rows: dict[str, Any] = {"image": black} if blind == "images" else {"sweep": ball}
    found = verdict(bags.write_bag(tmp_path / "bag", sweeps, sweeps, **rows), tmp_path)
    assert (found["verdict"], found["frames"]) == ("cannot tell", 5)
    assert "nowhere better than by chance" in found["why"]
