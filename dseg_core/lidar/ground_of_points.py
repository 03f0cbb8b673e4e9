"""Ground of a cloud without beams: the height field of `ground`, grown over thin layers of points."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dseg_core.lidar.flat_points import flat_points
from dseg_core.lidar.ground import NOMINATE, kinds_of
from dseg_core.lidar.points import Points
from dseg_core.lidar.polar_grid import SECTORS, PolarGrid, polar_grid
from dseg_core.lidar.seeds_from_points import Seeds, seeds_of


def ground_of_points(points: Points, slope: float, kerb: float) -> NDArray[np.uint8]:
    """Tell ground from objects.

    Neither the order of the points matters, nor, but for points at the limits of what is flat, whether they are turned
    about the vertical through the sensor. Farther than that it is not the same after a motion: it grows from where the
    sensor stands.

    Args:
        points: z up.
        slope: Steepest ground, radians.
        kerb: How far points of thin layers may lie above the field, metres; other points half as far.

    Returns:
        uint8 (N,): NONE, GROUND, OBJECT or HIGH, see `ground_of`.
    """
    grid = polar_grid(points)
    return kinds_of(points, grid, _seeds(points, grid, slope), slope, kerb)[:-1]


def height_under_sensor(points: Points, slope: float) -> float:
    """Where the ground is under the sensor, z in metres, by what is flat 3 to 20 m away; NaN where nothing is.

    `slope`: steepest ground, radians.
    """
    return _seeds(points, polar_grid(points), slope).sensor


def _seeds(points: Points, grid: PolarGrid, slope: float) -> Seeds:
    flat = flat_points(points.axes[2], points.planar, grid.place, SECTORS, grid.edges, math.tan(NOMINATE * slope))
    return seeds_of(points, grid, np.ones(len(flat), dtype=np.bool_), flat)
