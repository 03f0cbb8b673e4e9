"""Rigid transforms, and a tree of them in time: the same answers from a bag, from a live node and from a YAML file.

Transforms are 4x4 float64 named `T_target_source`; a pose message of `child` in `parent` is `T_parent_child`. Metres,
nanoseconds of the ROS header clock, quaternions as x, y, z, w.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dseg_core.errors import DsegError
from dseg_core.options import read_yaml

Matrix = NDArray[np.float64]
_STANDING = ("odom", "map", "earth", "world")  # in names of frames that the vehicle moves in
_SAME = 1e-9
_FARTHEST = 1e9  # metres; poses in the earth's frame have 6e6. Garbled ones overflow wherever points are moved by them
NO_ODOMETRY = "no odometry"
"""Why motion is not compensated where nothing tells of any."""
_UNNAMED = "a frame without a name"


class TransformError(DsegError):
    """No transform can be had: no path between the frames, or none at that time."""


def stands_still(frame: str) -> bool:
    """Whether a frame's name says that vehicles move in it, as those of REP 105 do (odom, map, earth)."""
    return any(word in frame.lower() for word in _STANDING)


def same(T: Matrix, other: Matrix) -> bool:
    """Whether two 4x4 are one, but for rounding."""
    return bool(np.abs(T - other).max() <= _SAME)


def matrix_from_pose(translation: Any, quaternion: Any) -> Matrix:
    """4x4 from a translation (3,) in metres and a quaternion x, y, z, w (4,), which need not be normalised.

    Raises:
        TransformError: The quaternion is zero, one of both is not finite, or the translation leads off the planet.
    """
    x, y, z = (float(v) for v in translation)
    if not all(np.isfinite((x, y, z))):
        raise TransformError(f"the translation {x}, {y}, {z} is not finite")
    if max(abs(x), abs(y), abs(z)) > _FARTHEST:
        raise TransformError(f"the translation {x:g}, {y:g}, {z:g} is farther than {_FARTHEST:g} m")
    x, y, z, w = (float(v) for v in quaternion)
    norm = (x * x + y * y + z * z + w * w) ** 0.5
    if not norm > 1e-6 or norm == float("inf"):
        raise TransformError(f"the quaternion {x}, {y}, {z}, {w} is no rotation")
    x, y, z, w = x / norm, y / norm, z / norm, w / norm
    T = np.eye(4)
    T[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    T[:3, 3] = [float(v) for v in translation]
    return T


def pose_from_matrix(T: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Translation (3,) and unit quaternion x, y, z, w (4,) with w >= 0 of a rigid 4x4."""
    R = T[:3, :3]
    # The largest of the four squared components is never small, so dividing by it is safe (Shepperd 1978).
    squares = np.array([1 + 2 * R[i, i] - np.trace(R) for i in range(3)] + [1 + np.trace(R)])
    k = int(np.argmax(squares))
    w_terms = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])
    if k == 3:
        q = np.append(w_terms, squares[3])
    else:
        q = np.append(R[:, k] + R[k, :], w_terms[k])
        q[k] = squares[k]
    q /= np.linalg.norm(q)
    return T[:3, 3].copy(), -q if q[3] < 0 else q


def inverse(T: Matrix) -> Matrix:
    """Inverse of a rigid 4x4."""
    inverted = np.eye(4)
    inverted[:3, :3] = T[:3, :3].T
    inverted[:3, 3] = -T[:3, :3].T @ T[:3, 3]
    return inverted


def interpolate(T0: Matrix, T1: Matrix, fraction: float) -> Matrix:
    """Between two rigid 4x4: straight line for the translation, shortest arc (slerp) for the rotation."""
    t0, q0 = pose_from_matrix(T0)
    t1, q1 = pose_from_matrix(T1)
    cosine = float(q0 @ q1)
    if cosine < 0:
        q1, cosine = -q1, -cosine
    if cosine > 1 - 1e-10:
        q = (1 - fraction) * q0 + fraction * q1
    else:
        angle = np.arccos(min(cosine, 1.0))
        q = (np.sin((1 - fraction) * angle) * q0 + np.sin(fraction * angle) * q1) / np.sin(angle)
    return matrix_from_pose((1 - fraction) * t0 + fraction * t1, q)


@dataclass
class _Edge:
    """The transforms of one child in its parent: one for all times when static, else sorted by stamp."""

    parent: str
    static: bool
    stamps: list[int] = field(default_factory=list)
    matrices: list[Matrix] = field(default_factory=list)


class TransformTree:
    """Frames and the transforms between them in time, as tf2 keeps them, but never extrapolating.

    Nothing is forgotten unless `forget` says so. May be asked and added to from several threads. `given`: frames that a
    calibration file has mounted, which counts more than anything that is added.
    """

    def __init__(self) -> None:
        self.given: frozenset[str] = frozenset()
        self.mounts = 0
        """Grows with every change of what is static."""
        self._edges: dict[str, _Edge] = {}
        self._lock = threading.RLock()  # held by whatever looks at the edges: they are added to meanwhile

    def add(self, parent: str, child: str, T_parent_child: Matrix, stamp_ns: int | None = None) -> None:
        """Add a transform; `stamp_ns` None makes it static. A later one for the same stamp replaces the earlier.

        Of a frame that is `given`, it is left out.

        Raises:
            TransformError: `child` would hang on itself.
        """
        parent, child = parent.lstrip("/"), child.lstrip("/")
        if child in self.given:
            return
        with self._lock:
            if parent == child or child in self._chain(parent):
                what = f"the transform {parent} -> {child} would make a loop"
                raise TransformError(what, fix="Check /tf and /tf_static")
            edge = self._edges.get(child)
            if edge is None or edge.parent != parent or edge.static != (stamp_ns is None):
                self.mounts += stamp_ns is None or (edge is not None and edge.static)
                edge = self._edges[child] = _Edge(parent, stamp_ns is None)
            if stamp_ns is None:
                self.mounts += bool(edge.matrices) and not same(edge.matrices[0], T_parent_child)
                edge.stamps, edge.matrices = [0], [T_parent_child]
                return
            at = bisect_left(edge.stamps, stamp_ns)
            if at < len(edge.stamps) and edge.stamps[at] == stamp_ns:
                edge.matrices[at] = T_parent_child
            else:
                edge.stamps.insert(at, stamp_ns)
                edge.matrices.insert(at, T_parent_child)

    def forget(self, before_ns: int) -> None:
        """Let go of what moved before a time; static transforms, and the latest of each that moves, stay."""
        with self._lock:
            for edge in self._edges.values():
                gone = 0 if edge.static else min(bisect_left(edge.stamps, before_ns), len(edge.stamps) - 1)
                del edge.stamps[:gone], edge.matrices[:gone]

    def forget_motion(self) -> None:
        """Let go of all that moves, as when a clock was set back."""
        with self._lock:
            self._edges = {child: edge for child, edge in self._edges.items() if edge.static}

    def settle(self) -> tuple[str, ...]:
        """Make static what has been the same all the time: mounts that are published again and again on /tf.

        ROS 1's static_transform_publisher does so, and robot_state_publisher can. They hold before the first and after
        the last of their messages as well, and are no motion. What hangs below a frame that REP 105 names for standing
        still (odom, map, earth) stays: a vehicle may stand all the time and have odometry.

        Returns:
            The frames that are mounted so.
        """
        with self._lock:
            settled = []
            for child, edge in self._edges.items():
                first = edge.matrices[0]
                if edge.static or stands_still(edge.parent) or not all(same(T, first) for T in edge.matrices):
                    continue
                self._edges[child] = _Edge(edge.parent, True, [0], [first])
                self.mounts += 1
                settled.append(child)
        return tuple(settled)

    @classmethod
    def from_calibration(cls, path: Path) -> TransformTree:
        """Static transforms from a YAML file; what is added later of the frames it mounts does not count.

        `transforms: [{parent: base_link, child: lidar, translation: [0, 0, 1.7], quaternion: [0, 0, 0, 1]}, ...]`

        Raises:
            DsegError: The file cannot be read or an entry lacks something.
        """
        tree = cls()
        rows = read_yaml(path).get("transforms")
        fix = "Each is {parent: base_link, child: lidar, translation: [x, y, z], quaternion: [x, y, z, w]}"
        if not isinstance(rows, list) or not rows:
            raise DsegError("has no list 'transforms'", where=path, fix=fix)
        for row in rows:
            try:
                T = matrix_from_pose(row["translation"], row["quaternion"])
                tree.add(str(row["parent"]), str(row["child"]), T)
            except (KeyError, TypeError, ValueError):
                raise DsegError(f"{row!r} is no transform", where=path, fix=fix) from None
        tree.given = frozenset(tree._edges)
        return tree

    @property
    def frames(self) -> tuple[str, ...]:
        """All frames, sorted."""
        with self._lock:
            return tuple(sorted({*self._edges, *(edge.parent for edge in self._edges.values())}))

    def fixed_frame(self, frame: str) -> str | None:
        """The root above `frame` (`odom`, `map`) when something moves on the way there, else None.

        What moves elsewhere, a wheel or a steering wheel, says nothing about the vehicle.
        """
        with self._lock:
            chain = self._chain(frame.lstrip("/"))
            return chain[-1] if any(not self._edges[child].static for child in chain[:-1]) else None

    def root(self, frame: str) -> str:
        """The topmost frame above `frame`; itself when nothing is known above it."""
        with self._lock:
            return self._chain(frame.lstrip("/"))[-1]

    def rigid_root(self, frame: str) -> str:
        """The topmost frame above `frame` against which nothing moves on the way: the vehicle's own."""
        with self._lock:
            chain = self._chain(frame.lstrip("/"))
            return next((child for child in chain[:-1] if not self._edges[child].static), chain[-1])

    def lookup(self, target: str, source: str, stamp_ns: int) -> Matrix:
        """T_target_source at a time, 4x4.

        Raises:
            TransformError: The frames are not connected, or a transform between them is not known at that time.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        with self._lock:
            up_target, up_source = self._chain(target), self._chain(source)
            common = next((frame for frame in up_target if frame in up_source), None)
            if common is not None:
                T_common_target = self._climb(up_target[: up_target.index(common)], stamp_ns)
                T_common_source = self._climb(up_source[: up_source.index(common)], stamp_ns)
                return inverse(T_common_target) @ T_common_source
            known = ", ".join(self.frames) or "none at all"
        what = f"no transform connects {source or _UNNAMED} and {target or _UNNAMED}; known frames: {known}"
        raise TransformError(what, fix="Record /tf and /tf_static, or give --topics.calibration")

    def lookup_moving(self, target: str, target_ns: int, source: str, source_ns: int, fixed: str) -> Matrix:
        """T_target_source from `source` at one time to `target` at another, through a frame that stands still."""
        return inverse(self.lookup(fixed, target, target_ns)) @ self.lookup(fixed, source, source_ns)

    def lookup_compensated(
        self, target: str, target_ns: int, source: str, source_ns: Sequence[int]
    ) -> tuple[list[Matrix], str | None]:
        """T_target_source from each time of `source` to `target`'s, with the vehicle's motion where it is known.

        Returns:
            A matrix for each of `source_ns`, and None; where the motion is not known, one for all times, and why not.

        Raises:
            TransformError: The frames are not connected.
        """
        why, fixed = NO_ODOMETRY, self.fixed_frame(source)
        if fixed is not None:
            try:
                return [self.lookup_moving(target, target_ns, source, when, fixed) for when in source_ns], None
            except TransformError:
                why = "odometry does not reach"
        return [self.lookup(target, source, source_ns[0])], why

    def _chain(self, frame: str) -> list[str]:
        """`frame` and its ancestors up to the root."""
        chain = [frame]
        while chain[-1] in self._edges:
            chain.append(self._edges[chain[-1]].parent)
        return chain

    def _climb(self, frames: list[str], stamp_ns: int) -> Matrix:
        """T_ancestor_frame over the edges above each of `frames`, lowest first."""
        T = np.eye(4)
        for child in frames:
            T = self._at(child, stamp_ns) @ T
        return T

    def _at(self, child: str, stamp_ns: int) -> Matrix:
        edge = self._edges[child]
        if edge.static:
            return edge.matrices[0]
        at = bisect_left(edge.stamps, stamp_ns)
        if at < len(edge.stamps) and edge.stamps[at] == stamp_ns:
            return edge.matrices[at]
        if at in (0, len(edge.stamps)):
            nearest = edge.stamps[0 if at == 0 else -1]
            raise TransformError(
                f"{edge.parent} -> {child} is known only {'from' if at == 0 else 'until'} {nearest} ns, "
                f"{abs(stamp_ns - nearest) / 1e6:.1f} ms {'after' if at == 0 else 'before'} the time asked for"
            )
        before, after = edge.stamps[at - 1 : at + 1]
        T_before, T_after = edge.matrices[at - 1 : at + 1]
        return interpolate(T_before, T_after, (stamp_ns - before) / (after - before))
