"""PNG files of ids, read back by Pillow and OpenCV."""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dseg_core.png_from_ids import png_from_ids


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([np.uint8, np.uint16]), st.integers(1, 700), st.floats(0, 1))
def test_every_reader_finds_the_ids(
    seed: int, dtype: type[np.uint8] | type[np.uint16], width: int, even: float
) -> None:
    """Of areas as regions are, of noise, and of runs of every length."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, np.iinfo(dtype).max + 1, (rng.integers(1, 30), width)).astype(dtype)
    repeated = rng.random(ids.shape) < even
    for y, x in np.argwhere(repeated):  # the pixel to the left, or above
        ids[y, x] = ids[y, x - 1] if rng.random() < 0.5 else ids[y - 1, x]
    ids[rng.random(len(ids)) < even] = rng.integers(0, 256)
    png = png_from_ids(ids)
    with PIL.Image.open(BytesIO(png)) as image:  # which checks the stream's checksum and the chunks'
        np.testing.assert_array_equal(np.asarray(image), ids)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED), ids)


@pytest.mark.parametrize("size", range(255, 270))
def test_runs_as_long_as_the_longest_match(size: int) -> None:
    for dtype in (np.uint8, np.uint16):
        for value in (0, 0xABCD & np.iinfo(dtype).max):
            ids = np.full((3, size), value, dtype)
            with PIL.Image.open(BytesIO(png_from_ids(ids))) as image:
                np.testing.assert_array_equal(np.asarray(image), ids)


def test_a_palette_gives_colours() -> None:
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    palette = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    with PIL.Image.open(BytesIO(png_from_ids(ids, palette.tobytes()))) as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), palette[ids])


def test_even_areas_take_little_room() -> None:
    """As little as zlib's own runs: a match of 258 bytes takes 13 bits."""
    ids = np.zeros((375, 1242), np.uint16)
    ids[200:, 300:900] = 7
    assert len(png_from_ids(ids)) < 10_000
