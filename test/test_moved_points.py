"""Points at their own times against a pose for each, made by scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from dseg_core.moved_points import moved_points
from dseg_core.records import Sweep


@pytest.mark.parametrize("sign", [1, -1], ids=["stamped at the start", "stamped at the end"])
def test_every_point_is_where_its_own_pose_puts_it(sign: int) -> None:
    """To a millimetre at 100 m, at 15 m/s and 1 rad/s; some points lie on the other side of the stamp, or beyond."""
    rng = np.random.default_rng(1)
    xyz = rng.uniform(-60, 60, (500, 3)).astype(np.float32)
    time_ns = sign * rng.integers(0, 100_000_000, 500)
    time_ns[:3] = sign * np.array([100_000_000, -9_000_000, 0])
    start, end = np.eye(4), np.eye(4)
    turns = Rotation.from_euler("zyx", [[0.3, -1.2, 0.1], [0.4, -1.21, 0.12]])
    start[:3, :3], end[:3, :3] = turns.as_matrix()
    start[:3, 3], end[:3, 3] = [0.1, -0.3, 0.5], [0.2, -0.2, -1.0]
    keep = np.append(rng.permutation(np.arange(3, 500))[:300], [0, 1, 2])
    found = moved_points(Sweep(0, "lidar", xyz, time_ns=time_ns), keep, start, end)
    share = time_ns[keep] / (sign * 100_000_000)
    inside = (share >= 0) & (share <= 1)
    pose = Slerp([0, 1], turns)(np.clip(share, 0, 1))
    expected = pose.apply(xyz[keep]) + start[:3, 3] + share[:, None] * (end[:3, 3] - start[:3, 3])
    assert np.linalg.norm(found - expected, axis=1)[inside].max() < 1e-3
    elsewhere = rng.uniform(-60, 60, (len(keep), 3)).astype(np.float32)
    others = moved_points(Sweep(0, "lidar", xyz, time_ns=time_ns), keep, start, end, elsewhere)
    expected = pose.apply(elsewhere) + start[:3, 3] + share[:, None] * (end[:3, 3] - start[:3, 3])
    assert np.linalg.norm(others - expected, axis=1)[inside].max() < 1e-3, "other places at the points' times"
    early = Rotation.from_rotvec((turns[1] * turns[0].inv()).as_rotvec() * -0.09) * turns[0]
    wanted = early.apply(xyz[1]) + start[:3, 3] - 0.09 * (end[:3, 3] - start[:3, 3])
    np.testing.assert_allclose(found[keep == 1][0], wanted, atol=1e-3)


def test_without_times_or_motion_one_pose_holds() -> None:
    xyz = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_euler("z", 90, degrees=True).as_matrix(), [0, 0, 1]
    expected = [[-2, 1, 4], [-5, 4, 7]]
    timed = Sweep(0, "lidar", xyz, time_ns=np.array([0, 1000]))
    for sweep, end in ((Sweep(0, "lidar", xyz), np.eye(4)), (timed, None)):
        np.testing.assert_allclose(moved_points(sweep, np.arange(2), T, end), expected, atol=1e-6)
