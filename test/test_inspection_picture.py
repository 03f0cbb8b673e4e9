"""The picture of `dseg inspect`: what its legend says is how its points are painted."""

from __future__ import annotations

import numpy as np
import pytest

from dseg_core.cameras import Camera
from dseg_core.inspection.alignment import EdgePair
from dseg_core.inspection.calibration_check import Example
from dseg_core.inspection.picture import picture

LEGEND, TITLE = 26, 26  # rows
BLANK = np.zeros((2, 100, 800), np.uint8)


@pytest.mark.parametrize(("metres", "number"), [(3, 0), (5, 1), (10, 2), (20, 3), (40, 4), (60, 5)])
def test_a_point_has_the_colour_that_the_legend_gives_its_depth(metres: int, number: int) -> None:
    """And no other of the legend's; edges are white, in both."""
    pinhole = Camera.pinhole("optical", 800, 100, 400.0, 400.0, 399.5, 49.5)
    point = np.array([[0.0, 0.0, metres]], np.float32)
    still = np.zeros((1, 3), np.float32)
    aside = np.array([[0.25 * metres, 0.0, metres]], np.float32)  # 100 pixels to the right
    edges = EdgePair(aside, still, np.zeros(1, np.uint8), np.ones(1, np.float32), np.zeros(1, np.int64), BLANK)
    example = Example(np.zeros((100, 800, 3), np.uint8), point, still, edges, pinhole)
    drawn = picture({"front": example}, {"front": {"verdict": "good", "score": 1.0}}, {})
    assert drawn.shape == (LEGEND + TITLE + 100, 800, 3)
    legend, image = drawn[:LEGEND].reshape(-1, 3), drawn[LEGEND + TITLE :]
    shown = image[50, 400]
    colors, counts = np.unique(legend, axis=0, return_counts=True)
    swatches = [color for color, count in zip(colors, counts, strict=True) if count >= 11 * 22 and np.ptp(color) > 30]
    assert len(swatches) == 6
    nearest = min(swatches, key=lambda swatch: abs(swatch.astype(int) - shown).sum())
    np.testing.assert_array_equal(shown, nearest)
    left = [np.nonzero((drawn[13] == swatch).all(axis=1))[0][0] for swatch in swatches]
    order = [tuple(swatches[k]) for k in np.argsort(left)]
    assert order.index(tuple(shown)) == number, "3, 5, 10, 20, 40, 60 m from the left"
    assert (image[50, 500] == 255).all() and (legend == 255).all(axis=1).sum() >= 11 * 4
