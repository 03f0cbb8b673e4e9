"""Clouds of several LiDARs are told from those of one, however that one is tilted, bent, or sends two returns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lidars
import numpy as np
import pytest
from bags import write_bag
from scipy.spatial.transform import Rotation

from dseg_core import messages as ros
from dseg_core.frames_from_bag import record
from dseg_core.lidar.beams_note import beams_note
from dseg_core.lidar.one_origin import has_one_origin
from dseg_core.lidar.points import points_of
from dseg_core.lidar.rows import ELEVATIONS, ORDER, RINGS, Rows, found_rows, rows_of
from dseg_core.proposals_from_sweep import method_of, proposals_from_sweep
from dseg_core.records import Sweep
from dseg_core.stage_options import ProposalOptions, RecordOptions

BOXES = (
    (8.0, 12.0, -2.0, 2.0, 1.6),
    (-20.0, -14.0, 5.0, 9.0, 4.0),
    (-3.0, 3.0, -9.0, -8.0, 3.0),
    (20.0, 21.0, -30.0, 30.0, 12.0),
    (-30.0, 30.0, 20.0, 21.0, 12.0),
)
TABLES = {
    16: np.linspace(15, -15, 16),
    32: np.linspace(10, -30, 32),
    64: np.linspace(2, -24, 64),
    128: np.linspace(22, -22, 128),
}
CAR = 2


def seen(beams: int, at: tuple[float, float, float], columns: int = 720) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (N, 3) in a common frame, rings and truth, of a LiDAR that is mounted there."""
    rays, ring = lidars.spinning(TABLES[beams], columns)
    boxes = tuple((x0 - at[0], x1 - at[0], y0 - at[1], y1 - at[1], *z) for x0, x1, y0, y1, *z in BOXES)
    xyz, truth = lidars.cast(rays, boxes)
    return (xyz + np.array(at, np.float32))[truth > 0], ring[truth > 0], truth[truth > 0]


def two(beams: int, at: tuple[float, float, float], rings: str) -> tuple[Sweep, np.ndarray]:
    """One cloud of two LiDARs: with the same rings, with each its own, or with none."""
    (one, ring, truth), (other, other_ring, other_truth) = seen(beams, (0.0, 0.0, 0.0)), seen(beams, at)
    numbers = np.concatenate([ring, other_ring + (beams if rings == "own" else 0)]).astype(np.uint16)
    cloud = Sweep(0, "lidar", np.concatenate([one, other]), ring=None if rings == "none" else numbers)
    return cloud, np.concatenate([truth, other_truth])


@pytest.mark.parametrize("beams", TABLES)
@pytest.mark.parametrize("at", [(1.2, 0.0, 0.0), (0.0, 0.6, 0.0), (2.5, 0.5, 0.0)])
@pytest.mark.parametrize("rings", ["same", "own", "none"])
def test_several_lidars_in_one_cloud_have_no_beams(beams: int, at: tuple[float, float, float], rings: str) -> None:
    if (beams, at, rings) == (16, (0.0, 0.6, 0.0), "same"):
        pytest.skip("they see less differently than the width between their beams")
    cloud, _ = two(beams, at, rings)
    found = found_rows(cloud)
    assert found.rows is None and found.refused[-1] == ORDER and (rings == "none" or found.refused[0] == RINGS)
    assert method_of(cloud, ProposalOptions()) == "euclidean"
    note = beams_note(cloud)
    assert "no beams of one LiDAR" in note and "--topics.lidar, --topics.other-lidars" in note


@pytest.mark.parametrize("beams", TABLES)
@pytest.mark.parametrize("tilt", [0, 20, 40])
@pytest.mark.parametrize("rings", [True, False])
def test_tilted_beams_are_of_one(beams: int, tilt: float, rings: bool) -> None:
    """In a level frame, as after `tf2`: their elevations change all round."""
    rays, ring = lidars.spinning(TABLES[beams], 720)
    xyz, truth = lidars.cast(rays @ Rotation.from_euler("y", tilt, degrees=True).as_matrix().T, BOXES)
    xyz, ring = xyz[truth > 0], ring[truth > 0].astype(np.uint16)
    step = 2 * np.pi / 720
    present = np.unique(ring)
    means = [np.arctan2(xyz[ring == r, 2], np.hypot(*xyz[ring == r, :2].T)).mean() for r in present]
    row = np.argsort(np.argsort(means)[::-1])[np.searchsorted(present, ring)].astype(np.uint16)
    rows = Rows(row, np.sort(means)[::-1].astype(np.float32), step)
    assert has_one_origin(rows.row, len(rows), rows.step, rows.apart(), points_of(xyz))


@pytest.mark.parametrize("rings", [True, False])
@pytest.mark.parametrize("shuffled", [True, False])
def test_second_returns_are_of_one(rings: bool, shuffled: bool) -> None:
    """In the same direction, half as far again behind half of all points, one after the other."""
    xyz, ring, _ = seen(64, (0.0, 0.0, 0.0))
    again = np.repeat(np.arange(len(xyz)), np.random.default_rng(0).integers(1, 3, len(xyz)))
    further = np.concatenate([[False], np.diff(again) == 0])
    cloud, ring = (xyz[again] * np.where(further, 1.5, 1.0)[:, None]).astype(np.float32), ring[again]
    if shuffled:
        order = np.random.default_rng(1).permutation(len(cloud))
        cloud, ring = cloud[order], ring[order]
    sweep = Sweep(0, "lidar", cloud, ring=ring if rings else None)
    found = found_rows(sweep)
    assert found.rows is not None and len(found.rows) == 64 and not found.refused
    assert found.source == (RINGS if rings else ELEVATIONS if shuffled else ORDER)
    assert not beams_note(sweep)


def test_cars_of_two_lidars_are_apart_from_the_street() -> None:
    """With rings believed, the car ahead was one object with what is round it."""
    cloud, truth = two(64, (1.0, 0.4, 0.0), "same")
    found = proposals_from_sweep(cloud, ProposalOptions())
    ids, counts = np.unique(found[truth == CAR], return_counts=True)
    car = ids[counts.argmax()]
    assert car > 1 and np.mean(truth[found == car] == CAR) > 0.95 and np.mean(found[truth == CAR] == car) > 0.8
    assert np.mean(found[truth == 1] == 1) > 0.9


@pytest.mark.parametrize("wrong", [0.3, 1.0])
def test_rings_that_are_wrong_are_not_used_and_it_is_said(wrong: float) -> None:
    xyz, ring, _ = seen(64, (0.0, 0.0, 0.0))
    rng = np.random.default_rng(0)
    noise = np.where(rng.random(len(ring)) < wrong, rng.integers(0, 64, len(ring)), ring).astype(np.uint16)
    alone, sweep = rows_of(Sweep(0, "lidar", xyz)), Sweep(0, "lidar", xyz, ring=noise)
    found = found_rows(sweep)
    assert alone is not None and found.rows is not None
    assert (found.source, found.refused) == (ORDER, (RINGS,))
    np.testing.assert_array_equal(found.rows.row, alone.row)
    assert beams_note(sweep).endswith(", beams are told by the order of points: check its driver")


def test_a_recording_says_once_what_to_do(tmp_path: Path) -> None:
    cloud, _ = two(16, (1.2, 0.0, 0.0), "same")

    def sweep(stamp: int) -> Any:
        columns = {axis: cloud.xyz[:, i].copy() for i, axis in enumerate("xyz")}
        return ros.cloud_to_message(stamp, "lidar", columns | {"ring": cloud.ring})

    done = record([write_bag(tmp_path / "bag", sweep=sweep)], tmp_path / "frames", RecordOptions())
    assert "second returns" not in done.text, "points at one azimuth, of one ring, are of both"
    assert done.text.count("points of lidar show no beams of one LiDAR") == 1
    assert "(--topics.lidar, --topics.other-lidars) (3 sweeps)" in " ".join(done.text.split())
