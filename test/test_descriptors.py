"""Descriptors against shapes whose numbers are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dseg_core.descriptors import (
    COLOR_COLUMNS,
    ORIENTATIONS,
    SHAPE_COLUMNS,
    color_descriptors,
    heights_over_ground,
    shape_descriptors,
)

SENSOR = 1.7  # height of the LiDAR over the ground [m]


def ground(random: np.random.Generator) -> NDArray[np.float64]:
    xy = random.uniform(-30, 30, (6000, 2))
    return np.column_stack([xy, np.full(len(xy), -SENSOR)])


def box(
    random: np.random.Generator, low: tuple[float, ...], size: tuple[float, ...], count: int
) -> NDArray[np.float64]:
    return np.asarray(low) + random.uniform(0, 1, (count, 3)) * size


def scene(seed: int = 0, count: int = 1500) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
    """Ground; 2: car-sized box; 3: pole of 4 m; 4: wall along x; 5: a sign's board 2 to 3 m up; 6: a ball."""
    random = np.random.default_rng(seed)
    ball = random.normal(size=(count, 3))
    ball *= (random.uniform(0, 1, count) ** (1 / 3) / np.linalg.norm(ball, axis=1))[:, None]
    parts = [
        ground(random),
        box(random, (8, -3, -SENSOR), (4, 2, 1.5), count),
        box(random, (10, 5, -SENSOR), (0.1, 0.1, 4), count),
        box(random, (-10, 9, -SENSOR), (12, 0.02, 6), count),
        box(random, (6, 6, -SENSOR + 2), (0.02, 1, 1), count),
        ball * 1.5 + (-8, -6, 1),
    ]
    ids = np.repeat(np.arange(1, len(parts) + 1), [len(p) for p in parts])
    return np.concatenate(parts), ids.astype(np.uint16)


def described(xyz: NDArray[np.float64], proposals: NDArray[np.uint16]) -> dict[str, NDArray[np.float32]]:
    values = shape_descriptors(xyz.astype(np.float32), proposals, np.arange(2, 7))
    return dict(zip(SHAPE_COLUMNS, values.T, strict=True))


def test_known_extents_and_dimensionality() -> None:
    got = described(*scene())
    car, pole, wall, sign, ball = range(5)
    assert np.expm1(got["top"][[car, pole, wall, sign]]) == pytest.approx([1.47, 3.92, 5.88, 2.98], abs=0.08)
    assert np.expm1(got["bottom"][sign]) == pytest.approx(2.02, abs=0.05)
    assert np.exp(got["length"]) - 0.1 == pytest.approx([3.9, 0.1, 11.6, 0.96, 2.6], rel=0.1, abs=0.04)
    assert np.exp(got["width"][car]) - 0.1 == pytest.approx(1.92, rel=0.05)
    assert got["linearity"][pole] > 0.95
    assert got["uprightness"][pole] > 0.99
    assert got["planarity"][sign] > 0.9
    assert got["wallness"][[wall, sign]].min() > 0.99
    assert got["local_planarity"][wall] > got["local_planarity"][ball]
    assert got["scattering"][ball] > 0.9


def test_yaw_and_tilt_change_nothing() -> None:
    xyz, proposals = scene()
    yaw, tilt = np.deg2rad(37), np.deg2rad(4)
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    lean = np.array([[np.cos(tilt), 0, np.sin(tilt)], [0, 1, 0], [-np.sin(tilt), 0, np.cos(tilt)]])
    before, after = described(xyz, proposals), described(xyz @ turn.T @ lean.T, proposals)
    for name in SHAPE_COLUMNS:
        if not name.startswith("local"):
            assert after[name][:4] == pytest.approx(before[name][:4], abs=0.06), name


def test_twice_as_far_describes_alike() -> None:
    """A quarter of the points at twice the range: the same object, seen from farther."""
    xyz, proposals = scene(count=4000)
    far = xyz.copy()
    moved = np.zeros(len(xyz), dtype=bool)
    for i in range(2, 7):
        mine = np.flatnonzero(proposals == i)
        far[mine, :2] += xyz[mine, :2].mean(axis=0)
        moved[mine[::4]] = True
    keep = moved | (proposals == 1)
    near, there = described(xyz, proposals), described(far[keep], proposals[keep])
    for name in ("top", "length", "height", "linearity", "planarity", "wallness"):
        has_one = slice(0, 4 if name == "wallness" else 5)  # a ball has no direction
        assert there[name][has_one] == pytest.approx(near[name][has_one], abs=0.08), name
    assert there["area"][1:4] == pytest.approx(near["area"][1:4], abs=0.3)


def test_heights_follow_a_slope() -> None:
    xyz, proposals = scene()
    xyz[:, 2] += 0.05 * xyz[:, 0]
    heights, _ = heights_over_ground(xyz.astype(np.float32), proposals)
    assert np.abs(heights[proposals == 1]).max() < 0.02
    assert heights[proposals == 3].max() == pytest.approx(4.0, abs=0.1)


def test_without_ground_the_lowest_points_are_it() -> None:
    xyz, proposals = scene()
    heights, levelled = heights_over_ground(xyz[proposals > 1].astype(np.float32), proposals[proposals > 1])
    assert heights.max() == pytest.approx(6.0, abs=0.1)
    assert levelled == pytest.approx(xyz[proposals > 1], abs=1e-5)


def test_colour_and_texture_of_known_patches() -> None:
    rgb = np.full((40, 60, 3), 119, dtype=np.uint8)  # L* is 50 there
    rgb[:, 20:40] = np.where(np.arange(20)[None, :, None] % 4 < 2, 0, 255)  # vertical stripes
    rgb[:, 40:] = (255, 0, 0)
    regions = np.repeat(np.array([2, 3, 4], dtype=np.uint16), 20)[None].repeat(40, axis=0)
    regions[:, [0, 19, 20, 39, 40, 59]] = 0
    got = dict(zip(COLOR_COLUMNS, color_descriptors(rgb, regions, np.array([2, 3, 4])).T, strict=True))
    assert got["lightness"][0] == pytest.approx(50, abs=0.5)
    assert [got["a"][2], got["b"][2]] == pytest.approx([80.1, 67.2], abs=0.5)
    assert got["lightness_deviation"] == pytest.approx([0, 50, 0], abs=0.5)
    assert got["orientation_0"][1] > 0.99
    assert got["gradient"][[0, 2]] == pytest.approx([0, 0], abs=0.01)
    assert sum(got[f"orientation_{i}"] for i in range(ORIENTATIONS)) == pytest.approx([1, 1, 1], abs=1e-5)
    assert got["laplacian"][1] > got["laplacian"][0] + 1


def test_colour_equals_a_loop_over_regions() -> None:
    random = np.random.default_rng(3)
    rgb = random.integers(0, 256, (30, 50, 3), dtype=np.uint8)
    regions = random.integers(0, 6, (30, 50)).astype(np.uint16)
    together = color_descriptors(rgb, regions, np.array([2, 4, 5]))
    for row, i in enumerate((2, 4, 5)):
        assert together[row] == pytest.approx(color_descriptors(rgb, regions, np.array([i]))[0], abs=1e-4)
