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
from dseg_core.region_painting import close_gaps, enclosed, paint
from dseg_core.stage_options import RegionOptions
from dseg_core.transforms import Matrix

_BATCH = 1024  # points whose coordinates stay in the fastest cache
_ZERO = np.float32(0.0)


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
    row, half = _half_sizes(sweep, camera, options)
    M, bent = camera.matrix, camera.model == "equidistant" and not camera.rectified
    lens = (M[0, 0], M[1, 1], M[0, 2], M[1, 2])
    keep, uv, depth, size = _patches(
        sweep.xyz, keep, in_camera, uv, visible, row, half, lens, bent, float(options.fill)
    )
    ids = proposals[keep]
    hidden = np.zeros(len(keep), dtype=np.bool_)
    if options.enclosed > 0 and len(keep):
        cell = max(2.0, 2.0 * float(np.median(size)))
        focal = float(camera.matrix[0, 0])
        hidden = enclosed(uv, depth, ids, regions.shape, cell, focal * options.enclosed)
    paint(uv, depth, ids, size, hidden, options.surface, regions)
    if options.hole:
        close_gaps(regions, options.hole)
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


def _half_sizes(sweep: Sweep, camera: Camera, options: RegionOptions) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """Each point's row (N,), and half sizes of the rows' patches, pixels: float32 (R, 3), sideways, up and down."""
    rows = rows_of(sweep)
    if rows is None:
        return np.zeros(len(sweep), dtype=np.uint16), np.full((1, 3), options.fill_without_beams, dtype=np.float32)
    focal_x, focal_y = camera.matrix[0, 0], camera.matrix[1, 1]
    up, down = _half_gaps(rows)
    half = np.empty((len(rows), 3), dtype=np.float32)
    half[:, 0] = 0.5 * options.spread * focal_x * rows.step
    half[:, 1] = options.spread * focal_y * up
    half[:, 2] = options.spread * focal_y * down
    return rows.row, half


def _half_gaps(rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Half the angle to the beam above and to the beam below, per row; the outermost take that of their other side."""
    gaps = np.abs(np.diff(rows.elevation.astype(np.float64)))
    up, down = np.append(gaps[0], gaps), np.append(gaps, gaps[-1])
    return up / 2, down / 2


@compiled
def _patches(
    xyz: NDArray[np.float32],
    keep: NDArray[np.int64],
    in_camera: NDArray[np.float64],
    uv: NDArray[np.float64],
    visible: NDArray[np.bool_],
    row: NDArray[np.uint16],
    half: NDArray[np.float32],
    lens: tuple[float, float, float, float],
    bent: bool,
    fill: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
    """Patches of the points `keep` that are seen.

    Beams are spread wider in the image than on its axis: off the axis a pixel covers less angle, unless the image is
    `bent`, a fisheye's; and where the camera is nearer to a point than the LiDAR is, the same spacing is seen larger.

    Returns:
        Which points, int64 (K,); uv float64 (K, 2); depth float32 (K,), metres; half sizes float32 (K, 3), sideways, up
        and down, pixels.
    """
    n, count = len(keep), 0
    points, places = np.empty(n, np.int64), np.empty((n, 2), np.float64)
    depth, size = np.empty(n, np.float32), np.empty((n, 3), np.float32)
    focal_x, focal_y, centre_x, centre_y = lens
    for i in range(n):
        k = keep[i]
        measured = np.sqrt(xyz[k, 0] * xyz[k, 0] + xyz[k, 1] * xyz[k, 1] + xyz[k, 2] * xyz[k, 2])
        if not (visible[i] and measured > NEAREST):
            continue
        x, y, z = in_camera[i, 0], in_camera[i, 1], in_camera[i, 2]
        d = np.float32(np.sqrt(x * x + y * y + z * z))
        nearer = np.float64(min(max(measured / d, np.float32(0.5)), np.float32(3.0)))
        u, v = uv[i, 0], uv[i, 1]
        across, along = (u - centre_x) / focal_x, (v - centre_y) / focal_y
        wider = 1.0 if bent else 1.0 + across * across
        higher = 1.0 if bent else 1.0 + along * along
        points[count], places[count, 0], places[count, 1], depth[count] = k, u, v, d
        size[count, 0] = min(max(half[row[k], 0] * (wider * nearer), 0.5), fill)
        size[count, 1] = min(max(half[row[k], 1] * (higher * nearer), 0.5), fill)
        size[count, 2] = min(max(half[row[k], 2] * (higher * nearer), 0.5), fill)
        count += 1
    return points[:count], places[:count], depth[:count], size[:count]
