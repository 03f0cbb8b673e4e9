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
    for c in range(columns):
        last_rho, last_z = 0.0, height
        before_rho, before_z = 0.0, height  # the point below in the column, ground or not
        seen = False
        for r in range(rows - 1, -1, -1):
            i = index[r, c]
            if i < 0:
                continue
            x, y, z = xyz[i, 0], xyz[i, 1], xyz[i, 2]
            rho = np.sqrt(x * x + y * y)
            ahead, up = rho - last_rho, z - last_z
            if not seen:
                # Nothing is known below the first point: it may be off by the slope from under the sensor, no more.
                is_ground = abs(up) < 0.3 + slope * 0.5 * rho
            else:
                onward = max(ahead, 0.0)
                level = ahead > -0.3 and abs(up) < min(_NOISE + slope * onward, 0.25 + 0.06 * onward)
                local = rho - before_rho
                flat = local > 0.1 and abs(z - before_z) < slope * local
                is_ground = level or (flat and abs(up) < step + 0.03 * onward)
            before_rho, before_z = rho, z
            if is_ground:
                ground[r, c] = True
                last_rho, last_z, seen = rho, z, True
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
    lowest = np.full((_CELLS, _CELLS), np.inf)
    half = _CELLS // 2
    rows, columns = index.shape
    for r in range(rows):
        for c in range(columns):
            if ground[r, c]:
                i = index[r, c]
                a, b = int(np.floor(xyz[i, 0] / _CELL)) + half, int(np.floor(xyz[i, 1] / _CELL)) + half
                if 0 <= a < _CELLS and 0 <= b < _CELLS:
                    lowest[a, b] = min(lowest[a, b], xyz[i, 2])
    for r in range(rows):
        for c in range(columns):
            if not ground[r, c]:
                continue
            i = index[r, c]
            a, b = int(np.floor(xyz[i, 0] / _CELL)) + half, int(np.floor(xyz[i, 1] / _CELL)) + half
            if not (1 <= a < _CELLS - 1 and 1 <= b < _CELLS - 1):
                continue
            around = np.inf
            for da in range(-1, 2):
                for db in range(-1, 2):
                    around = min(around, lowest[a + da, b + db])
            if xyz[i, 2] > around + tolerance + 0.1 * 1.5 * _CELL:
                ground[r, c] = False


def sensor_height(xyz: NDArray[np.float32]) -> float:
    """Z of the ground under the sensor, metres: the most common height among near points below it.

    The mode of 5 cm bins within 20 m, so that neither parked cars nor reflections below the road move it.
    """
    near = (np.abs(xyz[:, 0]) < 20) & (np.abs(xyz[:, 1]) < 20) & (xyz[:, 2] < -0.3) & (xyz[:, 2] > -4)
    if near.sum() < 10:
        return -1.7
    counts, edges = np.histogram(xyz[near, 2], bins=74, range=(-4.0, -0.3))
    smooth = np.convolve(counts, np.ones(3), mode="same")
    return float(edges[int(np.argmax(smooth))] + 0.025)
