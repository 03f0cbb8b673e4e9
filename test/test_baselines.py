"""The colour baseline on pictures whose answer is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dseg_core.descriptors import color_descriptors
from dseg_core.errors import DsegError
from dseg_core.evaluation.baselines import (
    CELL,
    SIGMA,
    FeatureClusters,
    FeatureSample,
    cell_features,
    colour_features,
)
from dseg_core.evaluation.ladder import baseline_predictor
from dseg_core.evaluation.truth import TruthView


def two_colours(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = np.zeros((60, 90), np.uint8)
    truth[:, 45:] = 1
    rgb = np.where(truth[..., None] == 0, [200, 60, 40], [40, 80, 190]) + random.normal(0, 3, (60, 90, 3))
    return np.clip(rgb, 0, 255).astype(np.uint8), truth


def test_two_colours_come_apart_and_the_border_is_narrow() -> None:
    sample = FeatureSample(2)
    for seed in (0, 1):
        sample.add(colour_features(two_colours(seed)[0]))
    for baseline in sample.fit(2, range(3)):
        rgb, truth = two_colours(5)
        mask = baseline.predict(colour_features(rgb))
        away = np.abs(np.arange(90) - 44.5) > 3 * SIGMA
        same = (mask == truth)[:, away]
        assert same.all() or not same.any()


def test_features_are_local_mean_and_deviation() -> None:
    """Against a window built by hand at one pixel."""
    rgb = np.random.default_rng(0).integers(0, 256, (41, 41, 3), dtype=np.uint8)
    features = colour_features(rgb)
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).astype(float)
    row, column = np.mgrid[-20:21, -20:21]
    weight = np.exp(-(row**2 + column**2) / (2 * SIGMA**2))[..., None]
    weight = weight / weight.sum()
    mean = (weight * lab).sum((0, 1))
    deviation = np.sqrt((weight * lab**2).sum((0, 1)) - mean**2)
    np.testing.assert_allclose(features[20, 20], [*mean, *deviation], rtol=2e-3, atol=0.02)


def test_flat_colour_has_no_deviation() -> None:
    features = colour_features(np.full((30, 30, 3), 90, np.uint8))
    assert np.abs(features[..., 3:]).max() < 0.1 and np.ptp(features[..., 0]) < 1e-3


def test_fit_repeats_and_seeds_differ() -> None:
    def fitted(seeds: tuple[int, ...]) -> list[np.ndarray]:
        sample = FeatureSample(1)
        rgb = np.random.default_rng(3).integers(0, 256, (50, 50, 3), dtype=np.uint8)
        sample.add(colour_features(rgb))
        return [baseline.centroids for baseline in sample.fit(8, seeds)]

    first, other = fitted((0, 1))
    np.testing.assert_array_equal(first, fitted((0,))[0])
    assert not np.array_equal(first, other)


def test_too_few_pixels_are_an_error() -> None:
    sample = FeatureSample(1)
    sample.add(colour_features(np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(DsegError, match="4 places, fewer than 5 clusters"):
        sample.fit(5, (0,))


def test_cells_are_those_of_the_labels_own_measure() -> None:
    """Each square is described as if it were a region alone in its image; textures come apart where colours agree."""
    random = np.random.default_rng(0)
    rgb = np.full((40, 70, 3), 128, np.uint8)
    rgb[:, 32:] = random.integers(0, 2, (40, 38, 1)) * 255
    features = cell_features(rgb, None)
    assert features.shape[:2] == (3, 5)
    alone = color_descriptors(rgb, np.pad(np.ones((CELL, CELL), int), ((16, 8), (0, 54))), np.array([1]))
    np.testing.assert_allclose(features[1, 0], alone[0], rtol=1e-5)
    sample = FeatureSample(1)
    sample.add(features)
    (clusters,) = sample.fit(2, (0,))
    mask = clusters.predict(features)
    assert len(np.unique(mask[:, :2])) == 1 and len(np.unique(mask[:, 2:])) == 1 and mask[0, 0] != mask[0, 2]


def test_a_cell_covers_its_own_pixels() -> None:
    """Whatever is left of the image's last cells."""
    places = np.arange(7 * 4, dtype=np.float32).reshape(7, 4, 1)  # of an image of 100 x 50
    clusters = FeatureClusters(places.reshape(-1, 1), np.ones(1, np.float32))
    predictor = baseline_predictor("cells", lambda rgb: places, [clusters])
    view = TruthView("", np.zeros((100, 50, 3), np.uint8), np.zeros((100, 50), np.uint8), None)
    (mask,) = predictor.predict(view).values()
    row, column = np.indices((100, 50)) // CELL
    np.testing.assert_array_equal(mask, row * 4 + column)
