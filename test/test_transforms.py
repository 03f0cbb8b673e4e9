"""Transforms against scipy, and a tree that interpolates, refuses to guess, and says why."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from dseg_core.errors import DsegError
from dseg_core.transforms import TransformError, TransformTree, interpolate, inverse, matrix_from_pose, pose_from_matrix

number = st.floats(-1, 1)
quaternions = st.tuples(number, number, number, number).filter(lambda q: np.linalg.norm(q) > 0.1)
translations = st.tuples(*[st.floats(-100, 100)] * 3)
Floats = NDArray[np.float64]


@given(translations, quaternions)
def test_matrix_and_pose_agree_with_scipy(translation: tuple[float, ...], quaternion: tuple[float, ...]) -> None:
    T = matrix_from_pose(translation, quaternion)
    np.testing.assert_allclose(T[:3, :3], Rotation.from_quat(quaternion).as_matrix(), atol=1e-12)
    t, q = pose_from_matrix(T)
    np.testing.assert_allclose(t, translation)
    np.testing.assert_allclose(Rotation.from_quat(q).as_matrix(), T[:3, :3], atol=1e-12)
    np.testing.assert_allclose(inverse(T) @ T, np.eye(4), atol=1e-9)


@given(quaternions, quaternions, st.floats(0, 1))
def test_interpolation_is_slerp(one: tuple[float, ...], other: tuple[float, ...], fraction: float) -> None:
    T0, T1 = matrix_from_pose((0, 0, 0), one), matrix_from_pose((1, 2, 3), other)
    turn = Rotation.from_matrix(T0[:3, :3]).inv() * Rotation.from_matrix(T1[:3, :3])
    if turn.magnitude() > 3.1:  # half a turn: both ways round are as short
        return
    T = interpolate(T0, T1, fraction)
    np.testing.assert_allclose(T[:3, 3], fraction * np.array([1, 2, 3]))
    expected = Slerp([0, 1], Rotation.from_matrix([T0[:3, :3], T1[:3, :3]]))(fraction).as_matrix()
    np.testing.assert_allclose(T[:3, :3], expected, atol=1e-6)


@pytest.mark.parametrize("far", [1.1e9, -1e40, 1e300])
def test_no_place_of_this_planet(far: float) -> None:
    with pytest.raises(TransformError, match=r"translation .* is farther than 1e\+09 m"):
        matrix_from_pose((0, far, 0), (0, 0, 0, 1))
    earth = matrix_from_pose((4.2e6, 0, 4.8e6), (0, 0, 0, 1))
    assert earth[:3, 3].tolist() == [4.2e6, 0, 4.8e6], "poses in the earth's frame are of use"


@pytest.mark.parametrize("quaternion", [(0, 0, 0, 0), (np.nan, 0, 0, 1), (np.inf, 0, 0, 1)])
def test_no_rotation(quaternion: tuple[float, ...]) -> None:
    with pytest.raises(TransformError, match="is no rotation"):
        matrix_from_pose((0, 0, 0), quaternion)


def shifted(x: float) -> Floats:
    return matrix_from_pose((x, 0, 0), (0, 0, 0, 1))


@pytest.fixture
def tree() -> TransformTree:
    """A car at 10 m/s along x, with a LiDAR 1 m and a camera 2 m ahead of its origin."""
    tree = TransformTree()
    for t in (200, 0, 100):  # out of order, as bags have it
        tree.add("odom", "base_link", shifted(t / 100), t * 1_000_000)
    tree.add("base_link", "lidar", shifted(1))
    tree.add("/base_link", "/camera", shifted(2))
    return tree


def test_lookup_through_the_tree(tree: TransformTree) -> None:
    assert tree.frames == ("base_link", "camera", "lidar", "odom")
    assert tree.fixed_frame("lidar") == tree.root("camera") == "odom"
    np.testing.assert_allclose(tree.lookup("camera", "lidar", 10**9), shifted(-1))
    np.testing.assert_allclose(tree.lookup("odom", "lidar", 150_000_000), shifted(2.5))
    np.testing.assert_allclose(tree.lookup("lidar", "lidar", -5), np.eye(4))


@pytest.mark.parametrize("seed", range(5))
def test_lookup_moves_points_as_the_edges_on_the_way_do(seed: int) -> None:
    """Up one branch and down the other, each edge turned and shifted, one of them between two of its times."""
    rng = np.random.default_rng(seed)

    def pose() -> Floats:
        return matrix_from_pose(rng.normal(size=3), Rotation.random(random_state=rng).as_quat())

    tree, edges = TransformTree(), {name: pose() for name in ("base", "mast", "lidar", "camera")}
    for child, parent in (("mast", "base"), ("lidar", "mast"), ("camera", "base")):
        tree.add(parent, child, edges[child])
    later = edges["base"] @ matrix_from_pose((1, 2, 3), Rotation.from_rotvec([0.4, 0, 0.2]).as_quat())
    tree.add("odom", "base", edges["base"], 100)
    tree.add("odom", "base", later, 300)
    points = np.append(rng.normal(size=(3, 7)), np.ones((1, 7)), axis=0)
    at_base = edges["mast"] @ (edges["lidar"] @ points)
    np.testing.assert_allclose(edges["camera"] @ (tree.lookup("camera", "lidar", 7) @ points), at_base, atol=1e-12)
    quarter = Slerp([0, 1], Rotation.from_matrix([edges["base"][:3, :3], later[:3, :3]]))(0.25).as_matrix()
    place = 0.75 * edges["base"][:3, 3] + 0.25 * later[:3, 3]
    expected = quarter @ at_base[:3] + place[:, None]
    np.testing.assert_allclose((tree.lookup("odom", "lidar", 150) @ points)[:3], expected, atol=1e-9)
    moving = tree.lookup_moving("camera", 300, "lidar", 150, "odom") @ points
    np.testing.assert_allclose((later @ edges["camera"] @ moving)[:3], expected, atol=1e-9)


def test_lookup_between_times(tree: TransformTree) -> None:
    """A point 10 m ahead of the LiDAR is nearer to the camera 50 ms later, by the way driven."""
    T = tree.lookup_moving("camera", 150_000_000, "lidar", 100_000_000, "odom")
    np.testing.assert_allclose(T @ [10, 0, 0, 1], [10 - 1 - 0.5, 0, 0, 1])


@pytest.mark.parametrize(
    ("target", "source", "stamp", "message"),
    [
        ("camera", "radar", 0, "no transform connects radar and camera; known frames: base_link"),
        ("odom", "camera", -1_000_000, "known only from 0 ns, 1.0 ms after"),
        ("odom", "camera", 201_000_000, "known only until 200000000 ns, 1.0 ms before"),
    ],
)
def test_it_does_not_guess(tree: TransformTree, target: str, source: str, stamp: int, message: str) -> None:
    with pytest.raises(TransformError, match=message):
        tree.lookup(target, source, stamp)


def test_loops_are_refused(tree: TransformTree) -> None:
    with pytest.raises(TransformError, match="would make a loop"):
        tree.add("camera", "odom", np.eye(4))


def test_a_turning_wheel_is_no_motion() -> None:
    tree = TransformTree()
    tree.add("base_link", "lidar", shifted(1))
    tree.add("base_link", "wheel", shifted(1), 0)
    assert tree.fixed_frame("lidar") is None and tree.fixed_frame("wheel") == "base_link"


def test_calibration_file(tmp_path: Path) -> None:
    path = tmp_path / "calibration.yaml"
    path.write_text("transforms: [{parent: a, child: b, translation: [1, 2, 3], quaternion: [0, 0, 0, 1]}]")
    np.testing.assert_allclose(TransformTree.from_calibration(path).lookup("a", "b", 0)[:3, 3], [1, 2, 3])
    for text, message in (("{}", "no list 'transforms'"), ("transforms: [{parent: a}]", "is no transform")):
        path.write_text(text)
        with pytest.raises(DsegError, match=message):
            TransformTree.from_calibration(path)


def test_a_calibration_file_counts_more_than_what_is_heard(tmp_path: Path) -> None:
    """Live as from a bag: it was given to mend what /tf_static has wrong."""
    path = tmp_path / "calibration.yaml"
    path.write_text("transforms: [{parent: lidar, child: camera, translation: [1, 2, 3], quaternion: [0, 0, 0, 1]}]")
    tree = TransformTree.from_calibration(path)
    for stamp in (None, 0, 10):
        tree.add("base", "/camera", shifted(9), stamp)
        tree.add("base", "lidar", shifted(5), None)
    assert tree.lookup("lidar", "camera", 5)[0, 3] == 1 and tree.lookup("base", "camera", 5)[0, 3] == 6


def test_forgetting(tree: TransformTree) -> None:
    moving = TransformTree()
    moving.add("base", "lidar", np.eye(4))
    for stamp in (10, 20, 30):
        T = np.eye(4)
        T[0, 3] = stamp
        moving.add("odom", "base", T, stamp)
    moving.forget(20)
    assert moving.lookup("odom", "lidar", 25)[0, 3] == 25
    with pytest.raises(TransformError, match="known only from 20 ns"):
        moving.lookup("odom", "lidar", 15)
    moving.forget(100)
    assert moving.lookup("odom", "lidar", 30)[0, 3] == 30, "the latest stays"
    moving.forget_motion()
    assert moving.fixed_frame("lidar") is None
    assert moving.lookup("base", "lidar", 5) is not None


def test_compensated_lookup_says_why_not() -> None:
    tree = TransformTree()
    tree.add("base", "lidar", np.eye(4))
    tree.add("base", "camera", np.eye(4))
    T, why = tree.lookup_compensated("camera", 5, "lidar", [0, 10])
    assert (len(T), why) == (1, "no odometry")
    for stamp in (0, 10):
        moved = np.eye(4)
        moved[0, 3] = stamp
        tree.add("odom", "base", moved, stamp)
    T, why = tree.lookup_compensated("camera", 5, "lidar", [0, 10])
    assert why is None
    assert [matrix[0, 3] for matrix in T] == [-5, 5]
    T, why = tree.lookup_compensated("camera", 50, "lidar", [0, 10])
    assert (len(T), why) == (1, "odometry does not reach")


def test_tree_is_asked_while_it_is_added_to() -> None:
    """As the painter's thread does while /tf comes and a bag's loop begins anew: an answer, or a TransformError."""
    tree, asked, over = TransformTree(), [], threading.Event()
    tree.add("base", "lidar", np.eye(4))
    tree.add("base", "camera", np.eye(4))

    def ask() -> None:
        while not over.is_set():
            for frame in ("lidar", "mars"):
                try:
                    tree.lookup_compensated("camera", 15, frame, [10, 20])
                except TransformError:
                    pass
                except Exception as error:
                    asked.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        asker = threading.Thread(target=ask)
        asker.start()
        for number in range(2000):
            for stamp in (0, 10, 20, 30):
                tree.add("odom", "base", np.eye(4), stamp)
            tree.add("base", f"wheel_{number % 50}", np.eye(4), 5)
            tree.forget_motion()
        over.set()
        asker.join()
    finally:
        sys.setswitchinterval(before)
    assert asked == []
