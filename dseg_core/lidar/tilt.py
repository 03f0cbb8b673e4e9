"""The plane of the street near the vehicle, where the LiDAR is not mounted level."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled

_DRAWS, _ENOUGH = 100, 600  # planes that are tried, and on how many cells, at least
_FROM, _TO, _FEWEST = 2.0, 20.0, 30  # metres; cells that decide
_NEAR, _SHARE, _BETTER = 0.1, 0.5, 2.5  # metres from a plane; of the cells that lie on a tilted one, and than level
_LOWEST, _HIGHEST = -10.0, -0.3  # metres below the sensor, where the street can be
_DRAWN = np.random.default_rng(0).random((_DRAWS, 3))
LEAST = float(np.tan(np.deg2rad(2)))
"""Tangent from which on a LiDAR is tilted; the height field grows over less by itself."""


def street_plane(
    low: NDArray[np.float64], edges: NDArray[np.float64], level: float, slope: float
) -> NDArray[np.float64] | None:
    """Heights of the plane that most of the lowest cells near the vehicle lie on (RANSAC, the same draws each time).

    Args:
        low: float64 (bins, sectors), the polar grid's lowest flat points, metres; infinite where there is none.
        edges: float64 (bins + 1,), the bins' planar distances, metres.
        level: The street's height under a level LiDAR, metres, or NaN.
        slope: Steepest tilt, as a tangent.

    Returns:
        float64 (bins, sectors); None where the LiDAR is level, or not enough is seen to tell. At a hill's foot, and on
        a crest, what is level is a good part: over these the height field grows by itself.
    """
    ways, points = _ways(low.shape[1]), np.empty((low.size, 3))
    present, on_level = _near(low, edges, level, ways, points)
    if present < _FEWEST or _BETTER * on_level > present:
        return None
    points = points[:present]
    some = np.ascontiguousarray(points[:: max(len(points) // _ENOUGH, 1)])
    plane, count = _largest(some, (_DRAWN * len(some)).astype(np.int64), slope)
    if count / len(some) * len(points) < max(_FEWEST, _SHARE * len(points), _BETTER * on_level):
        return None
    on_plane = np.abs(points[:, 2] - points[:, :2] @ plane[:2] - plane[2]) < _NEAR
    design = np.column_stack([points[on_plane, :2], np.ones(np.count_nonzero(on_plane))])
    a, b, c = np.linalg.lstsq(design, points[on_plane, 2], rcond=None)[0]
    if np.hypot(a, b) < LEAST:
        return None
    middle = 0.5 * (edges[1:] + edges[:-1])
    return np.asarray(middle[:, None] * (a * ways[0] + b * ways[1]) + c)


@functools.cache
def _ways(sectors: int) -> NDArray[np.float64]:
    """Directions of the sectors' middles, float64 (2, sectors)."""
    angle = (np.arange(sectors) + 0.5) * 2 * np.pi / sectors
    return np.stack([np.cos(angle), np.sin(angle)])


@compiled
def _near(
    low: NDArray[np.float64],
    edges: NDArray[np.float64],
    level: float,
    ways: NDArray[np.float64],
    points: NDArray[np.float64],
) -> tuple[int, int]:
    """How many cells near the vehicle have a height, and how many of these are near a level.

    `ways`: float64 (2, sectors), x and y of the sectors' directions. `points`: float64 (bins * sectors, 3), is filled
    with the middles of those cells, metres.
    """
    present, on_level = 0, 0
    for b in range(len(low)):
        middle = 0.5 * (edges[b + 1] + edges[b])
        if middle <= _FROM or middle >= _TO:
            continue
        for s in range(low.shape[1]):
            points[present, 0], points[present, 1] = middle * ways[0, s], middle * ways[1, s]
            points[present, 2] = low[b, s]
            present += int(low[b, s] < np.inf)
            on_level += int(abs(low[b, s] - level) < _NEAR)
    return present, on_level


@compiled
def _largest(points: NDArray[np.float64], draws: NDArray[np.int64], slope: float) -> tuple[NDArray[np.float64], int]:
    """The plane z = a x + b y + c through three points that most lie near, and how many."""
    best, most = np.zeros(3), 0
    for draw in draws:
        p, q, r = points[draw[0]], points[draw[1]], points[draw[2]]
        ux, uy, uz, vx, vy, vz = q[0] - p[0], q[1] - p[1], q[2] - p[2], r[0] - p[0], r[1] - p[1], r[2] - p[2]
        across = ux * vy - uy * vx
        if abs(across) < 1.0:  # square metres: a sliver tells no tilt
            continue
        a, b = (uz * vy - uy * vz) / across, (ux * vz - uz * vx) / across
        c = p[2] - a * p[0] - b * p[1]
        if a * a + b * b > slope * slope or not _LOWEST < c < _HIGHEST:
            continue
        count = 0
        for k in range(len(points)):
            count += abs(points[k, 2] - a * points[k, 0] - b * points[k, 1] - c) < _NEAR
        if count > most:
            most = count
            best[0], best[1], best[2] = a, b, c
    return best, most
