"""Regions: the pixels of each proposal in one camera, with what the camera cannot see left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.cameras import Camera
from dseg_core.compiling import compiled
from dseg_core.lidar.points import NEAREST
from dseg_core.lidar.rows import Rows, rows_of
from dseg_core.moved_points import moved_points
from dseg_core.records import Sweep
from dseg_core.region_hiding import BEHIND, BEHIND_LEAST, enclosed
from dseg_core.region_painting import close_gaps, farthest_seen, paint
from dseg_core.region_patches import border_sides, half_angles, patches
from dseg_core.region_silence import silent_surface
from dseg_core.stage_options import RegionOptions
from dseg_core.transforms import Matrix

_BATCH = 1024  # points whose coordinates stay in the fastest cache
_ZERO = np.float32(0.0)
_AROUND = 0.05  # radians beyond the image, where things may stand that reach into it
_SPREAD = 1.1  # size of the patches of what was not measured, in units of the beams' spacing


def regions_from_pair(
    sweep: Sweep,
    proposals: NDArray[np.uint16],
    camera: Camera,
    T_image_sweep: Matrix,
    options: RegionOptions,
    T_image_sweep_end: Matrix | None = None,
    hangs: bool = False,
) -> NDArray[np.uint16]:
    """Paint proposals into a camera's image.

    Every point is painted as the patch that its beam covers, half way to the neighbouring beams, into a depth buffer:
    patches of one surface close up without bleeding over its edge, and what lies behind it for the camera, though the
    LiDAR beside it sees it, is covered by them. Where no beam came back, what may stand there covers what is behind it,
    too, and stays unpainted (`region_silence`).

    Args:
        sweep: As measured, LiDAR frame.
        proposals: uint16 (N,), ids.
        camera: Of the image.
        T_image_sweep: (4, 4), from the sweep's frame at the sweep's stamp to the optical frame at the image's stamp.
        options: Limits of the patches.
        T_image_sweep_end: The same for the sweep's `farthest_ns`; with it, and times of points, each point is moved by
            the vehicle's motion up to its own time. None: the vehicle stands still or its motion is unknown.
        hangs: The LiDAR is upside down: its z points to the ground.

    Returns:
        uint16 (H, W), ids, 0 where no proposal is seen.
    """
    regions = np.zeros((camera.height, camera.width), dtype=np.uint16)
    if not len(sweep):
        return regions
    keep = _may_be_seen(sweep, camera, T_image_sweep, T_image_sweep_end)
    in_camera = moved_points(sweep, keep, T_image_sweep, T_image_sweep_end)
    uv, visible = camera.project(in_camera)
    rows = rows_of(sweep)
    farthest = None
    if rows is None:
        seen = visible & (np.linalg.norm(sweep.xyz[keep], axis=1) > NEAREST)
        keep, uv = keep[seen], uv[seen]
        depth = np.linalg.norm(in_camera[seen], axis=1).astype(np.float32)
        size = np.full((len(depth), 4), options.fill_without_beams, np.float32)
    else:
        if options.silent > 0:
            xyz, row, own = silent_surface(sweep.xyz, keep, proposals, rows, options.silent, hangs)
            places = moved_points(sweep, own, T_image_sweep, T_image_sweep_end, xyz)
            sides = np.zeros(len(xyz), np.uint8)
            found = _patches(
                xyz, np.arange(len(xyz)), row, rows, sides, camera, T_image_sweep, places, *camera.project(places),
                _SPREAD, options,
            )  # fmt: skip
            farthest = farthest_seen(*found[1:], regions.shape, BEHIND, BEHIND_LEAST)
        borders = border_sides(sweep.xyz, keep, proposals, rows)
        keep, uv, depth, size = _patches(
            sweep.xyz, keep, rows.row, rows, borders, camera, T_image_sweep, in_camera, uv, visible, options.spread,
            options,
        )  # fmt: skip
    ids = proposals[keep]
    hidden = np.zeros(len(keep), dtype=np.bool_)
    focal = float(camera.matrix[0, 0])
    if options.enclosed > 0 and len(keep):
        cell = max(2.0, 2.0 * float(np.median(size[:: 1 + len(size) // 1000])))
        hidden = enclosed(uv, depth, ids, regions.shape, cell, focal * options.enclosed)
    nearest = paint(uv, depth, ids, size, hidden, options.surface, regions, farthest)
    close_gaps(regions, options.hole, nearest, focal * options.window)
    return regions


def _patches(
    xyz: NDArray[np.float32],
    keep: NDArray[np.int64],
    row: NDArray[np.uint16],
    rows: Rows,
    borders: NDArray[np.uint8],
    camera: Camera,
    T_image_sweep: Matrix,
    in_camera: NDArray[np.float64],
    uv: NDArray[np.float64],
    visible: NDArray[np.bool_],
    spread: float,
    options: RegionOptions,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
    """As `region_patches.patches`, of points in the sweep's frame and each one's beam."""
    half = np.empty((len(rows), 3), np.float32)
    half[:, 0], half[:, 1:] = 0.5 * rows.step, half_angles(rows)
    R = T_image_sweep[:3, :3]
    if camera.rectified and not np.array_equal(camera.R, np.eye(3)):
        R, in_camera = camera.R @ R, in_camera @ camera.R.T
    M = camera.matrix
    return patches(
        xyz, keep, in_camera, uv, visible, row, spread * half, borders, options.border / spread,
        np.ascontiguousarray(R), (M[0, 0], M[1, 1]), camera.bending(in_camera), float(options.fill),
    )  # fmt: skip


def _may_be_seen(sweep: Sweep, camera: Camera, T_start: Matrix, T_end: Matrix | None) -> NDArray[np.int64]:
    """The points inside the camera's pyramid, widened by what the vehicle's motion can move them, int64 (K,).

    Most of a turn is outside, and need not be projected.
    """
    moved, turned = 0.01, _AROUND  # metres; radians
    if T_end is not None and sweep.farthest_ns:
        cosine = (np.trace(T_end[:3, :3] @ T_start[:3, :3].T) - 1) / 2
        moved += float(np.linalg.norm(T_end[:3, 3] - T_start[:3, 3]))
        turned += float(np.arccos(np.clip(cosine, -1, 1)))
    planes = camera.planes() @ T_start  # (K, 4), in the sweep's frame
    planes[:, 3] += moved
    return np.asarray(_inside(sweep.xyz, planes.astype(np.float32), np.float32(turned)))


@compiled
def _inside(xyz: NDArray[np.float32], planes: NDArray[np.float32], turned: np.float32) -> NDArray[np.int64]:
    """Points at most `turned` radians outside of any plane, seen from their origin."""
    found = np.empty(len(xyz), np.int64)
    count = 0
    held = np.empty((4, _BATCH), np.float32)
    x, y, z, slack = held[0], held[1], held[2], held[3]
    inside = np.empty(_BATCH, np.uint8)
    for start in range(0, len(xyz), _BATCH):
        batch = xyz[start : start + _BATCH]
        n = len(batch)
        for i in range(n):
            x[i], y[i], z[i] = batch[i, 0], batch[i, 1], batch[i, 2]
        for i in range(n):
            slack[i] = turned * np.sqrt(x[i] * x[i] + y[i] * y[i] + z[i] * z[i])
            inside[i] = 1
        for k in range(len(planes)):
            a, b, c, d = planes[k, 0], planes[k, 1], planes[k, 2], planes[k, 3]
            for i in range(n):
                inside[i] &= np.uint8(a * x[i] + b * y[i] + c * z[i] + d + slack[i] > _ZERO)
        for i in range(n):
            found[count] = start + i
            count += inside[i]
    return found[:count]
