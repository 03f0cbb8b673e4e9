"""What may stand where no beam came back, and hides what the LiDAR sees over it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled
from dseg_core.lidar.points import FARTHEST, NEAREST
from dseg_core.lidar.rows import Rows
from dseg_core.lidar.scratch import Scratch
from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND

_LOST = 2  # beams side by side that may be lost by chance
_RISES, _FLAT = np.float32(5.0), np.float32(0.3)  # what is met above within so many metres, or this share, goes on
_OVERHANGS = np.float32(1.0)  # metres nearer: what is met above is another thing
_BELOW_SKY = np.float32(0.5)  # metres that an object goes on where nothing is met above it
_TORN, _WHOLE = np.float32(1.5), np.float32(0.02)  # neighbours' distance: metres; share of their range
_MIRROR = np.array([1, 1, -1], np.float32)
_scratch = Scratch()


def silent_surface(
    xyz: NDArray[np.float32],
    keep: NDArray[np.int64],
    proposals: NDArray[np.uint16],
    rows: Rows,
    most: float,
    hangs: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.uint16], NDArray[np.int64]]:
    """Points on what may be where beams returned nothing: dark paint, glass, a roof seen at a flat angle.

    A beam meets something, be it the ground; one that does not come back between two that do has met what swallows
    light. How far away, the last return below tells: the thing goes on upwards from there, to the return above where
    that is its own and not much farther, else upright. The LiDAR sees what is behind over its upper edge; a camera
    beside it, not as high, does not. Upwards is along the frame's z: for LiDARs that stand upright, to some tens of
    degrees, or hang upside down.

    Args:
        xyz: float32 (N, 3), metres, LiDAR frame.
        keep: int64 (K,), which points; those around the camera's view, too, which things in it may stand on.
        proposals: uint16 (N,).
        rows: The beams.
        most: Height up to which a thing goes on above its last return, metres.
        hangs: The LiDAR is upside down: its z points to the ground.

    Returns:
        float32 (M, 3), LiDAR frame; uint16 (M,), their beams; int64 (M,), the point of the last return below each.
    """
    if hangs:
        mirrored, row, own = silent_surface(xyz * _MIRROR, keep, proposals, rows.mirrored(), most)
        return mirrored * _MIRROR, np.uint16(len(rows) - 1) - row, own
    columns = int(2 * np.pi / rows.step) + 1
    shape = len(rows), columns
    point, planar = _scratch.take("point", shape, np.int32), _scratch.take("planar", shape, np.float32)
    silent, tangent = _scratch.take("silent", shape, np.uint8), np.tan(rows.elevation).astype(np.float32)
    first, last = map(int, _enter(xyz, keep, rows.row, np.float32(columns / (2 * np.pi)), point, planar))
    _go_on(proposals, tangent, np.float32(most), first, last, point, planar, silent)
    return _sampled(proposals, tangent, first, last, point, planar, silent)


# Called one by one: a loop that is compiled into another is compiled twice.


@compiled
def _enter(
    xyz: NDArray[np.float32],
    keep: NDArray[np.int64],
    row: NDArray[np.uint16],
    scale: np.float32,
    point: NDArray[np.int32],
    planar: NDArray[np.float32],
) -> tuple[int, int]:
    """The nearest point of each beam and azimuth, -1 for none, and how far it is from the axis; the azimuths in use."""
    beams, columns = point.shape
    place = np.empty(len(keep), np.int32)
    away = np.empty(len(keep), np.float32)
    first, last = columns, -1
    for i in range(len(keep)):
        x, y, z = xyz[keep[i], 0], xyz[keep[i], 1], xyz[keep[i], 2]
        away[i] = np.sqrt(x * x + y * y)
        if not NEAREST * NEAREST < away[i] * away[i] + z * z < FARTHEST * FARTHEST:
            away[i] = np.inf
            continue
        place[i] = min(int((np.float32(np.pi) - np.arctan2(y, x)) * scale), columns - 1)
        first, last = min(first, place[i]), max(last, place[i])
    for r in range(beams):
        for c in range(first, last + 1):
            point[r, c], planar[r, c] = -1, np.inf
    for i in range(len(keep)):
        if away[i] < np.inf and away[i] < planar[row[keep[i]], place[i]]:
            point[row[keep[i]], place[i]], planar[row[keep[i]], place[i]] = keep[i], away[i]
    return first, last


@compiled
def _go_on(
    proposals: NDArray[np.uint16],
    tangent: NDArray[np.float32],
    most: np.float32,
    first: int,
    last: int,
    point: NDArray[np.int32],
    planar: NDArray[np.float32],
    silent: NDArray[np.uint8],
) -> None:
    """Fills `planar`, and `point` with that of the last return below, where `silent`, which it fills, becomes 1."""
    beams = len(point)
    for r in range(beams):
        before = -1
        for c in range(first, last + 1):
            silent[r, c] = 0
            if point[r, c] < 0:
                continue
            if before >= 0 and c - before <= _LOST + 1:
                far = before if planar[r, before] > planar[r, c] else c
                for b in range(before + 1, c):
                    point[r, b], planar[r, b] = point[r, far], planar[r, far]
            before = c
    for c in range(first, last + 1):
        below = -1
        for r in range(beams - 1, -2, -1):
            if r >= 0 and point[r, c] < 0:
                continue
            if below - r > 1:
                own, start = point[below, c], planar[below, c]
                rise, highest = np.float32(0), tangent[below] * start + min(most, _BELOW_SKY)
                if r >= 0:
                    rise, highest = planar[r, c] - start, tangent[below] * start + most
                    met = proposals[point[r, c]]
                    same = met == proposals[own] or (proposals[own] == REGION_GROUND and met >= REGION_FIRST_OBJECT)
                    if rise > max(_RISES, _FLAT * start) or (rise > 0 and not same):
                        rise = np.float32(0)
                over = rise < -_OVERHANGS or (r < 0 and proposals[own] < REGION_FIRST_OBJECT)
                for b in range(below - 1, r, -1):
                    at = start + rise * np.float32((below - b) / (below - r))
                    if over or at * tangent[b] > highest:
                        break
                    planar[b, c], point[b, c], silent[b, c] = at, own, 1
            below = r


@compiled
def _sampled(
    proposals: NDArray[np.uint16],
    tangent: NDArray[np.float32],
    first: int,
    last: int,
    point: NDArray[np.int32],
    planar: NDArray[np.float32],
    silent: NDArray[np.uint8],
) -> tuple[NDArray[np.float32], NDArray[np.uint16], NDArray[np.int64]]:
    """As `silent_surface` returns: each silent beam, and points between it and the next one along its row.

    Without those, a camera beside the LiDAR sees gaps where one is farther than the next.
    """
    beams, columns = point.shape
    step = np.float32(2 * np.pi / columns)
    xyz, row, own = np.empty((0, 3), np.float32), np.empty(0, np.uint16), np.empty(0, np.int64)
    for turn in range(2):  # first they are counted
        n = 0
        for r in range(beams):
            for c in range(first, last + 1):
                here = silent[r, c] != 0
                pieces = 1
                if c < last and here | (silent[r, c + 1] != 0) and point[r, c] >= 0 and point[r, c + 1] >= 0:
                    near, apart = min(planar[r, c], planar[r, c + 1]), abs(planar[r, c] - planar[r, c + 1])
                    one = here or proposals[point[r, c]] != REGION_GROUND
                    other = silent[r, c + 1] != 0 or proposals[point[r, c + 1]] != REGION_GROUND
                    if one and other and apart < _TORN:
                        pieces = int(apart / (_WHOLE * near)) + 1
                start = 0 if here else 1
                if turn:
                    for k in range(start, pieces):
                        part = np.float32(k / pieces)
                        at = planar[r, c] + part * (planar[r, c + 1] - planar[r, c]) if k else planar[r, c]
                        azimuth = np.float32(np.pi) - (np.float32(c) + np.float32(0.5) + part) * step
                        xyz[n, 0], xyz[n, 1], xyz[n, 2] = at * np.cos(azimuth), at * np.sin(azimuth), at * tangent[r]
                        row[n], own[n] = r, point[r, c]
                        n += 1
                else:
                    n += pieces - start
        if not turn:
            xyz, row, own = np.empty((n, 3), np.float32), np.empty(n, np.uint16), np.empty(n, np.int64)
    return xyz, row, own
