"""A sweep's points where they were when an image was taken, each by its own time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.records import Sweep
from dseg_core.transforms import Matrix, interpolate

_TIME_BINS = 32  # between which poses are blended: 0.1 rad a sweep are then 1e-6 rad off the arc


def moved_points(
    sweep: Sweep,
    keep: NDArray[np.int64],
    T_start: Matrix,
    T_end: Matrix | None,
    places: NDArray[np.float32] | None = None,
) -> NDArray[np.float64]:
    """The points `keep` in the optical frame at the image's time.

    Args:
        sweep: As measured, N points.
        keep: int64 (K,), which of its points.
        T_start: T_image_sweep at the sweep's stamp.
        T_end: The same at the time of the point that is farthest from the stamp; None without motion.
        places: float32 (K, 3), places in the sweep's frame to move at those points' times. None: the points' own.

    Returns:
        float64 (K, 3), metres.
    """
    xyz = (sweep.xyz[keep] if places is None else places).astype(np.float64)
    if T_end is None or sweep.time_ns is None or not sweep.farthest_ns or not len(keep):
        # Not by a matrix product, whose threads wait for the next one by turning in circles, in others' time.
        x, y, z = xyz.T
        return np.stack([a * x + b * y + c * z + d for a, b, c, d in T_start[:3]], axis=1)
    place = sweep.time_ns[keep].astype(np.float64) * ((_TIME_BINS - 1) / sweep.farthest_ns)
    first = int(np.floor(place.min()))  # below 0 where points lie on the other side of the stamp
    bins = range(first, int(np.ceil(place.max())) + 2)
    steps = np.stack([interpolate(T_start, T_end, b / (_TIME_BINS - 1))[:3] for b in bins])  # (B, 3, 4)
    return _blended(xyz, place - first, steps)


def _blended(
    points: NDArray[np.float64], place: NDArray[np.float64], steps: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Each point moved by the steps (B, 3, 4) before and after its place among them, and what lies between the two.

    In NumPy: the node that projects masks onto points runs where there is no compiler.
    """
    before = place.astype(np.int64)
    after = place - before
    between = np.diff(steps, axis=0)
    out = np.empty((len(points), 3), np.float64)
    for k in range(3):
        moved = steps[before, k, 3] + after * between[before, k, 3]
        for c in range(3):
            moved += (steps[before, k, c] + after * between[before, k, c]) * points[:, c]
        out[:, k] = moved
    return out
