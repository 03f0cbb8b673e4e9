"""Proposals of every kind of LiDAR: beams of any table, none at all, in any order, tilted, with second returns."""

from __future__ import annotations

import logging
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bag_player import rows_of as messages_of
from bags import MS, START_NS, write_bag
from hypothesis import given, settings
from hypothesis import strategies as st
from lidars import HEIGHT, Box, cast, directions, flash, raster, rosette, spinning
from live import Car, assert_same_frames
from scipy.spatial.transform import Rotation
from test_proposals_from_sweep import BEHIND, TWO, agrees, partition, scan

from dseg_core import messages as ros
from dseg_core.errors import DsegError
from dseg_core.frames_from_bag import record
from dseg_core.lidar import patchwork
from dseg_core.lidar.rows import rows_of
from dseg_core.proposals_from_sweep import METHODS, method_of, proposals_from_sweep
from dseg_core.records import Sweep
from dseg_core.stage_options import ProposalOptions, RecordOptions
from dseg_core.store import read_json

OPTIONS = ProposalOptions()
VLP32C = np.array(
    [
        *(-25, -15.639, -11.31, -8.843, -7.254, -6.148, -5.333, -4.667, -4, -3.667, -3.333, -3, -2.667, -2.333, -2),
        *(-1.667, -1.333, -1, -0.667, -0.333, 0, 0.333, 0.667, 1, 1.333, 1.667, 2.333, 3.333, 4.667, 7, 10.333, 15),
    ]
)
TABLES = {
    "VLP-16": np.linspace(-15, 15, 16),
    "VLP-32C": VLP32C,
    "Pandar64": np.array([-25, -19, *np.linspace(-14, -6.5, 10), *np.linspace(-6, 2, 48), 5, 8, 11, 15]),
    "OS1 gradient": 22.5 * np.linspace(-1, 1, 64) * np.abs(np.linspace(-1, 1, 64)) ** 0.6,
    "128": np.linspace(-25, 15, 128),
}
METHODS_AND_GROUNDS = [(method, ground) for method in METHODS for ground in ("own", "patchwork")]


def measured(xyz: np.ndarray, truth: np.ndarray, ring: np.ndarray | None = None) -> tuple[Sweep, np.ndarray]:
    kept = truth > 0
    return Sweep(0, "lidar", xyz[kept], ring=None if ring is None else ring[kept]), truth[kept]


@pytest.mark.parametrize(("method", "ground"), METHODS_AND_GROUNDS)
def test_every_method_goes_with_every_ground(method: str, ground: str) -> None:
    if ground == "patchwork":
        pytest.importorskip("pypatchworkpp")
    sweep, truth = scan(TWO + BEHIND)
    agrees(proposals_from_sweep(sweep, replace(OPTIONS, method=method, ground=ground)), truth)


def test_patchwork_finds_the_sensors_height_and_is_told_it(capfd: pytest.CaptureFixture[str]) -> None:
    """A LiDAR 4 m up, as on a truck: told 1.5 m, it takes the ground for nothing; and nothing is printed."""
    pytest.importorskip("pypatchworkpp")
    sweep, truth = scan(TWO)
    high = Sweep(0, "lidar", sweep.xyz * np.float32(4.0 / HEIGHT), ring=sweep.ring)
    options = replace(OPTIONS, ground="patchwork", method="euclidean")
    found = proposals_from_sweep(high, options)
    assert np.mean(found[truth == 1] == 1) > 0.95
    np.testing.assert_array_equal(found, proposals_from_sweep(high, replace(options, sensor_height=4.0)))
    wrong = proposals_from_sweep(high, replace(options, sensor_height=1.0))
    assert np.mean(wrong[truth == 1] == 1) < 0.9
    assert capfd.readouterr().out == ""
    above = Sweep(0, "lidar", sweep.xyz + np.float32(10))
    with pytest.raises(DsegError, match=r"height is not known.*sensor-height"):
        proposals_from_sweep(above, options)


def test_only_the_librarys_own_words_are_lost(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What other threads write while it is made comes out, in its order; its own line does not."""
    library = pytest.importorskip("pypatchworkpp")

    def speak() -> None:
        os.write(1, b"a line of another thread\n")

    def made(parameters: object) -> object:
        other = threading.Thread(target=speak)
        other.start()
        other.join()
        found = library.patchworkpp(parameters)
        os.write(1, "and more: \u00fc".encode())
        return found

    monkeypatch.setattr(patchwork, "pypatchworkpp", lambda: SimpleNamespace(**{**vars(library), "patchworkpp": made}))
    os.write(1, b"before\n")
    proposals_from_sweep(scan(TWO)[0], replace(OPTIONS, ground="patchwork"))
    os.write(1, b", after\n")
    assert capfd.readouterr().out == "before\na line of another thread\nand more: \u00fc, after\n"


@pytest.mark.parametrize(("library", "option"), [("pypatchworkpp", "ground"), ("hdbscan", "method")])
def test_a_library_that_is_missing_costs_one_line(library: str, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    value = "patchwork" if option == "ground" else "hdbscan"
    with pytest.raises(DsegError, match=rf"{library}.*not installed.*pip install 'dseg_ros\[{value}\]'"):
        proposals_from_sweep(scan(TWO)[0], replace(OPTIONS, **{option: value}))
    with pytest.raises(DsegError, match="pip install"):  # before any bag is looked for
        record([Path("no bag")], Path("out"), RecordOptions.from_mapping({f"proposals.{option}": value}))


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("way", ["ring", "rows", "columns", "beams", "shuffled rings"])
def test_beams_of_any_table_in_any_order(name: str, way: str) -> None:
    """Rings numbered as drivers like, organised clouds beam by beam or column by column, or nothing but the order."""
    table = TABLES[name]
    columns = 500 if way == "columns" else 720  # as few as rows may be
    ray, ring = spinning(table[::-1], columns)
    xyz, truth = cast(ray, TWO + BEHIND)
    order = np.arange(len(xyz))
    if way == "columns":
        order = order.reshape(len(table), columns).T.reshape(-1)
    if way == "shuffled rings":
        order = np.random.default_rng(0).permutation(order)
    xyz, truth, ring = xyz[order], truth[order], ring[order]
    numbers = np.random.default_rng(1).permutation(len(table)).astype(np.uint16)
    organised = {"rows": len(table), "columns": columns}.get(way, 0)
    if "ring" in way or way == "beams":
        kept = truth > 0
        xyz, truth, ring = xyz[kept], truth[kept], ring[kept]
    sweep = Sweep(0, "lidar", xyz, ring=numbers[ring] if "ring" in way else None, rows=organised)
    rows = rows_of(sweep)
    assert rows is not None and method_of(sweep, OPTIONS) == "range_image"
    seen = np.unique(ring[truth > 0])
    if way != "beams":  # in which those that hardly see anything begin no turn
        np.testing.assert_array_equal(rows.row[truth > 0], np.searchsorted(seen, ring[truth > 0]))
        assert len(rows) == len(seen)
    agrees(proposals_from_sweep(sweep, OPTIONS), truth)


@pytest.mark.parametrize("method", ["auto", "hdbscan"])
def test_a_scanner_without_rows(method: str) -> None:
    sweep, truth = measured(*cast(rosette(), TWO))
    assert method_of(sweep, OPTIONS) == "euclidean"
    order = np.random.default_rng(0).permutation(len(sweep))
    options = replace(OPTIONS, method=method)
    found = proposals_from_sweep(sweep, options)
    agrees(found, truth)
    other = proposals_from_sweep(Sweep(0, "lidar", sweep.xyz[order]), options)
    if method == "auto":  # nothing of it looks at the points' order
        np.testing.assert_array_equal(partition(other), partition(found[order]))


EDGES: tuple[Box, ...] = ((1.0, 4.0, 5.0, 9.0, 2.1), (1.0, 4.0, -9.0, -5.0, 2.1))  # cut off by both ends of 120 deg


@pytest.mark.parametrize("yaw", [0, 60, 180, 233])
@pytest.mark.parametrize("rings", [True, False])
def test_a_mirror_that_sees_less_than_a_turn(yaw: float, rings: bool) -> None:
    """Its two ends are no neighbours, and it may be mounted any way round: the azimuth's seam may lie in its middle."""
    ray, ring = raster()
    xyz, truth = cast(ray, EDGES + TWO[:1])
    sweep, truth = measured(
        xyz @ Rotation.from_euler("z", yaw, degrees=True).as_matrix().T.astype(np.float32), truth, ring
    )
    sweep = sweep if rings else replace(sweep, ring=None)
    assert not rings or method_of(sweep, OPTIONS) == "range_image"
    found = proposals_from_sweep(sweep, OPTIONS)
    agrees(found, truth)
    assert not set(found[truth == 2]) & set(found[truth == 3]) - {0, 1}


@pytest.mark.parametrize("yaw", [0, 50, 180, 300])
@pytest.mark.parametrize("backwards", [False, True])
def test_an_array_that_names_no_rows(yaw: float, backwards: bool) -> None:
    """Each row begins anew after less than a turn, wherever the azimuth's seam is: mostly in the middle of all rows."""
    rows, columns = 90, 230
    ray = flash(rows=rows, columns=columns).reshape(rows, columns, 3)
    ray = (ray[:, ::-1] if backwards else ray).reshape(-1, 3)
    xyz, truth = cast(ray, EDGES + TWO[:1])
    sweep, truth = measured(xyz @ Rotation.from_euler("z", yaw, degrees=True).as_matrix().T.astype(np.float32), truth)
    found = rows_of(sweep)
    assert found is not None and method_of(sweep, OPTIONS) == "range_image"
    expected = np.repeat(np.arange(rows), columns)[cast(ray, EDGES + TWO[:1])[1] > 0]
    np.testing.assert_array_equal(found.row, np.unique(expected, return_inverse=True)[1])
    agrees(proposals_from_sweep(sweep, OPTIONS), truth)


def test_rings_of_two_lidars_in_one_cloud_are_no_beams() -> None:
    """One hangs upside down, as Argoverse's: its lowest beam has the number of the other one's highest."""
    table, ring = np.linspace(-16, 15, 32), np.repeat(np.arange(32, dtype=np.uint16), 720)
    walls = ((20.0, 21.0, -30.0, 30.0, 12.0), (-30.0, 30.0, 20.0, 21.0, 12.0), (-30.0, 30.0, -21.0, -20.0, 12.0))
    parts = []
    for turned, ahead in ((table, 0.0), (table[::-1], 1.5)):
        boxes = tuple((x0 - ahead, x1 - ahead, *rest) for x0, x1, *rest in (*TWO, *walls))
        sweep, truth = measured(*cast(spinning(turned)[0], boxes), ring)
        assert method_of(sweep, OPTIONS) == "range_image"
        parts.append((sweep.xyz + np.array([ahead, 0, 0], np.float32), sweep.ring, truth))
    order = np.random.default_rng(0).permutation(sum(len(part[0]) for part in parts))
    xyz, rings, truth = (np.concatenate(column)[order] for column in zip(*parts, strict=True))
    both = Sweep(0, "lidar", xyz, ring=rings)
    assert rows_of(both) is None and method_of(both, OPTIONS) == "euclidean"
    agrees(proposals_from_sweep(both, OPTIONS), np.minimum(truth, 4))  # the walls touch each other


@pytest.mark.parametrize("method", ["range_image", "euclidean"])
@pytest.mark.parametrize("tilt", [5, 10, 15, 180])
@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_tilted_lidar(method: str, tilt: float, axis: str) -> None:
    """Its plane is found up to 10 degrees; beyond, and upside down, with what turns it to level."""
    R = Rotation.from_euler(axis, tilt, degrees=True).as_matrix()
    ray, ring = spinning(np.linspace(10, -40, 64) * (1 if tilt < 90 else -1))
    xyz, truth = cast(ray @ R.T, TWO + BEHIND)  # in a level frame
    sweep, truth = measured((xyz @ R).astype(np.float32), truth, ring)
    options = replace(OPTIONS, method=method)
    agrees(proposals_from_sweep(sweep, options, R), truth)
    if tilt <= 10:
        agrees(proposals_from_sweep(sweep, options), truth)


def test_second_returns_are_objects_of_their_own() -> None:
    """A fence of wires ahead, and through it a car: every ray that hits the fence sees what is behind as well."""
    ray, ring = spinning(np.linspace(4, -26, 48))
    fence: Box = (6.0, 6.1, -3.0, 3.0, 1.6)
    car: Box = (10.0, 13.0, -1.0, 1.0, 1.5)
    first, in_front = cast(ray, (fence,))
    second, behind = cast(ray, (car,))
    through = (in_front == 2) & (behind > 0)
    xyz = np.concatenate([first[in_front > 0], second[through]])
    rings = np.concatenate([ring[in_front > 0], ring[through]])
    truth = np.concatenate([in_front[in_front > 0], np.where(behind[through] == 2, 3, 1)])
    order = np.argsort(rings, kind="stable")
    for method in ("range_image", "euclidean"):
        found = proposals_from_sweep(Sweep(0, "lidar", xyz[order], ring=rings[order]), replace(OPTIONS, method=method))
        agrees(found, truth[order])


def test_second_returns_beside_their_object_are_part_of_it() -> None:
    """Half of a wall's points are seen past a post before it."""
    ray, ring = spinning(np.linspace(4, -26, 48))
    post: Box = (5.0, 5.2, -0.2, 0.2, 2.0)
    wall: Box = (9.0, 9.5, -4.0, 4.0, 2.5)
    first, in_front = cast(ray, (post, wall))
    second, behind = cast(ray, (wall,))
    through = (in_front == 2) & (behind == 2)
    assert through.sum() > 50
    xyz, rings = np.concatenate([first, second[through]]), np.concatenate([ring, ring[through]])
    truth = np.concatenate([in_front, np.full(through.sum(), 3)])
    sweep, truth = measured(xyz, truth, rings)
    found = proposals_from_sweep(sweep, OPTIONS)
    agrees(found, truth)
    last = found[-through.sum() :]
    assert np.mean(last == np.bincount(found[truth == 3]).argmax()) > 0.95


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 719))
def test_a_turn_by_whole_columns_changes_nothing(seed: int, columns: int) -> None:
    sweep, _ = scan(TWO + BEHIND, seed=seed % 2**31)
    R = Rotation.from_euler("z", columns * 0.5, degrees=True).as_matrix()
    turned = Sweep(0, "lidar", (sweep.xyz.astype(np.float64) @ R.T).astype(np.float32), ring=sweep.ring)
    one, two = (proposals_from_sweep(s, OPTIONS) for s in (sweep, turned))
    # Sectors of the ground's grid are 4 columns: it is the same for each fourth.
    same = np.mean([np.bincount(two[one == k]).max() / np.count_nonzero(one == k) for k in np.unique(one)])
    assert same > 0.995
    if columns % 4 == 0:
        assert partition(one) == partition(two)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 360))
def test_ground_without_beams_hardly_changes_with_any_turn(seed: int, yaw: float) -> None:
    sweep, truth = scan(TWO + BEHIND, kerb=0.12, seed=seed % 2**31)
    R = Rotation.from_euler("z", yaw, degrees=True).as_matrix()
    turned = Sweep(0, "lidar", (sweep.xyz.astype(np.float64) @ R.T).astype(np.float32))
    options = replace(OPTIONS, method="euclidean")
    one, two = (proposals_from_sweep(s, options) for s in (sweep, turned))
    assert np.mean((one == 1) != (two == 1)) < 0.003
    agrees(two, truth)


@pytest.mark.parametrize("slope", [0.0, 7.0, -7.0])
@pytest.mark.parametrize("kerb", [0.0, 0.15])
@pytest.mark.parametrize("pattern", ["64", "32", "16", "rosette", "raster"])
def test_ground_without_beams(pattern: str, kerb: float, slope: float) -> None:
    """Slopes of 12 %, kerbs, and points under the road; beams are not told."""
    if kerb and slope:
        pytest.skip("one of both")
    beams = pattern.isdigit()
    rays = (
        spinning(np.linspace(10, -25, int(pattern)))[0] if beams else rosette() if pattern == "rosette" else raster()[0]
    )
    sweep, truth = measured(*cast(rays, ((8.0, 10.0, -3.0, -1.0, 3.5),), np.deg2rad(slope), kerb))
    rng = np.random.default_rng(0)
    below = rng.choice(np.flatnonzero(truth == 1), 100)
    noise = sweep.xyz[below] * rng.uniform(1.3, 2.0, (100, 1)).astype(np.float32)
    cloud = Sweep(0, "lidar", np.concatenate([sweep.xyz, noise]))
    found = proposals_from_sweep(cloud, replace(OPTIONS, method="euclidean", distance=0.6))[: len(sweep)]
    agrees(found, truth)
    assert np.mean(found[truth == 1] > 1) < 0.005


def without_rows(stamp: int) -> Any:
    """A cloud of a scanner without rows, with its own pattern each time."""
    xyz, truth = cast(np.roll(rosette(), stamp // MS, axis=0), ((6.0, 7.0, -0.5, 0.5, 1.4),), seed=stamp % 1000)
    columns = {axis: xyz[truth > 0][:, i].copy() for i, axis in enumerate("xyz")}
    return ros.cloud_to_message(stamp, "lidar", columns)


def test_the_choice_is_said_once_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By `dseg record` and by the live recorder, whose node logs what dseg_core logs."""
    said = "points of lidar show no beams, so objects are told by distance"
    bag = write_bag(tmp_path / "bag", range(0, 500, 100), range(4, 504, 100), sweep=without_rows)
    with caplog.at_level(logging.INFO, "dseg"):
        summary = record([bag], tmp_path / "frames", RecordOptions())
        assert not caplog.messages and summary.text.count(said) == 1
        with Car(tmp_path / "live", drive="drive") as car:
            car.recorder.start()
            car.play(messages_of(bag))
        assert len(caplog.messages) == 1 and said in caplog.messages[0]
        assert caplog.records[0].name.startswith("dseg.")
    assert f"{said} (proposals.method euclidean) (5 sweeps)" in summary.text
    assert_same_frames(tmp_path / "live", tmp_path / "frames")
    notes = read_json(tmp_path / "live" / "summary.json")["results"]["drives"]["drive"]["notes"]
    assert any(said in note and "(5 sweeps)" in note for note in notes)


def test_what_was_asked_for_is_not_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bag = write_bag(tmp_path / "bag", range(0, 200, 100), range(4, 204, 100), sweep=without_rows)
    options = RecordOptions.from_mapping({"proposals.method": "euclidean"})
    assert "no beams" not in record([bag], tmp_path / "frames", options).text and not caplog.messages


def test_a_level_frame_by_name(tmp_path: Path) -> None:
    """A LiDAR that looks down by 20 degrees: with TF to base_link, the street is ground."""
    R = Rotation.from_euler("y", 20, degrees=True).as_matrix()
    T = np.eye(4)
    T[:3, :3] = R

    def tilted(stamp: int) -> Any:
        ray, ring = spinning(np.linspace(25, -15, 48))
        xyz, truth = cast(ray @ R.T, ((6.0, 7.0, -0.5, 0.5, 1.4),))
        xyz = (xyz[truth > 0] @ R).astype(np.float32)
        columns = {axis: xyz[:, i].copy() for i, axis in enumerate("xyz")} | {"ring": ring[truth > 0]}
        return ros.cloud_to_message(stamp, "lidar", columns)

    mounted = ros.transforms_to_message([(START_NS, "vehicle", "base_link", T)])
    bag = write_bag(tmp_path / "bag", [0], [4], sweep=tilted, more=[("/tf_static", mounted, START_NS)])
    shares = {}
    from dseg_core.store import FrameStore

    for level in ("", "vehicle"):
        record([bag], tmp_path / f"frames{level}", RecordOptions.from_mapping({"proposals.level": level}))
        frame = next(FrameStore(tmp_path / f"frames{level}").frames())
        z = frame.sweep.xyz @ R.T[:, 2] + HEIGHT
        shares[level] = float(np.mean(frame.proposals[np.abs(z) < 0.05] == 1))
    assert shares["vehicle"] > 0.98 > 0.7 > shares[""]
    with pytest.raises(DsegError, match="no transform connects lidar and nowhere"):
        record([bag], tmp_path / "other", RecordOptions.from_mapping({"proposals.level": "nowhere"}))


@pytest.mark.parametrize("method", ["range_image", "euclidean"])
@pytest.mark.parametrize("height", [0.5, 5.2, 8.0])
def test_a_lidar_of_any_height(method: str, height: float) -> None:
    """On a robot, a bus or a crane: the street with the boxes, nearer or farther below."""
    ray, ring = spinning(np.linspace(4, -40, 64))
    xyz, truth = cast(ray, ((8.0, 10.0, -3.0, -1.0, 2.1), (8.0, 10.0, 1.0, 3.0, 2.1)))
    hit = truth > 0
    sweep = Sweep(0, "lidar", xyz[hit] * np.float32(height / HEIGHT), ring=ring[hit])
    found = proposals_from_sweep(sweep, ProposalOptions(method=method))
    assert np.mean(found[truth[hit] == 1] == 1) > 0.9
    assert np.mean(found[truth[hit] > 1] > 1) > 0.8


@pytest.mark.parametrize("method", ["range_image", "euclidean"])
def test_ground_far_away(method: str) -> None:
    """Seen by those that measure over 120 m: a street on which boxes 130 and 150 m away stand apart."""
    boxes = ((43.0, 45.0, -3.0, -1.5, 2.0), (50.0, 52.0, 1.5, 3.0, 2.0))
    table = np.append(np.arange(0.5, -4, -0.05), np.arange(-4, -30, -0.5))
    e, a = np.meshgrid(table, np.arange(-12, 12, 0.1), indexing="ij")
    xyz, truth = cast(directions(e, a).reshape(-1, 3), boxes)
    sweep, truth = measured(xyz * np.float32(3), truth, np.repeat(np.arange(len(e), dtype=np.uint16), e.shape[1]))
    found = proposals_from_sweep(sweep, replace(OPTIONS, method=method))
    beyond = np.hypot(*sweep.xyz[:, :2].T) > 121
    assert np.count_nonzero(beyond & (truth == 1)) > 500
    agrees(found[beyond], truth[beyond])


def test_a_recording_with_hardly_any_ground_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upside down, and nothing tells: the street hangs over the LiDAR."""
    ray, ring = spinning(np.linspace(4, -26, 48))
    xyz, truth = cast(ray, TWO)

    def turned(stamp: int, up: int) -> Any:
        points = xyz[truth > 0] * np.array([1, up, up], np.float32)
        columns = {axis: points[:, i].copy() for i, axis in enumerate("xyz")} | {"ring": ring[truth > 0]}
        return ros.cloud_to_message(stamp, "lidar", columns)

    for up in (1, -1):
        bag = write_bag(tmp_path / f"bag{up}", [0], [4], sweep=lambda stamp, up=up: turned(stamp, up))
        text = record([bag], tmp_path / f"frames{up}", RecordOptions()).text
        assert ("of the points are ground: see that z points up" in text) == (up < 0)
        with monkeypatch.context() as context:  # what is known is told again, without a look at any frame
            context.setattr("dseg_core.frames_from_bag.FrameStore", lambda _: 1 // 0)
            again = record([bag], tmp_path / f"frames{up}", RecordOptions()).text
        assert ("of the points are ground: see that z points up" in again) == (up < 0)
