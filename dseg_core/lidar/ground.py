"""Ground of a range image: a height field grown outwards from the vehicle, and the points that lie on it.

The plain method (Bogoslavskyi & Stachniss 2017, section III) follows each column upwards while the angle between
consecutive rows stays small; it takes flat car roofs and the feet of walls for ground where a column begins on them.
Here the same angle only nominates points. A polar grid keeps the lowest nominated height of each cell and accepts it,
from the vehicle outwards, when the slope from the accepted cells before it is one that vehicles can drive [ours]; a
point is ground when it lies near that field. So ground is found again behind cars, and noise below it is not followed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dseg_core.lidar.flat_cells import flat_cells
from dseg_core.lidar.ground_field import GrowMemory, grow, refine
from dseg_core.lidar.kind_from_field import GROUND, HIGH, NONE, OBJECT, kind_from_field
from dseg_core.lidar.points import Points
from dseg_core.lidar.polar_grid import SECTORS, PolarGrid, polar_grid
from dseg_core.lidar.range_image import RangeImage
from dseg_core.lidar.scratch import Scratch
from dseg_core.lidar.seeds_from_points import Seeds, seeds_of
from dseg_core.lidar.tilt import street_plane

__all__ = ["GROUND", "HIGH", "NONE", "OBJECT", "ground_of"]

NOMINATE = 4 / 3  # the angle that nominates points, of the steepest slope: single pairs of points are noisy

_scratch = Scratch()


def ground_of(image: RangeImage, slope: float, kerb: float) -> NDArray[np.uint8]:
    """Tell ground from objects.

    Args:
        image: The points, z up.
        slope: Steepest ground, radians.
        kerb: How far flat points may lie above the field, metres; other points half as far.

    Returns:
        uint8 (N + 1,): NONE (no measurement, or noise under the ground), GROUND, OBJECT, or HIGH: an object's point
        that is higher over the ground than people are. The last is NONE, for cells without a point. The memory is used
        anew for the thread's next cloud.
    """
    flat = _scratch.take("flat", image.index.shape, np.bool_)
    flat_cells(image.axes, image.distance, np.float32(math.tan(NOMINATE * slope) ** 2), flat)
    grid = polar_grid(image.points)
    return kinds_of(image.points, grid, seeds_of(image.points, grid, flat, image.index), slope, kerb)


def kinds_of(points: Points, grid: PolarGrid, seeds: Seeds, slope: float, kerb: float) -> NDArray[np.uint8]:
    """Grow the field, and tell what each point is by it; as `ground_of`."""
    edges = grid.edges
    height, accepted = _grown(seeds.low, edges, seeds.sensor, slope, kerb, "level")
    plane = street_plane(seeds.low, edges, seeds.sensor, math.tan(NOMINATE * slope))
    if plane is not None:  # a tilted LiDAR's, or that of a hill before a level one: it tells which grows farther
        over_plane, more = _grown(seeds.low - plane, edges, 0.0, slope, kerb, "tilted")
        if np.count_nonzero(more) > np.count_nonzero(accepted):
            height, accepted = over_plane + plane, more
    refine(seeds, accepted, height)
    return kind_from_field(points, grid.place, seeds.is_flat, height, edges, kerb)


def _grown(
    low: NDArray[np.float64], edges: NDArray[np.float64], sensor: float, slope: float, kerb: float, name: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Heights of the field and which cells are accepted, see `grow`, in the memory of that name."""
    height, accepted = _scratch.take(name, low.shape, np.float64), _scratch.take(name, low.shape, np.bool_)
    grow(low, edges, sensor, math.tan(slope), kerb, GrowMemory.of(SECTORS), height, accepted)
    return height, accepted
