"""Patches that points paint: how far each reaches to its left, right, above and below in the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled
from dseg_core.lidar.points import NEAREST
from dseg_core.lidar.rows import Rows
from dseg_core.lidar.scratch import Scratch

_scratch = Scratch()
_RIM = 6  # empty cells around the grid of beams, so that its edges need no care
_ON = (5, 2)  # cells aside, and rows up and down, within which a proposal goes on
_NEXT = (2, 1)  # within which another thing is next to it
_NEARER = np.float32(0.95)


def half_angles(rows: Rows) -> NDArray[np.float32]:
    """Half the angle to the beam above and to the beam below, per row: float32 (R, 2), rad.

    The outermost take that of their other side.
    """
    gaps = np.abs(np.diff(rows.elevation)) / 2
    return np.stack([np.append(gaps[0], gaps), np.append(gaps, gaps[-1])], axis=1).astype(np.float32)


def border_sides(
    xyz: NDArray[np.float32], keep: NDArray[np.int64], proposals: NDArray[np.uint16], rows: Rows
) -> NDArray[np.uint8]:
    """On which sides proposals end before something farther.

    Where nothing is measured beside a point, its proposal may go on: glass and dark paint return nothing.

    Args:
        xyz: float32 (N, 3), metres, LiDAR frame.
        keep: int64 (K,), which points.
        proposals: uint16 (N,).
        rows: The beams.

    Returns:
        uint8 (K,), bits of the sides: 0 counter-clockwise seen from above, 1 clockwise, 2 the beam above, 3 below.
    """
    columns = int(2 * np.pi / rows.step) + 1
    shape = (len(rows) + 2 * _RIM, columns + 2 * _RIM)
    ids, ranges = _scratch.take("ids", shape, np.uint16), _scratch.take("ranges", shape, np.float32)
    place, reach = _scratch.take("place", (2, len(keep)), np.int32), _scratch.take("reach", len(keep), np.float32)
    sides = np.zeros(len(keep), np.uint8)
    scale = np.float32(columns / (2 * np.pi))
    _border_sides(xyz, keep, proposals, rows.row, scale, ids, ranges, place, reach, sides)
    return sides


@compiled
def _border_sides(
    xyz: NDArray[np.float32],
    keep: NDArray[np.int64],
    proposals: NDArray[np.uint16],
    row: NDArray[np.uint16],
    scale: np.float32,
    ids: NDArray[np.uint16],
    ranges: NDArray[np.float32],
    place: NDArray[np.int32],
    reach: NDArray[np.float32],
    sides: NDArray[np.uint8],
) -> None:
    """`ids`, `ranges`: beams by azimuth; `place`, `reach`: where each point is among them, and how far away."""
    columns = ids.shape[1] - 2 * _RIM
    first, last = columns, 0
    for i in range(len(keep)):
        k = keep[i]
        x, y, z = xyz[k, 0], xyz[k, 1], xyz[k, 2]
        c = min(int((np.float32(np.pi) - np.arctan2(y, x)) * scale), columns - 1)
        first, last = min(first, c), max(last, c)
        place[0, i], place[1, i] = row[k] + _RIM, c + _RIM
        reach[i] = np.sqrt(x * x + y * y + z * z)
    # A camera sees a part of the turn, or where the turn begins and goes on.
    ids[:, first : last + 2 * _RIM + 1] = 0
    ranges[:, first : last + 2 * _RIM + 1] = np.inf
    for i in range(len(keep)):
        r, c = place[0, i], place[1, i]
        if NEAREST < reach[i] < ranges[r, c]:
            ids[r, c], ranges[r, c] = proposals[keep[i]], reach[i]
    if first < _RIM and last >= columns - _RIM:
        for r in range(len(ids)):  # not as slices: to compile these takes two seconds
            for c in range(_RIM):
                ids[r, c], ranges[r, c] = ids[r, c + columns], ranges[r, c + columns]
                ids[r, c + columns + _RIM], ranges[r, c + columns + _RIM] = ids[r, c + _RIM], ranges[r, c + _RIM]
    for i in range(len(keep)):
        r, c, own, near = place[0, i], place[1, i], proposals[keep[i]], reach[i] * _NEARER
        for side in range(4):
            sign, upright = 2 * (side & 1) - 1, side >> 1
            ends, other = True, False
            for away in range(1, _ON[upright] + 1):
                for off in range(-away * upright, away * upright + 1):
                    b, a = (r + sign * away, c + off) if upright else (r, c + sign * away)
                    ends = ends and not (ids[b, a] == own or ranges[b, a] < near)
                    other = other or (away <= _NEXT[upright] and ranges[b, a] < np.inf)
                if not ends:
                    break
            if ends and other:
                sides[i] |= 1 << side


@compiled
def patches(
    xyz: NDArray[np.float32],
    keep: NDArray[np.int64],
    in_camera: NDArray[np.float64],
    uv: NDArray[np.float64],
    visible: NDArray[np.bool_],
    row: NDArray[np.uint16],
    half: NDArray[np.float32],
    borders: NDArray[np.uint8],
    border: float,
    R: NDArray[np.float64],
    focal: tuple[float, float],
    bending: NDArray[np.float64],
    most: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
    """Patches of the points `keep` that are seen: how far the image moves where the beam turns half way to the next.

    Args:
        xyz: float32 (N, 3), metres, LiDAR frame.
        keep: int64 (K,), which points.
        in_camera: float64 (K, 3), the same in the frame of the image's projection.
        uv: float64 (K, 2), pixels.
        visible: bool (K,).
        row: uint16 (N,), each point's beam.
        half: float32 (R, 3), rad: half the angle to the next point, to the beam above, to that below.
        borders: uint8 (K,), of `border_sides`.
        border: What patches are multiplied by there.
        R: float64 (3, 3), turns from the LiDAR's frame to that of the projection.
        focal: Focal lengths, pixels.
        bending: float64 (K, 2) or (0, 2), of `Camera.bending`; empty for an image that is not bent.
        most: Farthest that a patch reaches, pixels.

    Returns:
        Which points, int64 (M,); uv float64 (M, 2); depth float32 (M,), metres; float32 (M, 4), how far to the left,
        right, up and down, pixels.
    """
    n, count = len(keep), 0
    points, places = np.empty(n, np.int64), np.empty((n, 2), np.float64)
    depth, size = np.empty(n, np.float32), np.empty((n, 4), np.float32)
    for i in range(n):
        k = keep[i]
        x, y, z = np.float64(xyz[k, 0]), np.float64(xyz[k, 1]), np.float64(xyz[k, 2])
        planar = np.sqrt(x * x + y * y)
        if not (visible[i] and planar * planar + z * z > NEAREST * NEAREST):
            continue
        X, Y, Z = in_camera[i, 0], in_camera[i, 1], in_camera[i, 2]
        points[count], places[count, 0], places[count, 1] = k, uv[i, 0], uv[i, 1]
        depth[count] = np.sqrt(X * X + Y * Y + Z * Z)
        size[count] = 0.5
        lean = z / max(planar, 1e-6)
        across, along = X / Z, Y / Z
        for upright in range(2):
            # Where the point would be, at the same range, with its beam turned by a radian.
            a, b, c = (-lean * x, -lean * y, planar) if upright else (-y, x, 0.0)
            du = R[0, 0] * a + R[0, 1] * b + R[0, 2] * c
            dv = R[1, 0] * a + R[1, 1] * b + R[1, 2] * c
            dw = R[2, 0] * a + R[2, 1] * b + R[2, 2] * c
            du, dv = (du - across * dw) / Z, (dv - along * dw) / Z
            if len(bending):
                outwards = (du * across + dv * along) * bending[i, 1]
                du, dv = du * bending[i, 0] + outwards * across, dv * bending[i, 0] + outwards * along
            du, dv = du * focal[0], dv * focal[1]
            for back in range(2):
                angle = half[row[k], upright * (1 + back)] * (1.0 - 2.0 * back)
                if borders[i] >> (2 * upright + back) & 1:
                    angle *= border
                size[count, 0], size[count, 1] = max(size[count, 0], -du * angle), max(size[count, 1], du * angle)
                size[count, 2], size[count, 3] = max(size[count, 2], -dv * angle), max(size[count, 3], dv * angle)
        for side in range(4):
            size[count, side] = min(size[count, side], most)
        count += 1
    return points[:count], places[:count], depth[:count], size[:count]
