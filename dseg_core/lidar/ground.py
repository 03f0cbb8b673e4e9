"""Ground of a range image: each column is climbed from its lowest beam, the result checked against its surroundings.

After Bogoslavskyi & Stachniss 2017, section III, with three changes: the slope is measured from the last ground point
rather than the row below, so that ground goes on behind a car; a step of kerb height is climbed where what follows is
flat; and ground that stands higher than the ground around it is taken back, so that bonnets and walls do not pass.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_NOISE = 0.08  # metres that neighbouring ground points may differ in height, by noise and stones
_SUPPORT = 4  # ground points that tell a grid cell's height
_CELL, _CELLS = 2.0, 80  # grid of ground heights: side [m], cells per side


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def ground_of(
    xyz: NDArray[np.float32], index: NDArray[np.int32], slope: float, step: float, height: float
) -> NDArray[np.bool_]:
    """Ground cells of a range image.

    Args:
        xyz: float32 (N, 3), metres, LiDAR frame.
        index: int32 (R, C), point of each cell, row 0 on top, -1 none.
        slope: Steepest ground, as a tangent.
        step: Highest kerb, metres.
        height: z of the ground below the sensor, metres.

    Returns:
        bool (R, C).
    """
    rows, columns = index.shape
    ground = np.zeros((rows, columns), dtype=np.bool_)
    # What each column knows so far: its last ground point, and the last point of any kind. Rows are the outer loop
    # because they lie one after another in memory.
    last_rho, last_z = np.zeros(columns), np.full(columns, height)
    before_rho, before_z = np.zeros(columns), np.full(columns, height)
    seen = np.zeros(columns, dtype=np.bool_)
    for r in range(rows - 1, -1, -1):
        for c in range(columns):
            i = index[r, c]
            if i < 0:
                continue
            z = xyz[i, 2]
            rho = np.sqrt(xyz[i, 0] * xyz[i, 0] + xyz[i, 1] * xyz[i, 1])
            ahead, up = rho - last_rho[c], z - last_z[c]
            if not seen[c]:
                # Nothing is known below the first point: it may be off by the slope from under the sensor, no more.
                is_ground = abs(up) < 0.3 + slope * 0.5 * rho
            else:
                onward = max(ahead, 0.0)
                level = ahead > -0.3 and abs(up) < min(_NOISE + slope * onward, 0.25 + 0.06 * onward)
                local = rho - before_rho[c]
                flat = local > 0.1 and abs(z - before_z[c]) < slope * local
                is_ground = level or (flat and abs(up) < step + 0.03 * onward)
            before_rho[c], before_z[c] = rho, z
            if is_ground:
                ground[r, c] = True
                last_rho[c], last_z[c], seen[c] = rho, z, True
    return ground


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def take_back_high(
    xyz: NDArray[np.float32], index: NDArray[np.int32], ground: NDArray[np.bool_], tolerance: float
) -> None:
    """Take back ground cells that lie higher than the lowest ground around them; changes `ground`.

    Args:
        xyz: float32 (N, 3), metres.
        index: int32 (R, C).
        ground: bool (R, C).
        tolerance: Metres that ground may rise above the lowest ground of the 3x3 cells of 2 m around it, beyond 10 %.
    """
    # Means, not lowest points, which may be reflections from under the road.
    sums, counts = np.zeros((_CELLS, _CELLS)), np.zeros((_CELLS, _CELLS))
    half = _CELLS // 2
    rows, columns = index.shape
    for r in range(rows):
        for c in range(columns):
            if ground[r, c]:
                i = index[r, c]
                a, b = int(np.floor(xyz[i, 0] / _CELL)) + half, int(np.floor(xyz[i, 1] / _CELL)) + half
                if 0 <= a < _CELLS and 0 <= b < _CELLS:
                    sums[a, b] += xyz[i, 2]
                    counts[a, b] += 1
    lowest = np.where(counts >= _SUPPORT, sums / np.maximum(counts, 1), np.inf)
    around = np.full((_CELLS, _CELLS), np.inf)
    for a in range(1, _CELLS - 1):
        for b in range(1, _CELLS - 1):
            around[a, b] = lowest[a - 1 : a + 2, b - 1 : b + 2].min() + tolerance + 0.15 * _CELL
    for r in range(rows):
        for c in range(columns):
            if ground[r, c]:
                i = index[r, c]
                a, b = int(np.floor(xyz[i, 0] / _CELL)) + half, int(np.floor(xyz[i, 1] / _CELL)) + half
                if 0 <= a < _CELLS and 0 <= b < _CELLS and xyz[i, 2] > around[a, b]:
                    ground[r, c] = False


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def sensor_height(xyz: NDArray[np.float32]) -> float:
    """Z of the ground under the sensor, metres: the most common height among near points below it.

    The mode of 5 cm bins within 20 m, so that neither parked cars nor reflections below the road move it.
    """
    counts = np.zeros(76, dtype=np.int64)
    for i in range(len(xyz)):
        z = xyz[i, 2]
        if -4.0 < z < -0.3 and abs(xyz[i, 0]) < 20 and abs(xyz[i, 1]) < 20:
            counts[int((z + 4.0) * 20) + 1] += 1
    if counts.sum() < 10:
        return -1.7
    smooth = counts[:-2] + counts[1:-1] + counts[2:]
    return float(np.argmax(smooth) * 0.05 - 4.0 + 0.025)
