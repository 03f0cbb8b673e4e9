"""Beams are recovered from the order of points, wherever on the turn each of them begins."""

from __future__ import annotations

import lidars
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dseg_core.lidar.points import points_of
from dseg_core.lidar.rows import rows_of
from dseg_core.lidar.rows_by_order import rows_by_turns
from dseg_core.records import Sweep

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
)
@example(beams=64, start=180.0, clockwise=True, tilt=0.0, lost=0.0)
def test_no_beam_is_cut_in_two(beams: int, start: float, clockwise: bool, tilt: float, lost: float) -> None:
    xyz, ring = turn(beams, start, clockwise, tilt, lost)
    starts = rows_by_turns(points_of(xyz))
    found = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    assert len(np.unique(found)) == len(np.unique(ring))
    truth = np.unique(ring, return_inverse=True)[1]
    # Where a LiDAR leans, its beams begin at azimuths that differ a little.
    assert (found == truth).mean() > (0.998 if lost or tilt else 0.99999)


def test_a_cloud_that_begins_behind_has_as_many_rows_as_beams_at_their_elevations() -> None:
    xyz, _ = turn(64, 180.0, True, 0.0, 0.0)
    rows = rows_of(Sweep(0, "lidar", xyz))
    assert rows is not None and len(rows) == 64
    assert np.rad2deg(rows.elevation) == pytest.approx(np.linspace(3, -24, 64), abs=0.02)
