"""Triangle soups and the primitives that shapes are put together from.

Coordinates are metres, x forward, y left, z up. Texture coordinates are metres too, in the object's own coordinates, so
that a texture moves with its object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle soup.

    `corners`: float64 (T, 3, 3), corner by coordinate, metres. `normals`: float64 (T, 3, 3), unit, one a corner.
    `texture`: float64 (T, 3, 3), texture coordinates. `material`: int64 (T,), rows of the world's materials.
    `semantic`: int64 (T,), truth class.
    """

    corners: Floats
    normals: Floats
    texture: Floats
    material: NDArray[np.int64]
    semantic: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.corners)

    def moved(self, T: Floats) -> Mesh:
        """The mesh under a rigid motion `T` (4, 4); texture coordinates stay."""
        return Mesh(
            self.corners @ T[:3, :3].T + T[:3, 3],
            self.normals @ T[:3, :3].T,
            self.texture,
            self.material,
            self.semantic,
        )


def merged(meshes: Sequence[Mesh]) -> Mesh:
    """All triangles of `meshes` as one mesh."""
    return Mesh(
        np.concatenate([m.corners for m in meshes]),
        np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.texture for m in meshes]),
        np.concatenate([m.material for m in meshes]),
        np.concatenate([m.semantic for m in meshes]),
    )


def triangles(
    corners: ArrayLike,
    material: int | NDArray[np.int64],
    semantic: int,
    normals: ArrayLike | None = None,
    texture: ArrayLike | None = None,
) -> Mesh:
    """A mesh of (T, 3, 3) corners; flat normals (counter-clockwise from outside) and texture = corners unless given."""
    points = np.asarray(corners, dtype=np.float64)
    if normals is None:
        flat = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
        flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
        normals = np.repeat(flat[:, None], 3, axis=1)
    count = len(points)
    return Mesh(
        points,
        np.asarray(normals, dtype=np.float64),
        points.copy() if texture is None else np.asarray(texture, dtype=np.float64),
        np.broadcast_to(np.asarray(material, dtype=np.int64), (count,)).copy(),
        np.full(count, semantic, dtype=np.int64),
    )


def quads(
    corners: ArrayLike,
    material: int | NDArray[np.int64],
    semantic: int,
    normals: ArrayLike | None = None,
    texture: ArrayLike | None = None,
) -> Mesh:
    """A mesh of (Q, 4, 3) corners, counter-clockwise from outside, two triangles each; normals and texture alike."""
    split = [0, 1, 2, 0, 2, 3]

    def cut(values: ArrayLike) -> Floats:
        return np.asarray(values, dtype=np.float64)[:, split].reshape(-1, 3, 3)

    points = np.asarray(corners, dtype=np.float64)
    if normals is None:  # from the diagonals: also right where two corners coincide
        flat = np.cross(points[:, 2] - points[:, 0], points[:, 3] - points[:, 1])
        flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
        normals = np.repeat(flat[:, None], 4, axis=1)
    each = np.repeat(np.broadcast_to(np.asarray(material, dtype=np.int64), (len(points),)), 2)
    return triangles(cut(points), each, semantic, cut(normals), cut(points if texture is None else texture))


def box(low: ArrayLike, high: ArrayLike, material: int, semantic: int) -> Mesh:
    """An axis-aligned box from corner `low` to corner `high`."""
    (x0, y0, z0), (x1, y1, z1) = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    faces = [
        [(x1, y0, z0), (x1, y1, z0), (x1, y1, z1), (x1, y0, z1)],
        [(x0, y1, z0), (x0, y0, z0), (x0, y0, z1), (x0, y1, z1)],
        [(x1, y1, z0), (x0, y1, z0), (x0, y1, z1), (x1, y1, z1)],
        [(x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)],
        [(x0, y0, z1), (x1, y0, z1), (x1, y1, z1), (x0, y1, z1)],
        [(x0, y1, z0), (x1, y1, z0), (x1, y0, z0), (x0, y0, z0)],
    ]
    return quads(faces, material, semantic)


def tube(points: ArrayLike, radii: ArrayLike, material: int, semantic: int, sides: int = 10) -> Mesh:
    """A round tube with closed ends through (K, 3) `points` with (K,) `radii`; smooth around."""
    path, radius = np.asarray(points, dtype=float), np.asarray(radii, dtype=float)
    axis = path[-1] - path[0]
    axis /= np.linalg.norm(axis)
    side = np.cross(axis, (1.0, 0.0, 0.0) if abs(axis[0]) < 0.8 else (0.0, 1.0, 0.0))
    side /= np.linalg.norm(side)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    around = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * np.cross(axis, side)  # (sides+1, 3)
    rings = path[:, None] + radius[:, None, None] * around  # (K, sides+1, 3)
    normal = np.broadcast_to(around, rings.shape)

    def grid(values: Floats) -> Floats:
        cells = [values[:-1, :-1], values[:-1, 1:], values[1:, 1:], values[1:, :-1]]
        return np.stack(cells, axis=2).reshape(-1, 4, 3)

    wall = quads(grid(rings), material, semantic, grid(normal))
    caps = []
    for end, ring, order in ((path[0], rings[0], (0, 2, 1)), (path[-1], rings[-1], (0, 1, 2))):
        fan = np.stack([np.broadcast_to(end, (sides, 3)), ring[:-1], ring[1:]], axis=1)
        caps.append(triangles(fan[:, order], material, semantic))
    return merged([wall, *caps])


def ball(center: ArrayLike, radii: ArrayLike, material: int, semantic: int, rows: int = 7, columns: int = 12) -> Mesh:
    """An ellipsoid with smooth normals."""
    latitude, longitude = np.meshgrid(
        np.linspace(-np.pi / 2, np.pi / 2, rows + 1), np.linspace(0, 2 * np.pi, columns + 1), indexing="ij"
    )
    unit = np.stack(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], axis=-1
    )
    scale = np.asarray(radii, dtype=float)
    normal = unit / scale
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)

    def grid(values: Floats) -> Floats:
        cells = [values[:-1, :-1], values[:-1, 1:], values[1:, 1:], values[1:, :-1]]
        return np.stack(cells, axis=2).reshape(-1, 4, 3)

    return quads(grid(unit * scale + np.asarray(center, dtype=float)), material, semantic, grid(normal))


def smoothed(mesh: Mesh, angle: float) -> Mesh:
    """The mesh with normals averaged at shared corners over faces that meet at less than `angle` (rad)."""
    points = np.round(mesh.corners.reshape(-1, 3), 4)
    normals = mesh.normals.reshape(-1, 3)
    _, group = np.unique(points, axis=0, return_inverse=True)
    group = group.reshape(-1)
    joined = (group[:, None] == group[None, :]) & (normals @ normals.T > np.cos(angle))
    mean = joined @ normals
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    return Mesh(mesh.corners, mean.reshape(-1, 3, 3), mesh.texture, mesh.material, mesh.semantic)


def pose(x: float, y: float, z: float, yaw: float = 0.0) -> Floats:
    """(4, 4) motion: a turn by `yaw` about z (rad), then a shift."""
    T = np.eye(4)
    T[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    T[:3, 3] = x, y, z
    return T
