"""The plane of the street near the vehicle, where the LiDAR is not mounted level."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled

_DRAWS, _FROM, _TO, _FEWEST = 200, 2.0, 20.0, 30  # planes that are tried; metres; cells that decide
_NEAR, _SHARE, _BETTER = 0.1, 0.5, 2.5  # metres from a plane; of the cells that lie on a tilted one, and than level
_LOWEST, _HIGHEST = -10.0, -0.3  # metres below the sensor, where the street can be
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
    first, end, present, on_level = _count(low, edges, level)
    if present < _FEWEST or _BETTER * on_level > present:
        return None
    near, middle = slice(first, end), 0.5 * (edges[1:] + edges[:-1])
    z = low[near]
    seen = z < np.inf
    angle = (np.arange(low.shape[1]) + 0.5) * 2 * np.pi / low.shape[1]
    x, y = middle[:, None] * np.cos(angle), middle[:, None] * np.sin(angle)
    points = np.stack([x[near].T[seen.T], y[near].T[seen.T], z.T[seen.T]], axis=1)
    draws = np.random.default_rng(0).random((_DRAWS, 3))
    plane, count = _largest(points, (draws * len(points)).astype(np.int64), slope)
    if count < max(_FEWEST, _SHARE * len(points), _BETTER * on_level):
        return None
    on_plane = np.abs(points[:, 2] - points[:, :2] @ plane[:2] - plane[2]) < _NEAR
    design = np.column_stack([points[on_plane, :2], np.ones(np.count_nonzero(on_plane))])
    a, b, c = np.linalg.lstsq(design, points[on_plane, 2], rcond=None)[0]
    return None if np.hypot(a, b) < LEAST else np.asarray(a * x + b * y + c)


@compiled
def _count(low: NDArray[np.float64], edges: NDArray[np.float64], level: float) -> tuple[int, int, int, int]:
    """The bins that decide, first and end, how many of their cells are finite, and how many of these near a level."""
    first, end, present, on_level = len(low), len(low), 0, 0
    for b in range(len(low)):
        middle = 0.5 * (edges[b + 1] + edges[b])
        if middle <= _FROM:
            continue
        if middle >= _TO:
            end = b
            break
        first = min(first, b)
        for s in range(low.shape[1]):
            present += int(low[b, s] < np.inf)
            on_level += int(abs(low[b, s] - level) < _NEAR)
    return first, end, present, on_level


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
