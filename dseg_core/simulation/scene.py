"""What rays hit: the still street and what moves through it, each moving thing where it is at the ray's own time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import open3d as o3d
from numpy.typing import NDArray

from dseg_core.compiling import compiled
from dseg_core.simulation.meshes import Floats, Mesh, merged
from dseg_core.simulation.street import Centreline

Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]
_Raycaster = o3d.t.geometry.RaycastingScene


@dataclass(frozen=True, eq=False)
class Hits:
    """What each of N rays hit first.

    `distance`: float32 (N,), metres, inf for the sky. `triangle`: int64 (N,), row of the scene's tables, -1 for sky.
    `uv`: float32 (N, 2), barycentric coordinates of corners 1 and 2. `moved`: int64 (M,), the rays that hit a mover;
    `rotations`: float64 (M, 3, 3), from that mover's axes to the world's.
    """

    distance: Floats32
    triangle: Ints
    uv: Floats32
    moved: Ints
    rotations: Floats


@dataclass(frozen=True, eq=False)
class Mover:
    """A rigid thing that follows the street at constant speed: at time t at (s0 + speed t, d), turned by `yaw`."""

    mesh: Mesh
    instance: int
    s0: float
    d: float
    z: float
    speed: float
    yaw: float

    def poses(self, street: Centreline, time: Floats) -> tuple[Floats, Floats]:
        """Rotations (N, 3, 3) and positions (N, 3) at times (N,) in seconds."""
        s = self.s0 + self.speed * time
        c, n = np.cos(self.yaw), np.sin(self.yaw)
        turn = np.array([[c, -n, 0], [n, c, 0], [0, 0, 1.0]])
        return street.rotations(s) @ turn, street.at(s, self.d, self.z)


def _raycaster(mesh: Mesh) -> _Raycaster:
    scene = _Raycaster()
    points = mesh.corners.reshape(-1, 3).astype(np.float32)
    index = np.arange(len(points), dtype=np.uint32).reshape(-1, 3)
    scene.add_triangles(_tensor(points), _tensor(index))
    return scene


def _tensor(values: NDArray[Any]) -> o3d.core.Tensor:
    return o3d.core.Tensor.from_numpy(np.ascontiguousarray(values))


def _first_hits(caster: _Raycaster, rays: Floats32) -> tuple[Floats32, Ints, Floats32]:
    found = caster.cast_rays(_tensor(rays))
    return found["t_hit"].numpy(), found["primitive_ids"].numpy().astype(np.int64), found["primitive_uvs"].numpy()


class Scene:
    """Ray casting against a still mesh and movers. Tables have a row per triangle, still ones first."""

    def __init__(self, still: Mesh, instances: Ints, movers: tuple[Mover, ...], street: Centreline) -> None:
        self._street, self._movers = street, movers
        self._still = _raycaster(still)
        self._casters = [_raycaster(m.mesh) for m in movers]
        meshes = [still, *(m.mesh for m in movers)]
        self._starts = np.cumsum([0, *(len(m) for m in meshes)])
        points = [m.mesh.corners.reshape(-1, 3) for m in movers]
        self._centers = [(p.min(0) + p.max(0)) / 2 for p in points]
        self._radii = [float(np.linalg.norm(p - c, axis=1).max()) for p, c in zip(points, self._centers, strict=True)]
        self.normals = np.concatenate([m.normals for m in meshes]).astype(np.float32)
        self.texture = np.concatenate([m.texture for m in meshes]).astype(np.float32)
        self.material = np.concatenate([m.material for m in meshes])
        self.semantic = np.concatenate([m.semantic for m in meshes]).astype(np.uint8)
        ids = [instances, *(np.full(len(m.mesh), m.instance) for m in movers)]
        self.instance = np.concatenate(ids).astype(np.uint16)

    def at(self, time: float) -> Snapshot:
        """The scene standing still at `time` (s): for images."""
        poses = [m.poses(self._street, np.array([time])) for m in self._movers]
        rotations = np.concatenate([R for R, _ in poses]) if poses else np.zeros((0, 3, 3))
        placed = [m.mesh.moved(_motion(R[0], p[0])) for m, (R, p) in zip(self._movers, poses, strict=True)]
        owner = np.repeat(np.arange(len(placed)), [len(m) for m in placed])
        moving = _raycaster(merged(placed)) if placed else None
        return Snapshot(self._still, moving, int(self._starts[1]), owner, rotations)

    def cast(self, origins: Floats, directions: Floats, time: Floats) -> Hits:
        """First hits of rays which start close together in space and time: for LiDAR sweeps.

        Args:
            origins: (N, 3), world, metres.
            directions: (N, 3), unit, world.
            time: (N,), seconds since the world's start.
        """
        distance, triangle, uv = _first_hits(
            self._still, np.concatenate([origins, directions], axis=1).astype(np.float32)
        )
        triangle[~np.isfinite(distance)] = -1
        rotations = np.zeros((len(origins), 3, 3))
        moved = np.zeros(len(origins), dtype=bool)
        drift = float((origins.max(axis=0) - origins.min(axis=0)).sum()) if self._movers else 0.0
        for k, mover in enumerate(self._movers):
            near = self._near(k, origins[0], directions, time, drift)
            if not len(near):
                continue
            R, p = mover.poses(self._street, time[near])
            start = np.einsum("nij,ni->nj", R, origins[near] - p)
            local = np.concatenate([start, np.einsum("nij,ni->nj", R, directions[near])], axis=1).astype(np.float32)
            own_distance, own_triangle, own_uv = _first_hits(self._casters[k], local)
            closer = own_distance < distance[near]
            rows = near[closer]
            distance[rows], uv[rows] = own_distance[closer], own_uv[closer]
            triangle[rows] = own_triangle[closer] + self._starts[k + 1]
            moved[rows], rotations[rows] = True, R[closer]
        return Hits(distance, triangle, uv, np.flatnonzero(moved), rotations[moved])

    def _near(self, k: int, origin: Floats, directions: Floats, time: Floats, drift: float) -> Ints:
        """Rays that could hit mover `k`: those that pass its bounding sphere, widened by all motion meanwhile.

        `drift` (m): how far from `origin` rays may start.
        """
        R, p = self._movers[k].poses(self._street, np.array([time[0], time[-1]]))
        center = p + R @ self._centers[k]
        slack = np.linalg.norm(center[1] - center[0]) + drift
        radius = self._radii[k] + float(slack) + 0.05
        to = center[0] - origin
        if np.linalg.norm(to) > 150:
            return np.zeros(0, dtype=np.int64)
        along = directions @ to
        return np.flatnonzero((to @ to - along**2 < radius**2) & (along > -radius))

    def normals_of(self, hits: Hits) -> Floats32:
        """Interpolated unit normals (N, 3) in the world; arbitrary for the sky."""
        n = interpolated(self.normals, hits)
        n[hits.moved] = np.einsum("nij,nj->ni", hits.rotations, n[hits.moved])
        n /= np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-9)
        return n


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A scene at one moment. `owner`: (K,) mover of each moving triangle; `rotations`: (M, 3, 3) of the movers."""

    still: _Raycaster
    moving: _Raycaster | None
    still_count: int
    owner: Ints
    rotations: Floats

    def cast(self, rays: Floats32) -> Hits:
        """First hits of rays (N, 6): origin and unit direction in the world."""
        distance, triangle, uv = _first_hits(self.still, rays)
        triangle[~np.isfinite(distance)] = -1
        if self.moving is None:
            return Hits(distance, triangle, uv, np.zeros(0, dtype=np.int64), np.zeros((0, 3, 3)))
        own_distance, own_triangle, own_uv = _first_hits(self.moving, rays)
        rows = np.flatnonzero(own_distance < distance)
        distance[rows], uv[rows] = own_distance[rows], own_uv[rows]
        triangle[rows] = own_triangle[rows] + self.still_count
        return Hits(distance, triangle, uv, rows, self.rotations[self.owner[own_triangle[rows]]])

    def blocked(self, rays: Floats32, reach: float = np.inf) -> NDArray[np.bool_]:
        """Whether anything is within `reach` metres along each ray (N, 6)."""
        tensor = _tensor(rays)
        dark: NDArray[np.bool_] = self.still.test_occlusions(tensor, tnear=0.0, tfar=float(reach)).numpy()
        if self.moving is not None:
            dark |= self.moving.test_occlusions(tensor, tnear=0.0, tfar=float(reach)).numpy()
        return dark


def _motion(R: Floats, p: Floats) -> Floats:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, p
    return T


def interpolated(values: Floats32, hits: Hits) -> Floats32:
    """Corner values (T, 3, 3) at the hits: float32 (N, 3); arbitrary for the sky."""
    out = np.empty((len(hits.triangle), 3), dtype=np.float32)
    _interpolate(values, hits.triangle, hits.uv, out)
    return out


@compiled
def _interpolate(values: Floats32, triangle: Ints, uv: Floats32, out: Floats32) -> None:
    for i in range(len(triangle)):
        corners, u, v = values[max(triangle[i], 0)], uv[i, 0], uv[i, 1]
        for k in range(3):
            out[i, k] = corners[0, k] * (1.0 - u - v) + corners[1, k] * u + corners[2, k] * v
