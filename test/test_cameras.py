"""Projection against OpenCV's, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dseg_core.cameras import Camera
from dseg_core.errors import DsegError
from dseg_core.messages import camera_from_message, camera_to_message
from dseg_core.transforms import matrix_from_pose

COEFFICIENTS = {
    "plumb_bob": [-0.3, 0.1, 0.001, -0.002, -0.01],
    "rational_polynomial": [0.45, 0.05, 0.0005, -0.0003, 0.001, 0.6, 0.1, 0.005],
    "equidistant": [0.02, -0.01, 0.004, -0.001],
}


def camera(name: str, **changes: Any) -> Camera:
    K = np.array([[400.0, 0.0, 322.0], [0.0, 410.0, 239.0], [0.0, 0.0, 1.0]])
    made = Camera("cam", 640, 480, K, name, np.array(COEFFICIENTS[name]), np.eye(3), np.c_[K, np.zeros(3)], False)
    return replace(made, **changes)


@settings(max_examples=60, deadline=None)
@given(
    model=st.sampled_from(sorted(COEFFICIENTS)),
    scale=st.floats(-1.0, 1.0),
    points=st.lists(st.tuples(st.floats(-3, 3), st.floats(-2, 2), st.floats(1, 30)), min_size=1, max_size=20),
)
def test_projects_as_opencv(model: str, scale: float, points: list[tuple[float, float, float]]) -> None:
    made = camera(model, D=scale * np.array(COEFFICIENTS[model]))
    xyz = np.array(points)
    uv, visible = made.project(xyz)
    project = cv2.fisheye.projectPoints if model == "equidistant" else cv2.projectPoints
    expected = project(xyz[:, None], np.zeros(3), np.zeros(3), made.K, made.D)[0].reshape(-1, 2)
    np.testing.assert_allclose(uv[visible], expected[visible], atol=1e-6)
    inside = (expected >= -0.5).all(axis=1) & (expected < [639.5, 479.5]).all(axis=1)
    assert not (visible & ~inside).any()
    near = np.hypot(xyz[:, 0], xyz[:, 1]) < 0.5 * xyz[:, 2]  # every lens here is one-to-one there
    assert visible[near & inside].all()


@pytest.mark.parametrize("model", sorted(COEFFICIENTS))
def test_rays_invert_projection(model: str) -> None:
    made = camera(model)
    rays = made.rays()
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1.0)
    uv, visible = made.project(7.0 * rays.reshape(-1, 3))
    grid = np.stack(np.meshgrid(np.arange(640), np.arange(480)), axis=-1).reshape(-1, 2)
    assert visible.mean() > 0.99
    np.testing.assert_allclose(uv[visible], grid[visible], atol=1e-3)


def test_rays_invert_projection_of_a_rectified_camera() -> None:
    R = cv2.Rodrigues(np.array([0.02, -0.03, 0.01]))[0]
    made = camera("plumb_bob", rectified=True, R=R)
    uv, visible = made.project(5.0 * made.rays().reshape(-1, 3))
    grid = np.stack(np.meshgrid(np.arange(640), np.arange(480)), axis=-1).reshape(-1, 2)
    assert visible.all()
    np.testing.assert_allclose(uv, grid, atol=1e-6)
    right = replace(made, P=made.P + np.array([[0, 0, 0, -40.0], [0] * 4, [0] * 4]))
    moved, _ = right.project(5.0 * made.rays().reshape(-1, 3) + 0.0)
    assert (moved[:, 0] < uv[:, 0]).all(), "the right camera of a pair sees things farther left"


def test_what_folds_back_into_the_image_is_invisible() -> None:
    made = camera("plumb_bob", D=np.array([-0.3, 0.0, 0.0, 0.0, 0.0]))  # falls beyond a radius of 1/sqrt(0.9)
    radius = np.array([0.3, 0.6, 2.0, 1.9])
    xyz = np.stack([radius, np.zeros(4), np.ones(4)], axis=1) * 10
    folded = cv2.projectPoints(xyz[:, None], np.zeros(3), np.zeros(3), made.K, made.D)[0][:, 0, 0]
    assert ((folded >= 0) & (folded < 640))[3], "OpenCV puts it into the image"
    np.testing.assert_array_equal(made.project(xyz)[1], [True, True, False, False])


def test_behind_and_at_the_camera_is_invisible() -> None:
    for model in COEFFICIENTS:
        assert not camera(model).project(np.array([[0.0, 0.0, -5.0], [0.0, 0.0, 0.0], [1.0, 1.0, -1.0]]))[1].any()


@pytest.mark.parametrize("model", sorted(COEFFICIENTS))
def test_a_scaled_camera_sees_the_same(model: str) -> None:
    made, xyz = camera(model), np.random.default_rng(0).uniform([-2, -1.5, 4], [2, 1.5, 9], (50, 3))
    half = made.scaled(320, 120)
    assert (half.width, half.height) == (320, 120)
    full_uv, half_uv = made.project(xyz)[0], half.project(xyz)[0]
    np.testing.assert_allclose(half_uv, (full_uv + 0.5) * [0.5, 0.25] - 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"K": np.zeros((3, 3))}, "not calibrated"),
        ({"model": "fov"}, "unknown"),
        ({"D": np.zeros(3)}, "3 coefficients"),
        ({"D": np.full(5, np.nan)}, "coefficients"),
        ({"K": np.full((3, 3), np.nan)}, "not a finite"),
        ({"width": 0}, "size 0x480"),
        ({"model": "rational_polynomial", "D": np.array([0.0] * 12 + [0.1, 0.1])}, "tilted"),
    ],
)
def test_bad_calibrations_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DsegError, match=message) as caught:
        camera("plumb_bob", **changes)
    assert "cam" in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(COEFFICIENTS)), st.booleans(), st.integers(0, 2**31))
def test_what_is_seen_lies_inside_the_planes(model: str, rectified: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    R = matrix_from_pose(np.zeros(3), [*rng.normal(0, 0.05, 3), 1.0])[:3, :3] if rectified else np.eye(3)
    P = np.c_[camera(model).K, [rng.normal(0, 50) if rectified else 0.0, 0.0, 0.0]]
    made = camera(model, rectified=rectified, R=R, P=P)
    xyz = rng.normal(0, 5, (3000, 3))
    _, visible = made.project(xyz)
    assert visible.any()
    assert (np.c_[xyz, np.ones(len(xyz))][visible] @ made.planes().T > -1e-9).all()
    if rectified:
        kept = (np.c_[xyz, np.ones(len(xyz))] @ made.planes().T > 0).all(axis=1)
        assert kept.sum() < 3 * visible.sum() + 300, "they leave most of the rest out"


@pytest.mark.parametrize("model", sorted(COEFFICIENTS))
def test_a_cropped_camera_sees_its_part(model: str) -> None:
    whole = camera(model)
    part = whole.cropped(11, 7, whole.width - 30, whole.height - 20)
    xyz = np.random.default_rng(0).normal(0, 3, (2000, 3))
    uv, visible = whole.project(xyz)
    inside, seen = part.project(xyz)
    np.testing.assert_allclose(inside[seen], uv[seen] - (11, 7), atol=1e-9)
    expected = visible & (uv >= (10.5, 6.5)).all(axis=1)
    expected &= (uv < (whole.width - 19.5, whole.height - 13.5)).all(axis=1)
    np.testing.assert_array_equal(seen, expected)
    for wrong in ((-1, 0, 5, 5), (0, 0, 0, 5), (0, 0, whole.width + 1, 5), (9, 9, whole.width - 8, 4)):
        with pytest.raises(DsegError, match=r"region of interest .* does not lie in"):
            whole.cropped(*wrong)


@pytest.mark.parametrize("binning", [(2, 2), (3, 1), (4, 3)])
def test_a_binned_pixel_is_the_mean_of_its_own(binning: tuple[int, int]) -> None:
    """As image_geometry has it (focal lengths divided by the binning), also where the sensor has pixels left over."""
    message = camera_to_message(0, replace(camera("plumb_bob"), width=639, height=475))
    message.binning_x, message.binning_y = binning
    binned, whole = camera_from_message(message, False), camera("plumb_bob")
    assert (binned.width, binned.height) == (639 // binning[0], 475 // binning[1])
    np.testing.assert_allclose(binned.K[[0, 1], [0, 1]], whole.K[[0, 1], [0, 1]] / binning)
    xyz = np.random.default_rng(0).normal(0, 3, (2000, 3))
    (uv, _), (found, seen) = whole.project(xyz), binned.project(xyz)
    np.testing.assert_allclose(found[seen], (uv[seen] + 0.5) / binning - 0.5, atol=1e-9)
    message.binning_x = 1000
    with pytest.raises(DsegError, match=r"binning 1000x.* leaves no pixel of 639x475"):
        camera_from_message(message, False)
