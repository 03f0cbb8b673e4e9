"""Regions: the pixels of each proposal in one camera, with what the camera cannot see left out."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from dseg_core.cameras import Camera
from dseg_core.lidar.range_image import NEAREST, Rows, rows_of
from dseg_core.moved_points import moved_points
from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND, Sweep
from dseg_core.stage_options import RegionOptions
from dseg_core.transforms import Matrix


def regions_from_pair(
    sweep: Sweep,
    proposals: NDArray[np.uint16],
    camera: Camera,
    T_image_sweep: Matrix,
    options: RegionOptions,
    T_image_sweep_end: Matrix | None = None,
) -> NDArray[np.uint16]:
    """Paint proposals into a camera's image.

    Every point is painted as the patch that its beam covers, half way to the neighbouring beams, into a depth buffer:
    patches of one surface close up without bleeding over its edge, and what lies behind it for the camera, though the
    LiDAR beside it sees it, is covered by them.

    Args:
        sweep: As measured, LiDAR frame.
        proposals: uint16 (N,), ids.
        camera: Of the image.
        T_image_sweep: (4, 4), from the sweep's frame at the sweep's stamp to the optical frame at the image's stamp.
        options: Limits of the patches.
        T_image_sweep_end: The same for the sweep's `farthest_ns`; with it, and times of points, each point is moved by
            the vehicle's motion up to its own time. None: the vehicle stands still or its motion is unknown.

    Returns:
        uint16 (H, W), ids, 0 where no proposal is seen.
    """
    regions = np.zeros((camera.height, camera.width), dtype=np.uint16)
    if not len(sweep):
        return regions
    keep = _may_be_seen(sweep, camera, T_image_sweep, T_image_sweep_end)
    in_camera = moved_points(sweep, keep, T_image_sweep, T_image_sweep_end)
    uv, visible = camera.project(in_camera)
    measured = np.linalg.norm(sweep.xyz[keep], axis=1)
    seen = np.flatnonzero(visible & (measured > NEAREST))
    keep, uv, measured = keep[seen], uv[seen], measured[seen]
    depth = np.linalg.norm(in_camera[seen], axis=1).astype(np.float32)
    size = _patches(sweep, keep, camera, options) * _stretch(uv, measured / depth, camera)
    size = np.clip(size, 0.5, options.fill).astype(np.float32)
    nearest = np.full((camera.height, camera.width), np.inf, dtype=np.float32)
    ids = proposals[keep]
    if options.enclosed > 0 and len(keep):
        cell = max(2.0, 2.0 * float(np.median(size)))
        focal = float(camera.matrix[0, 0])
        open_ = ~_enclosed(uv, depth, ids, regions.shape, cell, focal * options.enclosed)
        uv, depth, ids, size = uv[open_], depth[open_], ids[open_], size[open_]
    _paint(uv, depth, ids, size, np.float32(options.surface), regions, nearest)
    if options.hole:
        _close(regions, options.hole)
    return regions


def _may_be_seen(sweep: Sweep, camera: Camera, T_start: Matrix, T_end: Matrix | None) -> NDArray[np.int64]:
    """The points inside the camera's pyramid, widened by what the vehicle's motion can move them, int64 (K,).

    Most of a turn is outside, and need not be projected.
    """
    moved, turned = 0.01, 0.0  # metres; radians
    if T_end is not None and sweep.farthest_ns:
        cosine = (np.trace(T_end[:3, :3] @ T_start[:3, :3].T) - 1) / 2
        moved += float(np.linalg.norm(T_end[:3, 3] - T_start[:3, 3]))
        turned = float(np.arccos(np.clip(cosine, -1, 1)))
    planes = camera.planes() @ T_start  # (K, 4), in the sweep's frame
    planes[:, 3] += moved
    return np.asarray(_inside(sweep.xyz, planes.astype(np.float32), np.float32(turned)))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _inside(xyz: NDArray[np.float32], planes: NDArray[np.float32], turned: np.float32) -> NDArray[np.int64]:
    """Points at most `turned` radians outside of any plane, seen from their origin."""
    found = np.empty(len(xyz), np.int64)
    count = 0
    for i in range(len(xyz)):
        x, y, z = xyz[i, 0], xyz[i, 1], xyz[i, 2]
        slack = turned * np.sqrt(x * x + y * y + z * z)
        inside = True
        for k in range(len(planes)):
            if not planes[k, 0] * x + planes[k, 1] * y + planes[k, 2] * z + planes[k, 3] + slack > 0:
                inside = False
                break
        if inside:
            found[count] = i
            count += 1
    return found[:count]


def _patches(sweep: Sweep, keep: NDArray[np.int64], camera: Camera, options: RegionOptions) -> NDArray[np.float32]:
    """Half sizes of the patches of the points `keep`, pixels: float32 (K, 3), sideways, up and down."""
    rows = rows_of(sweep)
    if rows is None:
        return np.full((len(keep), 3), options.fill_without_beams, dtype=np.float32)
    focal_x, focal_y = camera.matrix[0, 0], camera.matrix[1, 1]
    sideways = 0.5 * options.spread * focal_x * rows.step
    up, down = _half_gaps(rows)
    size, row = np.empty((len(keep), 3), dtype=np.float32), rows.row[keep]
    size[:, 0] = sideways
    size[:, 1] = (options.spread * focal_y * up)[row]
    size[:, 2] = (options.spread * focal_y * down)[row]
    return size


def _stretch(uv: NDArray[np.float64], nearer: NDArray[np.floating], camera: Camera) -> NDArray[np.float64]:
    """How much wider beams are spread in the image than on its axis: float64 (N, 3).

    Off the axis a pixel covers less angle; and where the camera is nearer to a point than the LiDAR is, by the factor
    `nearer`, the same spacing is seen larger.
    """
    M = camera.matrix
    if camera.model == "equidistant" and not camera.rectified:
        return np.repeat(np.clip(nearer, 0.5, 3.0)[:, None], 3, axis=1)
    x, y = (uv[:, 0] - M[0, 2]) / M[0, 0], (uv[:, 1] - M[1, 2]) / M[1, 1]
    square = np.stack([x * x, y * y, y * y], axis=1)
    return np.asarray((1.0 + square) * np.clip(nearer, 0.5, 3.0)[:, None])


def _half_gaps(rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half the angle to the beam above and to the beam below, per row; the outermost take that of their other side."""
    gaps = np.abs(np.diff(rows.elevation.astype(np.float64)))
    up, down = np.append(gaps[0], gaps), np.append(gaps, gaps[-1])
    return up / 2, down / 2


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _enclosed(
    uv: NDArray[np.float64],
    depth: NDArray[np.float32],
    ids: NDArray[np.uint16],
    shape: tuple[int, int],
    cell: float,
    extent: float,
) -> NDArray[np.bool_]:
    """Find ground that a nearer object encloses in the image: to its left and right, or above and below.

    A LiDAR looks through or over a car's windows and roof, which return nothing, at the ground behind; in the image
    these pixels are the car's. Objects are nearer when by 1 m and 5 % at least. Objects behind are left alone: thin
    ones between the leaves of a tree would be lost.

    Args:
        uv: float64 (N, 2), pixels.
        depth: float32 (N,), metres.
        ids: uint16 (N,), proposals.
        shape: Of the image.
        cell: Side of the cells in which the nearest object is looked up, pixels.
        extent: Pixels times metres of depth that the enclosing points may be away.

    Returns:
        bool (N,): the camera does not see it.
    """
    height, width = int(shape[0] / cell) + 2, int(shape[1] / cell) + 2
    near = np.full((height, width), np.float32(np.inf))
    owner = np.zeros((height, width), np.uint16)
    for i in range(len(uv)):
        y, x = int((uv[i, 1] + 0.5) / cell), int((uv[i, 0] + 0.5) / cell)
        if ids[i] >= REGION_FIRST_OBJECT and depth[i] < near[y, x]:
            near[y, x], owner[y, x] = depth[i], ids[i]
    hidden = np.zeros(len(uv), np.bool_)
    for i in range(len(uv)):
        y, x = int((uv[i, 1] + 0.5) / cell), int((uv[i, 0] + 0.5) / cell)
        limit = (depth[i] - 1.0) / 1.05
        if ids[i] != REGION_GROUND or limit <= 1.0:
            continue
        for dy, dx in ((0, 1), (1, 0)):
            found = np.uint16(0)
            for sign in (-1, 1):
                hit = np.uint16(0)
                for k in range(1, 65):
                    b, a = y + sign * k * dy, x + sign * k * dx
                    if b < 0 or a < 0 or b >= height or a >= width or k * cell > extent:
                        break
                    if near[b, a] < limit:
                        if k * cell * near[b, a] <= extent:
                            hit = owner[b, a]
                        break
                if hit == 0 or (sign == 1 and hit != found):
                    found = np.uint16(0)
                    break
                found = hit
            if found:
                hidden[i] = True
                break
    return hidden


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _close(regions: NDArray[np.uint16], most: int) -> None:
    """Fill unpainted runs of at most `most` pixels between pixels of one region, along rows, then columns; in place."""
    height, width = regions.shape
    for y in range(height):
        last = -most - 2
        for x in range(width):
            if regions[y, x]:
                if 1 < x - last <= most + 1 and regions[y, last] == regions[y, x]:
                    regions[y, last + 1 : x] = regions[y, x]
                last = x
    seen = np.full(width, -most - 2, np.int64)
    for y in range(height):
        for x in range(width):
            if regions[y, x]:
                if 1 < y - seen[x] <= most + 1 and regions[seen[x], x] == regions[y, x]:
                    regions[seen[x] + 1 : y, x] = regions[y, x]
                seen[x] = y


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _paint(
    uv: NDArray[np.float64],
    depth: NDArray[np.float32],
    ids: NDArray[np.uint16],
    size: NDArray[np.float32],
    surface: float,
    regions: NDArray[np.uint16],
    nearest: NDArray[np.float32],
) -> None:
    """Paint patches; where two are of one surface (depths within `surface`), the one whose centre is nearer wins."""
    height, width = regions.shape
    offset = np.full((height, width), np.inf, dtype=np.float32)
    for i in range(len(uv)):
        u, v, d = uv[i, 0], uv[i, 1], depth[i]
        left, right = max(int(np.ceil(u - size[i, 0])), 0), min(int(np.floor(u + size[i, 0])), width - 1)
        top, bottom = max(int(np.ceil(v - size[i, 1])), 0), min(int(np.floor(v + size[i, 2])), height - 1)
        for y in range(top, bottom + 1):
            down = (y - v) / (size[i, 2] if y > v else size[i, 1])
            for x in range(left, right + 1):
                across = (x - u) / size[i, 0]
                away = down * down + across * across
                behind = d - nearest[y, x]
                margin = surface * d
                if behind < -margin or (behind <= margin and away < offset[y, x]):
                    nearest[y, x] = d
                    offset[y, x] = away
                    regions[y, x] = ids[i]
