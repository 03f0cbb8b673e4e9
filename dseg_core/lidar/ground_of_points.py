"""Ground of a cloud without beams: the height field of `ground`, grown over thin layers of points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.lidar.flat_points import flat_points
from dseg_core.lidar.ground import EDGES, NOMINATE, SECTORS, height_under_sensor, kinds_of, polar_grid
from dseg_core.lidar.points import Points


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
        uint8 (N,): NONE (no measurement, or noise under the ground), GROUND, OBJECT or HIGH, see `ground_of`.
    """
    planar, place = polar_grid(points)
    index = np.arange(len(points), dtype=np.int32)
    return kinds_of(points, planar, place, _flat(points, planar, place, slope), index, slope, kerb)


def street_height(points: Points, slope: float) -> float:
    """Where the ground is under the sensor, z in metres, by what is flat 3 to 20 m away; NaN where nothing is.

    `slope`: steepest ground, radians.
    """
    planar, place = polar_grid(points)
    return height_under_sensor(points, place, _flat(points, planar, place, slope))


def _flat(points: Points, planar: NDArray[np.float32], place: NDArray[np.int32], slope: float) -> NDArray[np.bool_]:
    found = np.empty(len(points), dtype=np.bool_)
    flat_points(points.axes[2], planar, place, SECTORS, EDGES, float(np.tan(NOMINATE * slope)), found)
    return found
