"""What a nearer object encloses, by points whose place is known."""

from __future__ import annotations

import numpy as np
import pytest

from dseg_core.region_hiding import enclosed

GROUND, CAR, OTHER, BEHIND = 1, 2, 3, 4
SHAPE, CELL, EXTENT = (120, 160), 4.0, 60.0 * 8  # within 60 pixels at 8 m


def points(*blocks: tuple[tuple[int, int, int, int], float, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """uv, depth and ids of points every 2 pixels in boxes (left, top, right, bottom), each at a depth."""
    uv, depth, ids = [], [], []
    for (left, top, right, bottom), d, number in blocks:
        v, u = np.mgrid[top:bottom:2, left:right:2]
        uv.append(np.stack([u.ravel(), v.ravel()], axis=1))
        depth.append(np.full(u.size, d))
        ids.append(np.full(u.size, number))
    return (
        np.concatenate(uv).astype(float),
        np.concatenate(depth).astype(np.float32),
        np.concatenate(ids).astype(np.uint16),
    )


LEFT, RIGHT, TOP, BOTTOM = (50, 40, 56, 80), (104, 40, 110, 80), (50, 36, 110, 40), (50, 80, 110, 90)
WINDOW = (62, 46, 98, 74)  # more than a cell away from each


def hidden(behind: int, *frame: tuple[tuple[int, int, int, int], int], far: float = 20.0) -> np.ndarray:
    """Which of the points in a window are hidden by a frame at 8 m."""
    uv, depth, ids = points(*((box, 8.0, number) for box, number in frame), (WINDOW, far, behind))
    found = enclosed(uv, depth, ids, SHAPE, CELL, EXTENT)
    assert not found[ids != behind].any()
    return found[ids == behind]


@pytest.mark.parametrize("behind", [GROUND, BEHIND])
def test_what_a_frame_encloses_is_hidden(behind: int) -> None:
    frame = [(box, CAR) for box in (LEFT, RIGHT, TOP, BOTTOM)]
    assert hidden(behind, *frame).all()
    assert not hidden(behind, *frame, far=8.5).any(), "as near as the frame"


def test_an_object_needs_three_sides_and_ground_two() -> None:
    three, two, corner = (LEFT, RIGHT, BOTTOM), (LEFT, RIGHT), (LEFT, BOTTOM)
    assert hidden(GROUND, *((box, CAR) for box in two)).all()
    assert not hidden(BEHIND, *((box, CAR) for box in two)).any()
    assert hidden(BEHIND, *((box, CAR) for box in three)).mean() > 0.3, "near the three sides"
    for behind in (GROUND, BEHIND):
        assert not hidden(behind, *((box, CAR) for box in corner)).any()


def test_two_objects_enclose_nothing_but_ground_below_a_roof() -> None:
    assert not hidden(GROUND, (LEFT, CAR), (RIGHT, OTHER)).any()
    assert hidden(GROUND, (TOP, CAR), (BOTTOM, OTHER)).all()
    assert not hidden(BEHIND, (LEFT, CAR), (TOP, CAR), (RIGHT, OTHER), (BOTTOM, OTHER)).any()
    assert not hidden(GROUND, (TOP, GROUND), (BOTTOM, GROUND)).any(), "ground hides nothing"


def test_a_frame_too_far_around_hides_nothing() -> None:
    frame = [(box, CAR) for box in (LEFT, RIGHT, TOP, BOTTOM)]
    uv, depth, ids = points(*((box, 8.0, number) for box, number in frame), (WINDOW, 20.0, GROUND))
    assert not enclosed(uv, depth, ids, SHAPE, CELL, 3.0 * 8)[ids == GROUND].any()
