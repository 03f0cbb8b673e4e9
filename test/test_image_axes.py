"""Where a network's input lies over an image, against OpenCV and against sums of fractions."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dseg_core.networks.image_axes import Axis, axes_of

CPU = torch.device("cpu")
SIDE = st.integers(1, 200)


def resampled(axis: Axis, signal: np.ndarray) -> np.ndarray:
    first, second, weight = (part.numpy() for part in axis.samples(CPU))
    assert first.shape == second.shape == weight.shape == (axis.length,)
    return np.asarray(signal[first] * (1 - weight) + signal[second] * weight)


@given(SIDE, SIDE, st.integers(0, 2**32 - 1))
def test_stretched_samples_are_opencvs_bilinear_ones(pixels: int, length: int, seed: int) -> None:
    signal = np.random.default_rng(seed).random(pixels).astype(np.float32)
    axis, other = axes_of((pixels, 7), (length, 7), "stretch")
    expected = cv2.resize(signal[:, None], (1, length), interpolation=cv2.INTER_LINEAR)[:, 0]
    np.testing.assert_allclose(resampled(axis, signal), expected, atol=1e-4)
    assert other.same and not (axis.margins or other.margins)


@given(SIDE, SIDE, SIDE, SIDE)
def test_letterbox_keeps_the_aspect_and_touches_two_sides(height: int, width: int, rows: int, columns: int) -> None:
    down, across = axes_of((height, width), (rows, columns), "letterbox")
    assert down.inside == rows or across.inside == columns
    assert 1 <= down.inside <= rows and 1 <= across.inside <= columns
    scale = min(Fraction(rows, height), Fraction(columns, width))
    assert abs(down.inside - max(1, height * scale)) <= Fraction(1, 2)
    assert abs(across.inside - max(1, width * scale)) <= Fraction(1, 2)
    for axis in (down, across):
        after = axis.length - axis.start - axis.inside
        assert 0 <= after - axis.start <= 1
        signal = np.random.default_rng(0).random(axis.pixels).astype(np.float32)
        inside = axis.image_inside(CPU).numpy().astype(bool)
        expected = cv2.resize(signal[:, None], (1, axis.inside), interpolation=cv2.INTER_LINEAR)[:, 0]
        np.testing.assert_allclose(resampled(axis, signal)[inside], expected, atol=1e-4)
        assert inside.sum() == axis.inside and inside[axis.start]


@given(SIDE, SIDE, st.data())
def test_pixels_take_the_cell_that_they_begin_in(pixels: int, length: int, data: st.DataObject) -> None:
    inside = data.draw(st.integers(1, length))
    start, count = data.draw(st.integers(0, length - inside)), data.draw(st.integers(1, length))
    found = Axis(pixels, length, inside, start).cells(count, CPU).tolist()
    assert found == [floor((start + Fraction(y * inside, pixels)) * count / length) for y in range(pixels)]


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("image", [(75, 122), (200, 90), (31, 33)])
def test_sums_in_a_graph_give_what_constants_do(fit: str, image: tuple[int, int]) -> None:
    """Sides that torch knows only by symbols, as in graphs for any size."""

    class Sums(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            axes = axes_of((x.shape[0], x.shape[1]), (64, 96), fit)
            parts = [(*axis.samples(CPU), axis.image_inside(CPU), axis.cells(axis.length // 4, CPU)) for axis in axes]
            return [part for parts_of_axis in parts for part in parts_of_axis]

    free = {"x": {0: torch.export.Dim("height", min=16, max=400), 1: torch.export.Dim("width", min=16, max=400)}}
    program = torch.export.export(Sums(), (torch.zeros(50, 60),), dynamic_shapes=free)
    x = torch.zeros(image)
    for symbolic, fixed in zip(program.module()(x), Sums()(x), strict=True):
        torch.testing.assert_close(symbolic, fixed, rtol=0, atol=1e-6)
