"""What rays hit: the still street and what moves through it, each moving thing where it is at the ray's own time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import open3d as o3d
from numpy.typing import NDArray

from dseg_core.simulation.meshes import Floats, Mesh
from dseg_core.simulation.street import Centreline

Floats32 = NDArray[np.float32]
_Raycaster = o3d.t.geometry.RaycastingScene


@dataclass(frozen=True, eq=False)
class Hits:
    """What each of N rays hit first.

    `distance`: float32 (N,), metres, inf for the sky. `triangle`: int64 (N,), row of the scene's tables, -1 for the sky.
    `uv`: float32 (N, 2), barycentric coordinates of corners 1 and 2. `turn`: float64 (N, 3, 3) or None: rotation of the
    triangle's normals to the world, None when all were still.
    """

    distance: Floats32
    triangle: NDArray[np.int64]
    uv: Floats32
    turn: Floats | None


@dataclass(frozen=True, eq=False)
class Mover:
    """A rigid thing that follows the street at constant speed: at time t it is at (s0 + speed t, d), turned by `yaw`."""

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
    scene.add_triangles(o3d.core.Tensor(points), o3d.core.Tensor(index))
    return scene


class Scene:
    """Ray casting against a still mesh and movers. Tables have a row per triangle, still ones first."""

    def __init__(
        self, still: Mesh, instances: NDArray[np.int64], movers: tuple[Mover, ...], street: Centreline
    ) -> None:
        self._street, self._movers = street, movers
        self._still = _raycaster(still)
        self._casters = [_raycaster(m.mesh) for m in movers]
        meshes = [still, *(m.mesh for m in movers)]
        self._starts = np.cumsum([0, *(len(m) for m in meshes)])
        self._centers = [
            (m.mesh.corners.reshape(-1, 3).min(0) + m.mesh.corners.reshape(-1, 3).max(0)) / 2 for m in movers
        ]
        self._radii = [
            float(np.linalg.norm(m.mesh.corners - c, axis=2).max()) + 0.05
            for m, c in zip(movers, self._centers, strict=True)
        ]
        self.normals = np.concatenate([m.normals for m in meshes]).astype(np.float32)
        self.texture = np.concatenate([m.texture for m in meshes]).astype(np.float32)
        self.material = np.concatenate([m.material for m in meshes])
        self.semantic = np.concatenate([m.semantic for m in meshes]).astype(np.uint8)
        ids = [instances, *(np.full(len(m.mesh), m.instance) for m in movers)]
        self.instance = np.concatenate(ids).astype(np.uint16)

    def cast(self, origins: Floats, directions: Floats, time: Floats) -> Hits:
        """First hits of rays; `origins`, `directions` (unit): (N, 3) world, `time`: (N,) s since the world's start."""
        rays = np.concatenate([origins, directions], axis=1).astype(np.float32)
        found = self._still.cast_rays(o3d.core.Tensor(rays))
        distance = found["t_hit"].numpy()
        triangle = found["primitive_ids"].numpy().astype(np.int64)
        triangle[~np.isfinite(distance)] = -1
        uv = found["primitive_uvs"].numpy()
        turn: Floats | None = None
        for k, (near, rotation, local) in enumerate(self._near_movers(origins, directions, time)):
            if not len(near):
                continue
            mine = self._casters[k].cast_rays(o3d.core.Tensor(local))
            closer = mine["t_hit"].numpy() < distance[near]
            rows = near[closer]
            distance[rows] = mine["t_hit"].numpy()[closer]
            triangle[rows] = mine["primitive_ids"].numpy()[closer].astype(np.int64) + self._starts[k + 1]
            uv[rows] = mine["primitive_uvs"].numpy()[closer]
            if turn is None:
                turn = np.broadcast_to(np.eye(3), (len(rays), 3, 3)).copy()
            turn[rows] = rotation[closer]
        return Hits(distance, triangle, uv, turn)

    def blocked(self, origins: Floats, directions: Floats, time: Floats, reach: float = np.inf) -> NDArray[np.bool_]:
        """Whether anything is within `reach` metres along each ray (shadows, ambient occlusion)."""
        rays = np.concatenate([origins, directions], axis=1).astype(np.float32)
        dark = self._still.test_occlusions(o3d.core.Tensor(rays), tnear=0.0, tfar=float(reach)).numpy()
        for k, (near, _, local) in enumerate(self._near_movers(origins, directions, time)):
            if len(near):
                dark[near] |= (
                    self._casters[k].test_occlusions(o3d.core.Tensor(local), tnear=0.0, tfar=float(reach)).numpy()
                )
        return dark

    def _near_movers(
        self, origins: Floats, directions: Floats, time: Floats
    ) -> list[tuple[NDArray[np.int64], Floats, Floats32]]:
        """Per mover: the rays that come near it, its rotation for each, and those rays in its own coordinates."""
        result = []
        for mover, center, radius in zip(self._movers, self._centers, self._radii, strict=True):
            same = bool(np.all(time == time[0]))
            R, p = mover.poses(self._street, time[:1] if same else time)
            to = p + R @ center - origins
            along = np.einsum("ni,ni->n", to, directions)
            off = np.einsum("ni,ni->n", to, to) - along**2
            near = np.flatnonzero((off < radius**2) & (along > -radius))
            Rn = np.broadcast_to(R, (len(origins), 3, 3))[near]
            pn = np.broadcast_to(p, (len(origins), 3))[near]
            o = np.einsum("nij,ni->nj", Rn, origins[near] - pn)
            d = np.einsum("nij,ni->nj", Rn, directions[near])
            result.append((near, Rn, np.concatenate([o, d], axis=1).astype(np.float32)))
        return result

    def normals_of(self, hits: Hits) -> Floats32:
        """Interpolated unit normals (N, 3) in the world; zero for the sky."""
        n = interpolated(self.normals, hits)
        if hits.turn is not None:
            n = np.einsum("nij,nj->ni", hits.turn, n).astype(np.float32)
        n /= np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-9)
        n[hits.triangle < 0] = 0
        return n


def interpolated(values: Floats32, hits: Hits) -> Floats32:
    """Corner values (T, 3, 3) at the hits: float32 (N, 3); arbitrary for the sky."""
    u, v = hits.uv[:, :1], hits.uv[:, 1:]
    c = values[np.maximum(hits.triangle, 0)]
    return (c[:, 0] * (1 - u - v) + c[:, 1] * u + c[:, 2] * v).astype(np.float32)  # type: ignore[no-any-return]
