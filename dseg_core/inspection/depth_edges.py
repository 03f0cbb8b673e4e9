"""Depth edges of a sweep: where a surface ends and another begins far behind it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled
from dseg_core.lidar.points import points_of
from dseg_core.lidar.range_image import range_image
from dseg_core.lidar.rows import rows_of
from dseg_core.records import Sweep

SIDEWAYS, UPWARDS = KINDS = 0, 1
_MOST = 6000  # edges of a sweep that are kept, evenly
_PIECE = np.deg2rad(15.0)  # of an outline: so far along it, edges are as far off as their neighbours


@dataclass(frozen=True, eq=False)
class DepthEdges:
    """Edges of the nearer surfaces.

    `xyz`: float32 (E, 3), metres, LiDAR frame: in the middle between the last beam that meets the surface and the
    first that misses it, since the edge is as likely on either side of it; at the surface's distance. `point`: int64
    (E,), the sweep's point on the surface. `kind`: uint8 (E,), where the far side is: `SIDEWAYS` or `UPWARDS` (above or
    below). `width`: float32 (E,), the angle between the two beams [rad], anywhere between which the edge is. `piece`:
    int64 (E,), equal for neighbouring edges between the same columns or beams, of this sweep and others: those of one
    outline are all off to the same side.
    """

    xyz: NDArray[np.float32]
    point: NDArray[np.int64]
    kind: NDArray[np.uint8]
    width: NDArray[np.float32]
    piece: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.kind)


def edges_from_sweep(sweep: Sweep) -> DepthEdges | None:
    """Find jumps in range between neighbouring points of a beam, and between points of neighbouring beams.

    As in Levinson and Thrun, Automatic Online Calibration of Cameras and Lasers (RSS 2013), with jumps between beams as
    well. What does not go on to one side, such as leaves, and what falls away smoothly, such as far ground, is no edge.

    Returns:
        None for clouds that show no beams.
    """
    points = points_of(sweep.xyz)
    rows = rows_of(sweep, points)
    if rows is None:
        return None
    image = range_image(points, rows)
    near, far, kind = _jumps(image.distance, image.index, image.columns)
    if len(near) > _MOST:
        kept = np.linspace(0, len(near) - 1, _MOST).astype(int)
        near, far, kind = near[kept], far[kept], kind[kept]
    xyz = sweep.xyz.astype(np.float64)
    distance = np.linalg.norm(xyz[near], axis=1)
    inner, outer = xyz[near] / distance[:, None], xyz[far] / np.linalg.norm(xyz[far], axis=1)[:, None]
    width = 2 * np.arcsin(np.clip(np.linalg.norm(outer - inner, axis=1) / 2, 0, 1))
    middle = inner + outer
    middle *= (distance / np.maximum(np.linalg.norm(middle, axis=1), 1e-9))[:, None]
    row, column = np.divmod(image.cell[near].astype(np.int64), image.index.shape[1])
    tilt, turn = np.arctan(points.tangent[near]) + np.pi / 2, points.azimuth[near]
    across, along = np.where(kind == SIDEWAYS, [column, tilt // _PIECE], [row, turn // _PIECE]).astype(np.int64)
    piece = (across * 256 + along) * 2 + kind
    return DepthEdges(middle.astype(np.float32), near, kind, width.astype(np.float32), piece)


@compiled
def _jumps(
    distance: NDArray[np.float32], index: NDArray[np.int32], columns: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Points on near surfaces, the far points beside them, and kinds of edges, of a range image (R, C)."""
    rows = len(distance)
    near, far, kind = [np.int64(0)], [np.int64(0)], [np.uint8(0)]
    for r in range(rows):
        for c in range(columns):
            d = distance[r, c]
            if d <= 0:
                continue
            level = np.float32(0.2) + np.float32(0.03) * d
            up = r > 0 and distance[r - 1, c] > 0 and abs(distance[r - 1, c] - d) < level
            down = r + 1 < rows and distance[r + 1, c] > 0 and abs(distance[r + 1, c] - d) < level
            if up or down:  # a surface, not a leaf
                for side in (-1, 1):
                    other = distance[r, (c + side) % columns]
                    at = (c + side) % columns
                    if other <= 0:  # points are not quite in step with the columns
                        at = (c + 2 * side) % columns
                        other = distance[r, at]
                    if other > np.float32(1.1) * d + np.float32(0.5):
                        near.append(np.int64(index[r, c]))
                        far.append(np.int64(index[r, at]))
                        kind.append(np.uint8(0))
            for side in (-1, 1):
                above, below = r + side, r - side
                if not (0 <= above < rows and 0 <= below < rows) or distance[below, c] <= 0:
                    continue
                jump = distance[above, c] - d
                steady = np.float32(0.25) * min(jump, 4 * level)
                if jump > np.float32(0.1) * d + np.float32(0.5) and abs(distance[below, c] - d) < steady:
                    near.append(np.int64(index[r, c]))
                    far.append(np.int64(index[above, c]))
                    kind.append(np.uint8(1))
    return np.array(near[1:]), np.array(far[1:]), np.array(kind[1:])
