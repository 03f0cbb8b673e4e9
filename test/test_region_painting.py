"""Painting against the plain way to do it, pixel by pixel."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dseg_core.region_painting import close_gaps, paint


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 6), st.integers(1, 200))
def test_gaps_are_closed_as_one_pixel_after_the_other_would(seed: int, most: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    regions = rng.integers(0, 4, (12, width)).repeat(rng.integers(1, 3), axis=1).astype(np.uint16)
    regions[rng.random(regions.shape) < rng.uniform(0, 0.9)] = 0
    expected = regions.copy()
    for lines in (expected, expected.T):  # rows, then columns
        for line in lines:
            painted = np.flatnonzero(line)
            for before, after in pairwise(painted):
                if after - before <= most + 1 and line[before] == line[after]:
                    line[before:after] = line[before]
    close_gaps(regions, most, np.ones(regions.shape, np.float32), 0.0)
    np.testing.assert_array_equal(regions, expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_the_nearest_patch_is_seen_and_of_one_surface_the_nearest_centre(seed: int) -> None:
    """Distances are far apart, or the same: then the order of painting does not matter, and the answer is known."""
    rng = np.random.default_rng(seed)
    shape, n, surface = (30, 40), 25, 0.02
    uv, size = rng.uniform(-3, 43, (n, 2)), rng.uniform(0.5, 6, (n, 4)).astype(np.float32)
    depth = rng.choice(np.array([5, 8, 12], np.float32), n)
    ids, hidden = rng.integers(1, 9, n).astype(np.uint16), rng.random(n) < 0.2
    regions = np.zeros(shape, np.uint16)
    painted = paint(uv, depth, ids, size, hidden, surface, regions)
    y, x = np.mgrid[: shape[0], : shape[1]]
    down = y[..., None] - uv[:, 1]  # (H, W, N)
    down = down / np.where(down > 0, size[:, 3], size[:, 2])
    across = x[..., None] - uv[:, 0]
    across = across / np.where(across > 0, size[:, 1], size[:, 0])
    covers = (np.abs(down) <= 1) & (np.abs(across) <= 1) & ~hidden
    away = (down**2 + across**2).astype(np.float32)
    rank = np.where(covers, depth * 100 + away, np.inf)
    expected = np.where(covers.any(axis=-1), ids[rank.argmin(axis=-1)], 0)
    np.testing.assert_array_equal(regions, expected)
    nearest = np.where(covers, depth, np.inf).min(axis=-1)
    np.testing.assert_array_equal(painted, nearest)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 12))
def test_windows_are_closed_where_one_object_is_on_all_sides_but_the_upper(seed: int, most: int) -> None:
    """Against a look at every pixel by itself; objects lie at two depths, of which the farther closes half as much."""
    rng = np.random.default_rng(seed)
    regions = rng.integers(0, 4, (14, 17)).repeat(rng.integers(1, 4), axis=1).astype(np.uint16)
    regions[rng.random(regions.shape) < rng.uniform(0.2, 0.9)] = 0
    depth = np.where(regions == 3, 2.0, 1.0).astype(np.float32)
    expected = regions.copy()
    beside = np.zeros_like(regions)  # whose a pixel is by what is on its left and right
    for row, owners in zip(regions, beside, strict=True):
        for before, after in pairwise(np.flatnonzero(row)):
            number = row[before]
            if number == row[after] > 1 and after - before - 1 <= int((most + 0.5) / (2 if number == 3 else 1)):
                owners[before + 1 : after] = number
    for x, y in np.argwhere(regions.T > 1):
        number, limit = regions[y, x], (most + 0.5) / depth[y, x]
        above = np.flatnonzero(regions[:y, x])
        top = above[-1] if len(above) else -1
        if top >= 0 and regions[top, x] == number and y - top - 1 <= int(limit):
            inside = [b for b in range(top + 1, y) if beside[b, x] == number]
        else:
            inside = []
            for b in range(y - 1, max(top, y - 1 - int(limit / 2)), -1):
                if beside[b, x] != number:
                    break
                inside.append(b)
        expected[inside, x] = number
    close_gaps(regions, 0, depth, most + 0.5)
    np.testing.assert_array_equal(regions, expected)
