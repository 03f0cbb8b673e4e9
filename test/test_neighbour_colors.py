"""Regions that lie side by side are painted unlike."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dseg_core.class_colors import GROUND, WELL_APART, object_colors
from dseg_core.records import REGION_FIRST_OBJECT
from dseg_core.reporting.neighbour_colors import neighbour_colors


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Delta E of two colours, uint8 (3,)."""
    lab = cv2.cvtColor(np.stack([one, other])[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    return float(np.linalg.norm(lab[0] - lab[1]))


@given(st.lists(st.integers(0, 60), min_size=36, max_size=36))
def test_regions_that_touch_differ_well(ids: list[int]) -> None:
    """Squares of any ids, as often as they come, whose colours would be alike by their ids."""
    table = np.array([0, 1, *(2 + WELL_APART * k for k in range(60))], np.uint16)
    regions = table[np.array(ids)].reshape(6, 6).repeat(9, 0).repeat(9, 1)
    colors = neighbour_colors(regions)
    for one, other in ((regions[:-1], regions[1:]), (regions[:, :-1], regions[:, 1:])):
        touching = (one != other) & (one >= REGION_FIRST_OBJECT) & (other >= REGION_FIRST_OBJECT)
        for a, b in {(int(a), int(b)) for a, b in zip(one[touching], other[touching], strict=True)}:
            assert difference(colors[a], colors[b]) > 40, (a, b)


@pytest.mark.parametrize("width", [320, 1242])
@pytest.mark.parametrize("gap", [1, 20, 36])
def test_regions_with_a_gap_between_them_differ_well(width: int, gap: int) -> None:
    """Two people of ids that have one colour, so many pixels apart in an image of 1242, in each of four directions."""
    apart = max(1, round(gap * width / 1242))
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        regions = np.zeros((width, width), np.uint16)
        row, column = width // 2, width // 2
        regions[row : row + 16, column : column + 16] = 7
        row, column = row + down * (16 + apart), column + right * (16 + apart)
        regions[row : row + 16, column : column + 16] = 7 + WELL_APART
        colors = neighbour_colors(regions)
        assert difference(colors[7], colors[7 + WELL_APART]) > 40, (down, right)


def test_whoever_has_no_neighbours_keeps_its_own_colour_and_the_same_picture_its_colours() -> None:
    regions = np.zeros((100, 400), np.uint16)
    regions[:, 200:] = 1
    regions[40:60, 40:60], regions[40:60, 340:360] = 5, 6
    colors = neighbour_colors(regions, 70)
    np.testing.assert_array_equal(colors, object_colors(70))
    assert tuple(colors[1]) == GROUND
    crowd = np.random.default_rng(0).integers(0, 90, (20, 40)).astype(np.uint16).repeat(4, 0).repeat(4, 1)
    np.testing.assert_array_equal(neighbour_colors(crowd), neighbour_colors(crowd))
    assert neighbour_colors(np.zeros((1, 1), np.uint16)).shape == (2, 3)
