"""Sizes of patches against projections of turned beams, and where proposals end against walls that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from dseg_core.cameras import Camera
from dseg_core.lidar.rows import Rows
from dseg_core.region_patches import border_sides, half_angles, patches

AXES = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])  # optical from x forward, z up
K = np.array([[500.0, 0, 480], [0, 480.0, 300], [0, 0, 1]])


def camera(model: str) -> Camera:
    """960 x 600; a fisheye, a bent lens, or a camera whose image is rectified by a rotation."""
    R, D = np.eye(3), np.zeros(4 if model == "equidistant" else 5)
    P = np.concatenate([K, np.zeros((3, 1))], axis=1)
    if model == "equidistant":
        D[:2] = 0.02, -0.01
    elif model == "plumb_bob":
        D[:2] = -0.12, 0.01
    else:
        R = Rotation.from_euler("xyz", [0.05, -0.08, 0.03]).as_matrix()
    known = "plumb_bob" if model == "rectified" else model
    return Camera("camera", 960, 600, K, known, D, R, P, model == "rectified")


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.sampled_from(["equidistant", "plumb_bob", "rectified"]), st.sampled_from([0, 90, 180]))
def test_a_patch_reaches_as_far_as_the_beam_turned_half_way(seed: int, model: str, roll: int) -> None:
    """Wherever the camera is, whatever its lens, and lying on its side or on its head, too."""
    rng = np.random.default_rng(seed)
    cam = camera(model)
    R = Rotation.from_euler("z", roll, degrees=True).as_matrix() @ AXES
    R = Rotation.from_euler("xyz", rng.normal(0, 0.05, 3)).as_matrix() @ R
    t = rng.normal(0, 0.5, 3)
    azimuth, elevation = rng.uniform(-0.7, 0.7, 50), rng.uniform(-0.35, 0.35, 50)
    reach = rng.uniform(4, 40, 50)
    angles = rng.uniform(0.002, 0.02, 3)

    def seen(a: np.ndarray, e: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ray = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=1)
        xyz = (reach[:, None] * ray).astype(np.float32)
        in_camera = xyz @ R.T + t
        return xyz, in_camera, cam.project(in_camera)[0]

    xyz, in_camera, uv = seen(azimuth, elevation)
    visible = cam.project(in_camera)[1]
    in_image = in_camera @ cam.R.T if cam.rectified else in_camera
    total = cam.R @ R if cam.rectified else R
    keep, found_uv, depth, size = patches(
        xyz, np.arange(50), in_image, uv, visible, np.zeros(50, np.uint16), angles[None].astype(np.float32),
        np.zeros(50, np.uint8), 0.5, np.ascontiguousarray(total), (cam.matrix[0, 0], cam.matrix[1, 1]),
        cam.bending(in_image), 1e3,
    )  # fmt: skip
    np.testing.assert_array_equal(keep, np.flatnonzero(visible))
    np.testing.assert_array_equal(found_uv, uv[visible])
    np.testing.assert_allclose(depth, np.linalg.norm(in_camera[visible], axis=1), rtol=1e-5)
    turned = [(angles[0], 0), (-angles[0], 0), (0, angles[1]), (0, -angles[2])]
    moves = np.stack([seen(azimuth + a, elevation + e)[2] - uv for a, e in turned], axis=1)[visible]  # (M, 4, 2)
    expected = np.stack(
        [-moves[..., 0].min(axis=1), moves[..., 0].max(axis=1), -moves[..., 1].min(axis=1), moves[..., 1].max(axis=1)],
        axis=1,
    )
    np.testing.assert_allclose(size, np.maximum(expected, 0.5), rtol=0.08, atol=0.05)


def cylinder(reach: np.ndarray) -> tuple[np.ndarray, Rows]:
    """Points of beams 0.02 rad apart, rows from the top, azimuths rising from -pi; at `reach` (R, C), 0: nothing."""
    rows, columns = reach.shape
    elevation = 0.01 * (rows - 1) - 0.02 * np.arange(rows)
    azimuth = (np.arange(columns) + 0.5) / columns * 2 * np.pi - np.pi
    e, a = np.broadcast_arrays(elevation[:, None], azimuth[None])
    ray = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=-1)
    xyz = (ray * reach[..., None]).reshape(-1, 3).astype(np.float32)
    row = np.repeat(np.arange(rows, dtype=np.uint16), columns)
    return xyz, Rows(row, elevation.astype(np.float32), 2 * np.pi / columns)


LEFT, RIGHT, UP, DOWN = 1, 2, 4, 8


@pytest.mark.parametrize("middle", [0, 3, 197, 100], ids=["behind", "from the seam", "up to the seam", "ahead"])
def test_a_proposal_ends_where_something_farther_begins(middle: int) -> None:
    """A box of 5 x 6 beams at 5 m before a wall at 15 m, also where the turn begins."""
    reach, ids = np.full((12, 200), 15.0), np.full((12, 200), 3, np.uint16)
    columns = (np.arange(middle - 3, middle + 3)) % 200
    reach[3:8, columns], ids[3:8, columns] = 5.0, 2
    xyz, rows = cylinder(reach)
    sides = border_sides(xyz, np.arange(len(xyz)), ids.ravel(), rows).reshape(12, 200)
    box = sides[3:8, columns]
    assert (box[1:-1, 2:-2] == 0).all()
    assert (box[:, 0] & RIGHT == RIGHT).all() and (box[:, -1] & LEFT == LEFT).all(), "azimuths rise to the left"
    assert (box[0] & UP == UP).all() and (box[-1] & DOWN == DOWN).all()
    assert (box[1:-1, 1:-1] & (UP | DOWN) == 0).all() and (box[:, 1:-1] & (LEFT | RIGHT) == 0).all()
    sides[3:8, columns] = 0
    assert not sides.any(), "the wall goes on behind the box, and what is nearer covers it"


def test_a_proposal_may_go_on_where_nothing_is_measured() -> None:
    """Sky above, and a window of three columns in the box: neither is a border; a gap of eight is none of its own."""
    reach, ids = np.full((6, 200), 15.0), np.full((6, 200), 3, np.uint16)
    reach[:, 80:120], ids[:, 80:120] = 5.0, 2
    reach[:2, 80:120] = 0.0
    reach[3, 95:98], ids[3, 95:98] = 15.0, 3
    reach[4, 90:98], ids[4, 90:98] = 15.0, 3
    xyz, rows = cylinder(reach)
    sides = border_sides(xyz, np.arange(len(xyz)), ids.ravel(), rows).reshape(6, 200)
    assert not (sides[2, 82:118] & UP).any()
    assert not sides[3, [94, 98]].any()
    assert sides[4, 89] & LEFT and sides[4, 98] & RIGHT


def test_half_angles_are_half_way_to_the_next_beams() -> None:
    rows = Rows(np.zeros(1, np.uint16), np.array([0.3, 0.2, -0.2], np.float32), 0.01)
    np.testing.assert_allclose(half_angles(rows), [[0.05, 0.05], [0.05, 0.2], [0.2, 0.2]], atol=1e-6)
