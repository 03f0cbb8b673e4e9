"""What the field of heights grows from and how it is refined, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dseg_core.lidar.ground_field import refine
from dseg_core.lidar.marked import AT_ONCE, list_words
from dseg_core.lidar.points import points_of
from dseg_core.lidar.polar_grid import SECTORS, polar_grid
from dseg_core.lidar.seeds_from_points import seeds_of


def cloud(rng: np.random.Generator, count: int) -> np.ndarray:
    """Points around the sensor, some without a measurement, some beyond the grid, many in the same cells."""
    azimuth, distance = (
        rng.uniform(0, 0.3, count),
        rng.choice([rng.uniform(1, 30, count), rng.uniform(200, 300, count)]),
    )
    xyz = np.stack([distance * np.cos(azimuth), distance * np.sin(azimuth), -1.7 + rng.normal(0, 0.2, count)], axis=1)
    xyz[rng.random(count) < 0.1] = np.nan
    return xyz.astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5000), st.sampled_from([0.05, 0.5, 1.0]))
def test_seeds_are_the_flat_points(seed: int, count: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    xyz = cloud(rng, count)
    points = points_of(xyz)
    grid = polar_grid(points)
    index = np.concatenate([rng.permutation(count), np.full(count // 3, -1)]).astype(np.int32)  # as of cells
    rng.shuffle(index)
    patches = np.repeat(rng.random(len(index) // 20 + 1) < share, 20)[: len(index)]
    flat = patches & (index >= 0) & np.isfinite(xyz[index, 2])
    seeds = seeds_of(points, grid, flat, index)

    is_flat = np.zeros(count, bool)
    is_flat[index[flat]] = True
    np.testing.assert_array_equal(seeds.is_flat, is_flat)
    points_of_seeds = index[flat]
    np.testing.assert_array_equal(seeds.spots // 2 - 1, grid.place[points_of_seeds])
    np.testing.assert_array_equal(seeds.heights, xyz[points_of_seeds, 2])
    on = is_flat & (grid.place >= 0)
    low = np.full(seeds.low.size, np.inf)
    np.minimum.at(low, grid.place[on], xyz[on, 2])
    np.testing.assert_array_equal(seeds.low.ravel(), low)

    accepted = np.isfinite(seeds.low) & (rng.random(seeds.low.shape) < 0.8)
    height = np.where(np.isfinite(seeds.low), seeds.low, 0.5)
    expected, cell = height.ravel().copy(), grid.place
    for p in np.unique(cell[on]):
        z = xyz[on & (cell == p), 2].astype(float)
        expected[p] = z[z < z.min() + 0.2].mean() if accepted.ravel()[p] else expected[p]
    refine(seeds, accepted, height)
    np.testing.assert_allclose(height.ravel(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("level", [-8.3, -1.73, 0.4])
def test_the_height_under_the_sensor_is_where_most_flat_points_are(level: float) -> None:
    rng = np.random.default_rng(0)
    azimuth, distance = rng.uniform(0, 2 * np.pi, 4003), rng.uniform(1, 40, 4003)
    z = np.where((distance > 3) & (distance < 20), level, level + 0.5) + rng.normal(0, 0.01, 4003)
    z[:1500] = level - 1.0  # not flat
    points = points_of(np.stack([distance * np.cos(azimuth), distance * np.sin(azimuth), z], axis=1).astype(np.float32))
    flat = np.arange(4003) >= 1500
    seeds = seeds_of(points, polar_grid(points), flat, np.arange(4003, dtype=np.int32))
    assert seeds.sensor == pytest.approx(level, abs=0.06)
    assert np.isnan(seeds_of(points, polar_grid(points), np.zeros(4003, bool), np.arange(4003, dtype=np.int32)).sensor)
    assert seeds.low.shape[1] == SECTORS


def test_levels_beside_each_other_count_together() -> None:
    z = np.repeat([-1.825, -1.775, -1.725, -3.025], [100, 100, 100, 250])
    azimuth = np.linspace(0, 6, len(z))
    points = points_of(np.stack([10 * np.cos(azimuth), 10 * np.sin(azimuth), z], axis=1).astype(np.float32))
    seeds = seeds_of(points, polar_grid(points), np.ones(len(z), bool), np.arange(len(z), dtype=np.int32))
    assert seeds.sensor == pytest.approx(-1.775, abs=0.01)


@given(st.lists(st.booleans(), max_size=20), st.integers(0, 100))
def test_words_with_any_mark_are_listed(words: list[bool], first: int) -> None:
    rng = np.random.default_rng(len(words))
    marks = np.zeros((len(words), AT_ONCE), bool)
    for w in np.flatnonzero(words):
        marks[w, rng.integers(AT_ONCE)] = True
    chosen = np.empty(len(words) + 1, np.int32)
    count = list_words(marks.reshape(-1).view(np.uint64), first, chosen)
    np.testing.assert_array_equal(chosen[:count], first + AT_ONCE * np.flatnonzero(words))
