"""Whether a LiDAR's own points show that it is mounted far from level, where no transform tells it [ours]."""

from __future__ import annotations

import threading
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from dseg_core.records import Sweep
from dseg_core.tilt_of_sensor import FOUND_BY_ITSELF
from dseg_core.transforms import TransformTree

_DRAWS = np.random.default_rng(0).random((400, 3))  # the same planes are tried each time
_OF_LOW, _LOW = 100, 0.2  # draws of them, from so large a share of the points: the lowest
_SAMPLE, _FEWEST_POINTS = 1500, 100
_FROM, _TO = 2.0, 25.0  # metres, of points that tell
_NEAR, _UNDER, _MOST_UNDER = 0.1, 0.3, 0.03  # metres from a plane; and behind it, where hardly any point is
_LOWEST, _HIGHEST = 0.3, 10.0  # metres that a LiDAR is above the street
_LEAST, _MOST_LEVEL = 0.15, 0.03  # share of the points on a tilted street, and on any that would be level
_STEEPEST, _BETWEEN = 20.0, 10.0  # degrees that this one may be from level; and nearer to the tilted one it is the same
_SLIGHT, _OF_BEST = (
    25.0,
    0.2,
)  # degrees up to which parts of a tilted street are nearly level; such a share
_WALL, _LEAST_OF_WALL = 60.0, 0.25  # degrees within which of the vertical a plane may be a wall, which needs more
_DOWN, _LOOKS_DOWN = -0.1, 0.1  # sine of the elevation; share of the points below it that a LiDAR has which sees floors
_UPRIGHT = np.cos(np.pi / 4)  # of z on z: frames above a LiDAR that are turned by more, as cameras' are, are no vehicle
_AS_TOLD = 8.0  # degrees between up by the street and by the mount that is told
_FIRST, _EVERY, _SWEEPS = 3, 10, 12  # sweeps looked at: the first ones, then every so manieth; so many in all


class TiltWatch:
    """Looks at some of each LiDAR's sweeps; any thread may ask. `tree`: where it looks up how they are mounted."""

    def __init__(self, tree: TransformTree) -> None:
        self._tree = tree
        self._count: defaultdict[str, int] = defaultdict(int)
        self._ups: defaultdict[str, list[NDArray[np.float64]]] = defaultdict(list)
        self._told: dict[str, str] = {}  # of each LiDAR, always the same: an estimate goes on changing a little
        self._lock = threading.Lock()

    def note(self, sweep: Sweep) -> str:
        """What to do where its LiDAR's sweeps so far, two of three at least, show a tilted street; else empty.

        What is told first of a LiDAR is told always.
        """
        frame = sweep.frame_id
        with self._lock:
            count, ups = self._count[frame], self._ups[frame]
            self._count[frame] += 1
            if frame not in self._told and len(ups) < _SWEEPS and (count < _FIRST or count % _EVERY == 0):
                up = street_up(sweep.xyz)
                ups.append(np.array([0.0, 0.0, 1.0]) if up is None else up)
                tilted = [up for up in ups if _degrees(up) > FOUND_BY_ITSELF]
                if len(ups) >= _FIRST and 3 * len(tilted) >= 2 * len(ups):
                    self._told[frame] = _advice(self._tree, frame, np.array(tilted))
            return self._told.get(frame, "")


def _advice(tree: TransformTree, frame: str, ups: NDArray[np.float64]) -> str:
    """What to do about a LiDAR whose ways up from the street are `ups` (N, 3): its mount, in whole degrees.

    What transforms know of it stays: its place, and where its x axis points to.
    """
    from scipy.spatial.transform import Rotation  # which few drives need

    up = np.median(ups, axis=0)
    up /= np.linalg.norm(up)
    seen = f"points of {frame} show a street turned by {_degrees(up):.0f} deg from level"
    vehicle = tree.rigid_root(frame)
    T = tree.lookup(vehicle, frame, 0)  # no odometry is on that way, so that any time will do
    if _degrees(T[:3, :3] @ up) < _AS_TOLD:
        return f"{seen}, as its mount is told to be: give --proposals.level {vehicle}, else ground may be missed"
    x, y, z = up
    roll, pitch = (round(float(np.rad2deg(angle))) for angle in (np.arctan2(y, z), np.arctan2(-x, np.hypot(y, z))))
    known = vehicle != frame and bool(T[2, 2] > _UPRIGHT)
    yaw = float(np.rad2deg(np.arctan2(T[1, 0], T[0, 0]))) if known else 0.0
    turn = _numbers(Rotation.from_euler("xyz", [roll, pitch, yaw], degrees=True).as_quat(), 4)
    place = f"translation [{_numbers(T[:3, 3], 3)}]" if known else "translation [0, 0, 0], or where it is once measured"
    mount = f"{place}, quaternion [{turn}], which is roll {roll}, pitch {pitch}, yaw {yaw:.0f} deg"
    return (
        f"{seen}, so that ground may be missed: unless that is a wall or a bank, tell its "
        f"mount{f' in {vehicle}' * known} ({mount}) in /tf_static or --topics.calibration, and give --proposals.level "
        f"{vehicle if known else 'the frame that is level'}"
    )


def _numbers(values: NDArray[np.float64], digits: int) -> str:
    return ", ".join(f"{value + 0.0:g}" for value in np.round(values, digits))


def street_up(xyz: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """The way up from a street that is far from level (RANSAC).

    The street is the plane with most points that has all others on the sensor's side. Banks, walls and ceilings may
    have more than a level street: where there is one, none is tilted. A wall tells nothing to a LiDAR that sees no
    floor: one that looks upwards only.

    Args:
        xyz: (N, 3), metres, LiDAR frame; what is no measurement may be among them.

    Returns:
        float64 (3,), of length 1, in the LiDAR's frame; None where the street is level, or not seen.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.linalg.norm(xyz, axis=1)
        seen = np.flatnonzero((distance > _FROM) & (distance < _TO))
    if len(seen) < _FEWEST_POINTS:
        return None
    points = xyz[seen[:: max(len(seen) // _SAMPLE, 1)]].astype(np.float64)
    normal, through, area = _planes(points)
    height = -np.einsum("ij,ij->i", normal, through)
    up, height = normal * np.sign(height)[:, None], np.abs(height)
    over = points @ up.T + height  # metres, (points, planes)
    possible = (area > 1) & (height > _LOWEST) & (height < _HIGHEST)
    possible &= np.mean(over < -_UNDER, axis=0) < _MOST_UNDER
    share = np.where(possible, np.mean(np.abs(over) < _NEAR, axis=0), 0)
    best, tilt = int(np.argmax(share)), _degrees(up)
    is_wall = _WALL < tilt[best] < 180 - _WALL
    if is_wall and np.mean(points[:, 2] < _DOWN * np.linalg.norm(points, axis=1)) < _LOOKS_DOWN:
        return None
    if tilt[best] <= FOUND_BY_ITSELF or share[best] < (_LEAST_OF_WALL if is_wall else _LEAST):
        return None
    hangs = tilt[best] > 180 - _WALL
    level = share[tilt <= (FOUND_BY_ITSELF if hangs else min(_STEEPEST, tilt[best] - _BETWEEN))].max(initial=0)
    if level > max(_MOST_LEVEL, _OF_BEST * share[best] if hangs or tilt[best] < _SLIGHT else 0):
        return None
    return np.asarray(up[best])


def _planes(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Through any three points, and through three of the lowest: normals (K, 3), a point of each, twice the area."""
    low = points[np.argsort(points[:, 2])[: max(int(_LOW * len(points)), 3)]]
    corners = []
    for k in range(3):
        of_all, of_low = (_DRAWS[:-_OF_LOW, k] * len(points)), (_DRAWS[-_OF_LOW:, k] * len(low))
        corners.append(np.concatenate([points[of_all.astype(np.int64)], low[of_low.astype(np.int64)]]))
    a, b, c = corners
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=1)
    return normal / np.maximum(area, 1e-9)[:, None], a, area


def _degrees(up: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of ways (..., 3) of length 1, from z."""
    return np.asarray(np.rad2deg(np.arccos(np.clip(up[..., 2], -1, 1))))
