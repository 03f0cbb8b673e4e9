"""Rays to radiance: first hits, sun shadows, and ambient occlusion that is measured per pixel and smoothed."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from dseg_core.compiling import compiled, compiled_within
from dseg_core.simulation.meshes import Floats
from dseg_core.simulation.scene import Floats32, Hits, Ints, Scene, Snapshot, interpolated
from dseg_core.simulation.shading import shade_rows
from dseg_core.simulation.textures import hash3
from dseg_core.simulation.world import World

_OCCLUSION_REACH, _OCCLUSION_RAYS, _SMOOTHING = 2.2, 3, 4


def radiance(world: World, moment: Snapshot, origin: Floats, rays: Floats32, finer: int, spread: float) -> Floats32:
    """Linear RGB of an image's rays.

    Args:
        world: What is seen.
        moment: The scene at the time of exposure.
        origin: (3,), the camera's centre in the world.
        rays: (finer H, finer W, 3), unit directions in the world.
        finer: Rays per pixel edge.
        spread: Radians between neighbouring rays.

    Returns:
        float32 (finer H, finer W, 3).
    """
    scene, shape = world.scene, rays.shape[:2]
    flat = rays.reshape(-1, 3)
    hits = moment.cast(with_origin(origin, flat))
    normals = scene.normals_of(hits)
    sun = np.array(world.light.to_sun)
    lit = 1.0 - moment.blocked(_secondary(origin, flat, hits, normals, sun, 0)).astype(np.float32)
    free = _free_sky(scene, moment, origin, rays, hits, normals, finer)
    texture = interpolated(scene.texture, hits)
    out = np.empty((len(flat), 3), dtype=np.float32)
    _in_parts(
        shade_rows, len(flat), flat, hits.distance, hits.triangle, normals, texture, scene.material, world.materials,
        lit, free, world.light.row(), spread, out,
    )  # fmt: skip
    return out.reshape(*shape, 3)


def with_origin(origin: Floats, directions: Floats32) -> Floats32:
    """Rays (N, 6) from one origin (3,)."""
    rays = np.empty((len(directions), 6), dtype=np.float32)
    rays[:, :3], rays[:, 3:] = origin, directions
    return rays


def _in_parts(work: Callable[..., None], count: int, *arguments: Any) -> None:
    """Run compiled `work(first, last, *arguments)` over `count` items on all cores."""
    cores = os.cpu_count() or 1
    cuts = np.linspace(0, count, 4 * cores + 1).astype(int).tolist()
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(lambda first, last: work(first, last, *arguments), cuts[:-1], cuts[1:]))


def _secondary(origin: Floats, rays: Floats32, hits: Hits, normals: Floats32, sun: Floats, salt: int) -> Floats32:
    """Rays (N, 6) from the hits to the sun, or with `salt` in random directions around the normal."""
    out = np.empty((len(rays), 6), dtype=np.float32)

    _in_parts(_secondary_rows, len(rays), origin, rays, hits.distance, hits.triangle, normals, sun, salt, out)
    return out


@compiled
def _secondary_rows(
    first: int,
    last: int,
    origin: Floats,
    rays: Floats32,
    distance: Floats32,
    triangle: Ints,
    normals: Floats32,
    sun: Floats,
    salt: int,
    out: Floats32,
) -> None:
    for i in range(first, last):
        nx, ny, nz = normals[i, 0], normals[i, 1], normals[i, 2]
        dx, dy, dz = rays[i, 0], rays[i, 1], rays[i, 2]
        if nx * dx + ny * dy + nz * dz > 0.0:
            nx, ny, nz = -nx, -ny, -nz
        if triangle[i] < 0:  # a ray that hits nothing, cheaply
            out[i, 0], out[i, 1], out[i, 2], out[i, 3], out[i, 4], out[i, 5] = 0, 0, 1e5, 0, 0, 1
            continue
        away = 0.004 + 2e-4 * distance[i]  # single precision: start a little off the surface
        out[i, 0] = origin[0] + dx * (distance[i] - away) + nx * away
        out[i, 1] = origin[1] + dy * (distance[i] - away) + ny * away
        out[i, 2] = origin[2] + dz * (distance[i] - away) + nz * away
        if salt == 0:
            out[i, 3], out[i, 4], out[i, 5] = sun[0], sun[1], sun[2]
            continue
        z = 2.0 * hash3(i, salt, 1) - 1.0  # normal + a point on the sphere: cosine-weighted
        angle, flat = 6.2831853 * hash3(i, salt, 2), math.sqrt(1.0 - z * z)
        x, y, z = 1.001 * nx + flat * math.cos(angle), 1.001 * ny + flat * math.sin(angle), 1.001 * nz + z
        norm = math.sqrt(x * x + y * y + z * z)
        out[i, 3], out[i, 4], out[i, 5] = x / norm, y / norm, z / norm


def _free_sky(
    scene: Scene, moment: Snapshot, origin: Floats, rays: Floats32, hits: Hits, normals: Floats32, finer: int
) -> Floats32:
    """Share of the surroundings that is open, per ray (N,): a few rays at one sample a pixel, smoothed on surfaces."""
    shape = rays.shape[:2]
    pick = np.arange(shape[0] * shape[1]).reshape(shape)[finer // 2 :: finer, finer // 2 :: finer]
    rows = pick.reshape(-1)
    some = rays.reshape(-1, 3)[rows]
    none = np.zeros(0, dtype=np.int64)
    coarse = Hits(hits.distance[rows], hits.triangle[rows], hits.uv[rows], none, np.zeros((0, 3, 3)))
    total = np.zeros(len(rows), dtype=np.float32)
    up = np.array([0.0, 0.0, 1.0])
    for k in range(_OCCLUSION_RAYS):
        total += moment.blocked(_secondary(origin, some, coarse, normals[rows], up, k + 1), _OCCLUSION_REACH)
    open_share = (1.0 - 0.85 * total / _OCCLUSION_RAYS).astype(np.float32).reshape(pick.shape)
    points = (some * np.where(coarse.triangle >= 0, coarse.distance, 1e6)[:, None]).reshape(*pick.shape, 3)
    facing = normals[rows].reshape(*pick.shape, 3)
    for axis in (0, 1):
        smoothed = np.empty_like(open_share)
        _in_parts(_smooth, len(pick), open_share, points, facing, axis, smoothed)
        open_share = smoothed
    fine = np.empty(shape, dtype=np.float32)
    every = (rays.reshape(-1, 3) * np.where(hits.triangle >= 0, hits.distance, 1e6)[:, None]).reshape(*shape, 3)
    fine_normals = normals.reshape(*shape, 3)
    _in_parts(_refine, shape[0], open_share, points, facing, every, fine_normals, finer, fine)
    return fine.reshape(-1)


@compiled_within
def _same_surface(p: Floats32, n: Floats32, q: Floats32, m: Floats32) -> bool:
    """Whether point q with normal m continues the surface at p with normal n (points from the camera's centre)."""
    if n[0] * m[0] + n[1] * m[1] + n[2] * m[2] < 0.9:
        return False
    off = (q[0] - p[0]) * n[0] + (q[1] - p[1]) * n[1] + (q[2] - p[2]) * n[2]
    return bool(abs(off) < 0.06 + 0.004 * (abs(p[0]) + abs(p[1])))


@compiled
def _smooth(
    first: int, last: int, values: Floats32, points: Floats32, normals: Floats32, axis: int, out: Floats32
) -> None:
    """Mean over neighbours along `axis` which lie on the same surface; rows `first` to `last`."""
    height, width = values.shape
    for y in range(first, last):
        for x in range(width):
            total, weight = 0.0, 0
            for k in range(-_SMOOTHING, _SMOOTHING + 1):
                j, i = (y + k, x) if axis == 0 else (y, x + k)
                if not (0 <= j < height and 0 <= i < width):
                    continue
                if _same_surface(points[y, x], normals[y, x], points[j, i], normals[j, i]):
                    total, weight = total + values[j, i], weight + 1
            out[y, x] = total / max(weight, 1)


@compiled
def _refine(
    first: int,
    last: int,
    coarse: Floats32,
    coarse_points: Floats32,
    coarse_normals: Floats32,
    points: Floats32,
    normals: Floats32,
    finer: int,
    out: Floats32,
) -> None:
    """Give each ray the value of its pixel, or of a neighbouring pixel on the same surface."""
    height, width = coarse.shape
    for y in range(first, last):
        for x in range(points.shape[1]):
            py, px = y // finer, x // finer
            value = coarse[py, px]
            if not _same_surface(points[y, x], normals[y, x], coarse_points[py, px], coarse_normals[py, px]):
                for k in range(9):
                    j, i = py + k // 3 - 1, px + k % 3 - 1
                    if not (0 <= j < height and 0 <= i < width):
                        continue
                    if _same_surface(points[y, x], normals[y, x], coarse_points[j, i], coarse_normals[j, i]):
                        value = coarse[j, i]
                        break
            out[y, x] = value
