"""Beams are recovered from the order of points, wherever on the turn each of them begins."""

from __future__ import annotations

import lidars
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dseg_core.lidar.points import points_of
from dseg_core.lidar.rows import rows_of
from dseg_core.lidar.rows_by_order import rows_by_turns
from dseg_core.proposals_from_sweep import proposals_from_sweep
from dseg_core.records import Sweep
from dseg_core.stage_options import ProposalOptions

BOXES = ((8.0, 12.0, -2.0, 2.0, 4.0), (-20.0, -14.0, 5.0, 9.0, 4.0), (-3.0, 3.0, -9.0, -8.0, 3.0))


def turn(beams: int, start: float, clockwise: bool, tilt: float, lost: float) -> tuple[np.ndarray, np.ndarray]:
    """Points beam by beam, each from azimuth `start` [deg] on; points are lost anywhere. Their beams, (N,)."""
    rays, ring = lidars.spinning(np.linspace(-24, 3, beams), 720)
    azimuth = np.deg2rad(start)
    R = np.array([[np.cos(azimuth), -np.sin(azimuth), 0], [np.sin(azimuth), np.cos(azimuth), 0], [0, 0, 1]])
    rays = rays * ((1, -1, 1) if clockwise else (1, 1, 1)) @ R.T
    lean = np.deg2rad(tilt)
    level = np.array([[np.cos(lean), 0, np.sin(lean)], [0, 1, 0], [-np.sin(lean), 0, np.cos(lean)]])
    xyz, truth = lidars.cast(rays, BOXES)
    kept = (truth > 0) & (np.random.default_rng(1).random(len(rays)) >= lost)
    return (xyz[kept] @ level.T).astype(np.float32), ring[kept]


@given(
    beams=st.sampled_from([16, 32, 64]),
    start=st.sampled_from([0.0, 30.0, 90.0, 180.0, 200.0, 359.0]),
    clockwise=st.booleans(),
    tilt=st.sampled_from([0.0, 2.0]),
    lost=st.sampled_from([0.0, 0.02]),
    misses=st.sampled_from([0.0, 0.3]),
)
@example(beams=64, start=180.0, clockwise=True, tilt=0.0, lost=0.0, misses=0.0)
def test_no_beam_is_cut_in_two(
    beams: int, start: float, clockwise: bool, tilt: float, lost: float, misses: float
) -> None:
    """Whatever points are lost, and whatever others come without a measurement."""
    xyz, ring = turn(beams, start, clockwise, tilt, lost)
    rng = np.random.default_rng(2)
    measured = rng.random(len(xyz) + int(misses * len(xyz))) >= misses / (1 + misses)
    measured[np.flatnonzero(measured)[len(xyz) :]] = False
    xyz, ring = xyz[: measured.sum()], ring[: measured.sum()]
    sent = np.full((len(measured), 3), np.nan, dtype=np.float32)
    sent[measured] = xyz
    starts = rows_by_turns(points_of(sent))[0]
    assert starts[0] == 0 and starts[-1] == len(sent)
    found = np.repeat(np.arange(len(starts) - 1), np.diff(starts))[measured]
    assert len(np.unique(found)) == len(np.unique(ring))
    truth = np.unique(ring, return_inverse=True)[1]
    # Where a LiDAR leans, its beams begin at azimuths that differ a little.
    assert (found == truth).mean() > (0.998 if lost or tilt else 0.99999)


def test_a_cloud_that_begins_behind_has_as_many_rows_as_beams_at_their_elevations() -> None:
    xyz, _ = turn(64, 180.0, True, 0.0, 0.0)
    rows = rows_of(Sweep(0, "lidar", xyz))
    assert rows is not None and len(rows) == 64
    assert np.rad2deg(rows.elevation) == pytest.approx(np.linspace(3, -24, 64), abs=0.02)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.sampled_from([0.0, 0.2]))
def test_rows_of_beams_one_after_another_are_those_of_their_rings(seed: int, clockwise: bool, misses: float) -> None:
    """Beams of any length, from any beam on, stored upwards, downwards or in no order of elevation."""
    rng = np.random.default_rng(seed)
    beams = int(rng.integers(2, 40))
    elevation = rng.permutation(np.linspace(-0.4, 0.1, beams))
    counts, xyz, ring = rng.integers(60, 400, beams), [], []
    for beam in range(beams):
        azimuth = np.sort(rng.choice(400, counts[beam], replace=False)) * 2 * np.pi / 400
        azimuth = (azimuth + 1e-3) * (-1 if clockwise else 1)
        reach = rng.uniform(2, 60, counts[beam])
        planar = np.cos(elevation[beam]) * reach
        z = np.sin(elevation[beam]) * reach
        xyz.append(np.stack([np.cos(azimuth) * planar, np.sin(azimuth) * planar, z], axis=1))
        ring.append(np.full(counts[beam], beam))
    cloud, rings = np.concatenate(xyz).astype(np.float32), np.concatenate(ring).astype(np.uint16)
    measured = rng.random(len(cloud)) >= misses
    cloud[~measured] = 0.0
    points = points_of(cloud)
    starts = rows_by_turns(points)[0]
    assume(len(starts) == beams + 1)  # beams whose first and last points are far apart may run into one another
    found, told = rows_of(Sweep(0, "l", cloud), points), rows_of(Sweep(0, "l", cloud, ring=rings), points)
    assert found is not None and told is not None
    np.testing.assert_array_equal(found.row[measured], told.row[measured])
    np.testing.assert_array_equal(found.row[measured], np.argsort(np.argsort(-elevation))[rings[measured]])
    np.testing.assert_allclose(found.elevation, np.sort(elevation)[::-1], atol=1e-6)
    np.testing.assert_array_equal(found.elevation, told.elevation)
    fullest = np.bincount(rings[measured]).argmax()
    azimuths = np.sort(points.azimuth[measured & (rings == fullest)])
    assert found.step == told.step == pytest.approx(np.median(np.diff(azimuths)), rel=1e-6)


@pytest.mark.parametrize("many", [512, 513])
def test_more_beams_than_any_lidar_has_are_none(many: int) -> None:
    azimuth, elevation = np.arange(40) * 2 * np.pi / 40, np.linspace(0.3, -0.3, many)
    e, a = np.meshgrid(elevation, azimuth, indexing="ij")
    xyz = 9 * np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=-1).reshape(-1, 3)
    assert len(rows_by_turns(points_of(xyz.astype(np.float32)))[0]) == (many + 1 if many == 512 else 0)


def of_the_vehicle(many: int, seed: int = 0) -> np.ndarray:
    """Points in no order, float32 (M, 3), of a vehicle's body below its LiDAR."""
    return np.random.default_rng(seed).uniform((-2.5, -0.9, -0.9), (1.5, 0.9, -0.3), (many, 3)).astype(np.float32)


@pytest.mark.parametrize("where", ["before", "behind", "between"])
@pytest.mark.parametrize("many", [60, 150, 1000])
@pytest.mark.parametrize("misses", [0.0, 0.3])
@pytest.mark.parametrize("tilt", [0.0, 15.0])
def test_stray_points_cost_no_beam(where: str, many: int, misses: float, tilt: float) -> None:
    """Those of beams are of the same rows as without them, and the strays of the nearest ones."""
    xyz, ring = turn(64, 0.0, True, tilt, 0.02)
    rng = np.random.default_rng(3)
    xyz[rng.random(len(xyz)) < misses] = np.nan
    alone = rows_of(Sweep(0, "l", xyz))
    assert alone is not None
    at = {"before": 0, "behind": len(xyz), "between": int(np.searchsorted(ring, 40))}[where]
    found = rows_of(Sweep(0, "l", np.concatenate([xyz[:at], of_the_vehicle(many), xyz[at:]])))
    assert found is not None and len(found) == len(alone)
    measured = np.isfinite(xyz[:, 0])
    beams = np.delete(found.row, np.arange(at, at + many))
    assert (beams == alone.row)[measured].mean() > 0.999
    assert found.step == pytest.approx(alone.step, rel=0.01)
    np.testing.assert_allclose(found.elevation, alone.elevation, atol=2e-3)
    strays = of_the_vehicle(many)
    elevation = np.arctan2(strays[:, 2], np.hypot(strays[:, 0], strays[:, 1]))
    nearest = np.abs(elevation[:, None] - alone.elevation).argmin(axis=1)
    assert (np.abs(found.row[at : at + many].astype(int) - nearest) <= 1).mean() > 0.85
    if where == "behind":  # the first ones may be of the beam before them
        assert (np.abs(found.row[at + 16 : at + many].astype(int) - nearest[16:]) <= 1).all()


def test_an_order_that_strays_spoil_takes_no_ground() -> None:
    """150 points of the vehicle behind a cloud of 40 000 change nothing of the rest."""
    xyz, _ = turn(64, 0.0, True, 0.0, 0.0)
    alone = proposals_from_sweep(Sweep(0, "l", xyz), ProposalOptions())
    found = proposals_from_sweep(Sweep(0, "l", np.concatenate([xyz, of_the_vehicle(150)])), ProposalOptions())
    assert (found[: len(xyz)] == 1).mean() == pytest.approx((alone == 1).mean(), abs=0.01)
    for number in np.unique(alone):
        assert np.bincount(found[: len(xyz)][alone == number]).max() > 0.9 * np.count_nonzero(alone == number)


@pytest.mark.parametrize("backwards", [False, True])
def test_beams_that_go_round_below_beams_that_see_a_part_of_the_turn(backwards: bool) -> None:
    """As over an open place beside a wall: the upper beams meet the wall alone, and end where it does."""
    ray, ring = lidars.spinning(np.linspace(15, -15, 16), 900)
    with np.errstate(divide="ignore"):
        floor, wall = -1.8 / ray[:, 2], 14 / ray[:, 1]
    floor[ray[:, 2] >= 0] = np.inf
    wall[(ray[:, 1] <= 0) | (wall * ray[:, 2] > 6)] = np.inf
    reach = np.minimum(floor, wall)
    seen = reach < 100
    xyz, ring = (ray[seen] * reach[seen, None]).astype(np.float32), ring[seen]
    if backwards:
        xyz = xyz * np.array([1, -1, 1], np.float32)
    found = rows_of(Sweep(0, "lidar", xyz))
    assert found is not None and len(found) == 16
    assert np.mean(found.row == ring) > 0.999, "all but single points at the seam"
