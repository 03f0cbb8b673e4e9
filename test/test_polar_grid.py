"""Cells of the polar grid, against a search among the edges of bins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dseg_core.lidar.points import points_of
from dseg_core.lidar.polar_grid import FAR_REACH, REACH, SECTORS, polar_grid


def ring(distance: np.ndarray, azimuth: float = 0.3) -> np.ndarray:
    return np.stack([distance * np.cos(azimuth), distance * np.sin(azimuth), 0 * distance], axis=1).astype(np.float32)


@pytest.mark.parametrize("reach", [REACH, FAR_REACH])
def test_each_quarter_of_a_metre_lies_in_the_bin_of_its_middle(reach: float) -> None:
    """The polynomial that numbers bins has no step at a wrong place."""
    steps = np.arange(2, int(4 * reach))
    xyz = np.concatenate([ring(steps / 4 + 0.01), ring(steps / 4 + 0.24), ring(np.array([reach - 0.1, reach + 0.1]))])
    xyz = xyz if reach == FAR_REACH else xyz[:-1]
    place, edges = polar_grid(points_of(xyz))
    assert edges[-1] >= reach and np.all(np.diff(edges) >= np.maximum(1.0, 0.06 * edges[:-1]) - 1e-9)
    expected = np.searchsorted(edges, steps / 4 + 0.125, side="right") - 1
    np.testing.assert_array_equal(place[: 2 * len(steps)] // SECTORS, np.tile(expected, 2))
    assert place[2 * len(steps)] // SECTORS == len(edges) - 2
    assert reach == REACH or place[-1] == -1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 300))
def test_sectors_are_those_of_the_azimuth_and_what_is_not_measured_has_no_cell(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    azimuth, distance = rng.uniform(0, 2 * np.pi, count), rng.uniform(1, 100, count)
    xyz = np.stack([distance * np.cos(azimuth), distance * np.sin(azimuth), rng.normal(size=count)], axis=1)
    missing = rng.random(count) < 0.2
    xyz[missing] = rng.choice([0.0, np.nan])
    place, edges = polar_grid(points_of(xyz.astype(np.float32)))
    np.testing.assert_array_equal(place < 0, missing)
    turn = azimuth * SECTORS / (2 * np.pi)
    clear = ~missing & (np.abs(turn - np.round(turn)) > 1e-2)
    np.testing.assert_array_equal(place[clear] % SECTORS, turn[clear].astype(int))
    assert np.all(
        np.abs(distance - edges[place // SECTORS])[~missing] < np.diff(edges)[place[~missing] // SECTORS] + 0.25
    )
