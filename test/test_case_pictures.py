"""Pictures of objects that were not found: everything is where it is, and nothing covers the object."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from bags import CAMERA, T_LIDAR_CAMERA
from numpy.typing import NDArray

from dseg_core.image_codecs import encode
from dseg_core.records import Frame, Sweep, View
from dseg_core.reporting.case_pictures import (
    GROUND,
    HOLDERS,
    LOST,
    OBJECT,
    OTHER,
    case_picture,
    seen_from_lidar,
)
from dseg_core.reporting.proposal_page import became_of
from dseg_core.stage_options.record import StoreOptions

WHITE = (255, 255, 255)


def at(picture: NDArray[np.uint8], color: tuple[int, int, int]) -> NDArray[np.bool_]:
    return np.asarray((picture == color).all(axis=-1))


def frame_of(xyz: NDArray[np.float32], ids: list[int], views: tuple[View, ...] = ()) -> Frame:
    return Frame("drive", Sweep(1, "lidar", xyz), np.array(ids, np.uint16), views)


@pytest.mark.parametrize("count", [3, 40, 4000])
def test_nothing_covers_the_object_however_small_or_dense_it_is(count: int) -> None:
    """All points of an object astern, where azimuths jump, are seen in their colours; white stays off them."""
    angle, up = np.deg2rad([[179], [-1]] + 2 * np.random.default_rng(0).random((2, count)))
    xyz = np.c_[40 * np.cos(angle), 40 * np.sin(angle), 40 * np.tan(up)].astype(np.float32)
    colors = np.where((angle < np.pi)[:, None], OBJECT, LOST).astype(np.uint8)
    (drawn,) = seen_from_lidar(xyz, np.ones(count, bool), [colors])
    points = at(drawn, OBJECT) | at(drawn, LOST)
    assert at(drawn, WHITE).any()
    near = cv2.dilate(points.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert not (near & at(drawn, WHITE)).any()
    rows, columns = np.nonzero(points)
    assert len(rows) >= min(5 * count, 200), "a disc for each point that has room"
    assert (rows.mean(), columns.mean()) == pytest.approx((150, 280), abs=25), "in the middle"
    left, right = (np.nonzero(at(drawn, color))[1] for color in (LOST, OBJECT))
    assert left.max() <= right.min() + 11, "larger azimuths are further left, but for the discs' size"


def test_one_line_goes_around_an_object_of_beams_that_are_far_apart() -> None:
    """Eight beams, 2 degrees apart: more of the picture is their points than white, and no beam has its own ring."""
    angle, up = (v.ravel() for v in np.meshgrid(np.deg2rad(np.arange(-6, 6, 0.2)), np.deg2rad(np.arange(-8, 8, 2))))
    xyz = np.c_[20 * np.cos(angle), 20 * np.sin(angle), 20 * np.tan(up)].astype(np.float32)
    (drawn,) = seen_from_lidar(xyz, np.ones(len(xyz), bool), [np.full((len(xyz), 3), OBJECT, np.uint8)])
    white = at(drawn, WHITE).astype(np.uint8)
    assert cv2.connectedComponents(white)[0] == 1 + 1, "the background and one line"
    assert at(drawn, OBJECT).sum() > 3 * white.sum()


def test_colours_tell_what_holds_the_object_and_what_shares_its_proposal() -> None:
    """Object 1: two points in proposal 5, which holds object 2 as well, one in none."""
    y = np.array([-1.0, -0.5, 0.0, 0.5, 1.0], np.float32)
    xyz = np.c_[np.full(5, 20.0), y, np.zeros(5)].astype(np.float32)
    picture = case_picture(frame_of(xyz, [5, 5, 0, 5, 6]), np.array([1, 1, 1, 2, 3]), 1)
    truth, found = picture[:300, :560], picture[:300, 568:]
    azimuth = np.arctan2(y, 20)
    scale = 280 / (2.2 * np.deg2rad(2))  # no picture shows less
    shown = [(150, round(280 - (a - azimuth[:3].mean()) * scale)) for a in azimuth.tolist()]
    assert [tuple(truth[p]) for p in shown[:4]] == [OBJECT, OBJECT, OBJECT, HOLDERS[0]]
    assert [tuple(found[p]) for p in shown[:4]] == [HOLDERS[0], HOLDERS[0], LOST, HOLDERS[0]]
    assert tuple(truth[shown[4]]) == tuple(found[shown[4]]) not in (OBJECT, LOST, *HOLDERS)


def test_from_above_it_is_where_it_is() -> None:
    """20 m to the right and 10 m behind: right of and below the middle, with a circle around it."""
    xyz = np.array([[-10, -20, 0], [0, 24, 0]], np.float32)
    picture = case_picture(frame_of(xyz, [0, 1]), np.array([1, 0]), 1)
    above = picture[308:]
    rows, columns = np.nonzero(at(above, OBJECT))
    scale = 150 / 24  # pixels a metre: 1.2 times 20 m reach the edge
    assert (rows.mean(), columns.mean()) == pytest.approx((150 + 10 * scale, 564 + 20 * scale), abs=1.5)
    assert picture.shape == (608, 1128, 3)


def test_from_above_other_things_and_ground_have_the_colours_of_the_legend() -> None:
    """Not those of other pictures, in which purple is ground."""
    xyz = np.array([[-10, -20, 0], [0, 15, 0], [0, -8, 0]], np.float32)
    above = case_picture(frame_of(xyz, [0, 7, 1]), np.array([1, 2, 0]), 1)[308:]
    scale = 150 / 24
    assert tuple(above[150, round(564 - 15 * scale)]) == OTHER
    assert tuple(above[150, round(564 + 8 * scale)]) == GROUND


def test_in_the_image_it_is_where_the_camera_sees_it() -> None:
    """Two points whose pixels are known; the part that is shown holds them, in the scale of the part."""
    rgb = np.full((CAMERA.height, CAMERA.width, 3), 90, np.uint8)
    rgb[20:23, 40:43] = (0, 255, 0)  # what the camera sees there
    T_image_sweep = np.linalg.inv(T_LIDAR_CAMERA)
    optical = np.array([[(41 - 31.5) / 40 * 10, (21 - 23.5) / 40 * 10, 10, 1], [(30 - 31.5) / 40 * 10, 0, 10, 1]])
    xyz = (optical @ T_LIDAR_CAMERA.T)[:, :3].astype(np.float32)
    image = encode(1, "camera_optical", rgb, StoreOptions(image_format="png"))
    views = (View("camera", image, np.zeros(rgb.shape[:2], np.uint16), CAMERA, T_image_sweep),)
    picture = case_picture(frame_of(xyz, [0, 7], views), np.array([1, 2]), 1)
    shown = picture[308:, :560]
    painted, seen = at(shown, LOST), (shown[..., 1] > 200) & (shown[..., 0] < 60)
    assert painted.any() and seen.any()
    assert [v.mean() for v in np.nonzero(painted)] == pytest.approx([v.mean() for v in np.nonzero(seen)], abs=4)
    behind = frame_of(-xyz, [0, 7], views)
    assert at(shown, (90, 90, 90)).mean() > 0.5
    assert at(case_picture(behind, np.array([1, 2]), 1), (90, 90, 90)).mean() < 0.01, "in no image"


def test_words_of_what_became_of_an_object() -> None:
    ids = np.array([5, 5, 5, 5, 1, 0, 0], np.uint16)
    own = np.array([1, 1, 0, 0, 1, 1, 0], bool)
    semantic = np.array([3, 3, 4, 4, 3, 3, 4])
    assert became_of(own, ids, semantic, {3: "car", 4: "pole"}) == (
        "2 in a proposal of 4 points with pole, 1 in no proposal, 1 called ground"
    )
    many = np.arange(2, 9, dtype=np.uint16)
    told = became_of(np.ones(7, bool), many, np.zeros(7, int), {})
    assert told.count("1 in a proposal of 1 point,") == 4 and told.endswith("and 3 more parts")
