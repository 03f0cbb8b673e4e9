"""Sizes that suit a network, and stretching that is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dseg_core.image_sizes import aspect_note, network_size, usual_size


@pytest.mark.parametrize(
    ("image", "size"), [((375, 1242), (192, 640)), ((192, 640), (192, 640)), ((480, 640), (288, 384))]
)
def test_network_sizes_of_known_cameras(image: tuple[int, int], size: tuple[int, int]) -> None:
    assert network_size(image) == size


@given(st.integers(200, 4000), st.floats(0.5, 4))
def test_network_size_keeps_the_aspect_and_costs_alike(height: int, aspect: float) -> None:
    image = (height, round(height * aspect))
    found = network_size(image)
    assert found[0] % 32 == found[1] % 32 == 0
    assert 0.7 * 122_880 < found[0] * found[1] < 1.4 * 122_880
    assert not aspect_note(image, found, "")


def test_a_side_that_was_chosen_stays() -> None:
    assert network_size((900, 1600), 96, 500) == (96, 500)
    assert network_size((900, 1600), height=288) == (288, 512)
    assert network_size((900, 1600), width=512) == (288, 512)


def test_uneven_stretching_is_told_both_ways() -> None:
    told = "WARNING: 1600x900 stretched to 1242x375 changes the aspect by 86%: masks may be wrong"
    assert aspect_note((900, 1600), (375, 1242), "masks may be wrong") == told
    assert "by 86%" in aspect_note((375, 1242), (900, 1600), "")
    assert not aspect_note((100, 119), (100, 100), "") and aspect_note((100, 121), (100, 100), "")


def test_usual_size_is_the_most_frequent() -> None:
    assert usual_size([(1, 2), (3, 4), (3, 4)]) == (3, 4)
    assert usual_size([(1, 2), (3, 4)]) == (1, 2)
