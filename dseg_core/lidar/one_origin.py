"""Whether the beams of a cloud are those of one LiDAR: beams from one origin never cross."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled
from dseg_core.lidar.points import Points

_WINDOWS = 16  # narrow ones in which beams are compared, over the turn
_PER_WINDOW, _MIDDLE = np.float32(_WINDOWS / (2 * np.pi)), np.float32(0.5)
_BLOCK = 32  # points
_PLAIN = np.deg2rad(0.5)  # between elevations: no beam's changes as much within a window
_FEWEST = 64  # cells, of beams and windows, without which nothing can be told

# Shares. Two LiDARs 0.6 to 2.5 m apart, of 16 to 128 beams, have 0.14 to 0.33 of beams crossed, or 0.32 to 0.62 of
# cells doubled where they share rings; but 0.17 where 16 beams lie farther apart than what differs. KITTI's and
# nuScenes' have up to 0.01 and 0.05.
_MOST_CROSSED, _MOST_DOUBLED = 0.07, 0.25


def has_one_origin(row: NDArray[np.uint16], rows: int, step: float, apart: float, points: Points) -> bool:
    """Whether beams keep their order of elevation wherever they look, each with one elevation there.

    The beams of two LiDARs in one cloud do not: what one sees near by, at its own elevation, has another one from the
    origin of the other, by how near it is. Tilted and bent beams do, as does what has two returns a pulse.

    Args:
        row: uint16 (N,), of each point.
        rows: How many.
        step: Between neighbouring points of a beam [rad].
        apart: Between neighbouring beams [rad].
        points: The points.
    """
    half = np.float32(min(step, max(apart, _PLAIN) / 2) * float(_PER_WINDOW))
    crossed, doubled = _crossed_and_doubled(
        row,
        rows,
        half,
        np.float32(apart / 2),
        np.float32(min(apart, _PLAIN)),
        points.azimuth,
        points.distance,
        points.tangent,
    )
    return crossed <= _MOST_CROSSED and doubled <= _MOST_DOUBLED


@compiled
def _crossed_and_doubled(
    row: NDArray[np.uint16],
    rows: int,
    half: np.float32,
    least: np.float32,
    wide: np.float32,
    azimuth: NDArray[np.float32],
    distance: NDArray[np.float32],
    tangent: NDArray[np.float32],
) -> tuple[float, float]:
    """Shares: of neighbouring beams in a window that are in the rarer order there, and of cells of two elevations.

    `half`: of a window's width, in widths of all that it stands for. `least`: difference of elevations that is one of
    two beams, `wide`: one that is not of one beam; tangents at the horizon.
    """
    sums, counts = np.zeros((rows, _WINDOWS), np.float32), np.zeros((rows, _WINDOWS), np.int32)
    low, high = np.zeros((rows, _WINDOWS), np.float32), np.zeros((rows, _WINDOWS), np.float32)
    for first in range(0, len(azimuth), _BLOCK):
        here, near = azimuth[first : min(first + _BLOCK, len(azimuth))], np.int32(0)
        for i in range(len(here)):
            at = here[i] * _PER_WINDOW
            near = np.int32(near + (abs(at - np.floor(at) - _MIDDLE) <= half))
        if near == 0:
            continue
        for i in range(first, first + len(here)):
            at = azimuth[i] * _PER_WINDOW
            window = int(at)
            if distance[i] > 0 and abs(at - np.float32(window) - _MIDDLE) <= half and window < _WINDOWS:
                r, t = row[i], tangent[i]
                low[r, window] = min(low[r, window], t) if counts[r, window] else t
                high[r, window] = max(high[r, window], t) if counts[r, window] else t
                sums[r, window] += t
                counts[r, window] += 1
    above, crossed, pairs, cells, doubled = np.zeros((rows, 2), np.int32), 0, 0, 0, 0
    for window in range(_WINDOWS):
        last = -1
        for r in range(rows):
            if counts[r, window] == 0:
                continue
            mean = sums[r, window] / np.float32(counts[r, window])
            cells += 1
            doubled += high[r, window] - low[r, window] > wide * (1 + mean * mean)
            if last >= 0:
                over = sums[last, window] / np.float32(counts[last, window])
                above[last, int(over - mean < -least * (1 + mean * mean))] += 1
            last = r
    for r in range(rows):
        crossed += min(above[r, 0], above[r, 1])
        pairs += above[r, 0] + above[r, 1]
    if cells < _FEWEST:
        return 0.0, 0.0
    return crossed / max(pairs, 1), doubled / cells
