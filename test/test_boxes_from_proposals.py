"""Boxes around proposals: they hold the points, are the smallest, and are those that the points were drawn from."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dseg_core.boxes_from_proposals import Boxes, boxes_from_proposals

meters = st.floats(-150, 150)
sides = st.floats(0.05, 20)


def filled(center: NDArray[np.float64], size: NDArray[np.float64], yaw: float, seed: int) -> NDArray[np.float64]:
    """Points in a box, and its corners."""
    rng = np.random.default_rng(seed)
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    local = np.concatenate([rng.uniform(-0.5, 0.5, (60, 3)), corners]) * size
    R = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    return local @ R.T + center


def inside(boxes: Boxes, index: int, points: NDArray[np.float64], margin: float) -> NDArray[np.bool_]:
    """By the rotation that the quaternion stands for, w + z k: independent of `corners`."""
    _, _, z, w = boxes.quaternions()[index]
    c, s = w * w - z * z, 2 * w * z
    local = (points - boxes.centers[index]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return np.asarray((np.abs(local) <= boxes.sizes[index] / 2 + margin).all(axis=1))


@given(
    st.tuples(meters, meters, st.floats(-5, 5)), st.tuples(sides, sides, sides), st.floats(-10, 10), st.integers(0, 99)
)
def test_finds_the_box_that_the_points_fill(
    center: tuple[float, ...], size: tuple[float, ...], yaw: float, seed: int
) -> None:
    points = filled(np.array(center), np.array(size), yaw, seed)
    boxes = boxes_from_proposals(points, np.full(len(points), 7, np.uint16))
    assert boxes.ids.tolist() == [7]
    np.testing.assert_allclose(boxes.centers[0], center, atol=1e-3)
    np.testing.assert_allclose(boxes.sizes[0], [*sorted(size[:2], reverse=True), size[2]], atol=1e-3)
    assert -np.pi / 2 <= boxes.yaws[0] < np.pi / 2
    if max(size[:2]) - min(size[:2]) > 0.05:  # which side is the longer one is known
        longer = yaw if size[0] > size[1] else yaw + np.pi / 2
        off = (boxes.yaws[0] - longer + np.pi / 2) % np.pi - np.pi / 2
        assert abs(off) * max(size[:2]) < 0.01


@given(st.integers(0, 10_000), st.integers(1, 40), st.floats(0, 100))
def test_holds_its_points_and_is_no_larger_than_opencvs(seed: int, count: int, away: float) -> None:
    points = np.random.default_rng(seed).normal([away, -away, 0], 2, (count, 3))
    boxes = boxes_from_proposals(points.astype(np.float32), np.full(count, 2, np.uint16))
    assert inside(boxes, 0, points, 1e-4).all()
    (_, (w, h), _) = cv2.minAreaRect((points[:, :2] - points[0, :2]).astype(np.float32))
    length, width, height = boxes.sizes[0]
    assert length >= width and abs(length * width - w * h) < 1e-3 * (1 + w * h)
    assert abs(height - np.ptp(points[:, 2])) < 1e-4


def test_each_object_gets_its_own_and_ground_none() -> None:
    one = filled(np.array([10, 0, 1.0]), np.array([4, 2, 1.5]), 0.3, 0)
    two = filled(np.array([-5, 8, 0.5]), np.array([1, 0.5, 1.8]), -1.2, 1)
    rest = filled(np.array([0, 0, -2.0]), np.array([90, 90, 0.1]), 0, 2)
    ids = np.concatenate([np.full(len(one), 40_000), np.full(len(two), 3), np.arange(len(rest)) % 2]).astype(np.uint16)
    points = np.concatenate([one, two, rest])
    mixed = np.random.default_rng(3).permutation(len(points))
    boxes = boxes_from_proposals(points[mixed], ids[mixed])
    assert boxes.ids.tolist() == [3, 40_000] and boxes.ids.dtype == np.uint16
    np.testing.assert_allclose(boxes.centers, [[-5, 8, 0.5], [10, 0, 1]], atol=1e-4)
    np.testing.assert_allclose(boxes.yaws, [-1.2, 0.3], atol=1e-4)


def test_corners_are_the_boxes_ends() -> None:
    points = filled(np.array([3, -7, 1.0]), np.array([4, 2, 1.5]), 0.7, 0)
    corners = boxes_from_proposals(points, np.full(len(points), 2, np.uint16)).corners()
    ends = points[-8:]
    assert corners.shape == (1, 8, 3)
    assert np.linalg.norm(ends[:, None] - corners, axis=2).min(axis=1).max() < 1e-4
    bottom, top = corners[0, :4], corners[0, 4:]
    np.testing.assert_allclose(top - bottom, np.tile([0, 0, 1.5], (4, 1)), atol=1e-9)
    around = np.linalg.norm(np.roll(bottom, -1, axis=0) - bottom, axis=1)
    np.testing.assert_allclose(around, [4, 2, 4, 2], atol=1e-4)  # neighbours are joined by a side, not a diagonal


def test_points_in_a_line_and_single_points_have_boxes_without_width() -> None:
    line = np.stack([np.linspace(0, 3, 30), np.linspace(0, 4, 30), np.zeros(30)], axis=1)
    points = np.concatenate([line, [[9, 9, 1]], np.tile([[5.0, 5, 5]], (4, 1))])
    ids = np.array([2] * 30 + [3] + [4] * 4, np.uint16)
    boxes = boxes_from_proposals(points, ids)
    np.testing.assert_allclose(boxes.sizes, [[5, 0, 0], [0, 0, 0], [0, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(boxes.centers[1:], [[9, 9, 1], [5, 5, 5]])
    assert abs(boxes.yaws[0] - np.arctan2(4, 3)) < 1e-6


def test_no_objects_no_boxes() -> None:
    for ids in (np.zeros(0, np.uint16), np.ones(5, np.uint16)):
        boxes = boxes_from_proposals(np.zeros((len(ids), 3), np.float32), ids)
        assert len(boxes) == 0 and boxes.corners().shape == (0, 8, 3) and boxes.quaternions().shape == (0, 4)
