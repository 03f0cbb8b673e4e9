"""The plane of the street near the vehicle, where the LiDAR is not mounted level."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled
from dseg_core.lidar.scratch import Scratch

_DRAWS, _ENOUGH = 100, 600  # planes that are tried, and on how many cells, at least
_FROM, _TO, _FEWEST = 2.0, 20.0, 30  # metres; cells that decide
_NEAR, _SHARE, _BETTER = 0.1, 0.5, 2.5  # metres from a plane; of the cells that lie on a tilted one, and than level
_LOWEST, _HIGHEST = -10.0, -0.3  # metres below the sensor, where the street can be
_DRAWN = np.random.default_rng(0).random((_DRAWS, 3))
_scratch = Scratch()

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
    ways, points = _ways(low.shape[1]), _scratch.take("points", (3, low.size + 1), np.float64)
    present, on_level = _near(low, edges, level, ways, points)
    if present < _FEWEST or _BETTER * on_level > present:
        return None
    step = max(present // _ENOUGH, 1)
    tried = -(-present // step)
    *plane, count = _largest(points, step, _scratch.take("some", (3, tried), np.float64), _DRAWN, slope)
    if count / tried * present < max(_FEWEST, _SHARE * present, _BETTER * on_level):
        return None
    x, y, z = points[:, :present]
    on_plane = np.abs(z - plane[0] * x - plane[1] * y - plane[2]) < _NEAR
    design = np.column_stack([x[on_plane], y[on_plane], np.ones(np.count_nonzero(on_plane))])
    a, b, c = np.linalg.lstsq(design, z[on_plane], rcond=None)[0]
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

    `ways`: float64 (2, sectors), x and y of the sectors' directions. `points`: float64 (3, bins * sectors + 1), is
    filled with x, y and z of the middles of those cells, metres.
    """
    present, on_level = 0, 0
    for b in range(len(low)):
        middle = 0.5 * (edges[b + 1] + edges[b])
        if middle <= _FROM or middle >= _TO:
            continue
        for s in range(low.shape[1]):
            n = np.uint64(present)
            points[0, n], points[1, n], points[2, n] = middle * ways[0, s], middle * ways[1, s], low[b, s]
            present += int(low[b, s] < np.inf)
            on_level += int(abs(low[b, s] - level) < _NEAR)
    return present, on_level


@compiled
def _largest(
    points: NDArray[np.float64], step: int, some: NDArray[np.float64], drawn: NDArray[np.float64], slope: float
) -> tuple[float, float, float, int]:
    """The plane z = a x + b y + c through three of some points that most of these lie near: a, b, c and how many.

    Args:
        points: float64 (3, N), metres.
        step: Every so many of them is taken.
        some: float64 (3, M), is filled with these.
        drawn: float64 (D, 3), 0..1: which points planes are put through.
        slope: Steepest plane, as a tangent.
    """
    x, y, z = some[0], some[1], some[2]
    for k in range(len(x)):
        x[k], y[k], z[k] = points[0, k * step], points[1, k * step], points[2, k * step]
    best_a, best_b, best_c, most = 0.0, 0.0, 0.0, 0
    for draw in range(len(drawn)):
        p, q, r = (int(drawn[draw, 0] * len(x)), int(drawn[draw, 1] * len(x)), int(drawn[draw, 2] * len(x)))
        ux, uy, uz, vx, vy, vz = x[q] - x[p], y[q] - y[p], z[q] - z[p], x[r] - x[p], y[r] - y[p], z[r] - z[p]
        across = ux * vy - uy * vx
        if abs(across) < 1.0:  # square metres: a sliver tells no tilt
            continue
        a, b = (uz * vy - uy * vz) / across, (ux * vz - uz * vx) / across
        c = z[p] - a * x[p] - b * y[p]
        if a * a + b * b > slope * slope or not _LOWEST < c < _HIGHEST:
            continue
        count = 0
        for k in range(len(x)):
            count += abs(z[k] - a * x[k] - b * y[k] - c) < _NEAR
        if count > most:
            best_a, best_b, best_c, most = a, b, c, count
    return best_a, best_b, best_c, most
