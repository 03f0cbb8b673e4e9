"""A sweep's points where they were when an image was taken, each by its own time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.records import Sweep
from dseg_core.transforms import Matrix, interpolate

_TIME_BINS = 32


def moved_points(sweep: Sweep, keep: NDArray[np.int64], T_start: Matrix, T_end: Matrix | None) -> NDArray[np.float64]:
    """The points `keep` in the optical frame at the image's time.

    Args:
        sweep: As measured, N points.
        keep: int64 (K,), which of its points.
        T_start: T_image_sweep at the sweep's stamp.
        T_end: The same at the time of the point that is farthest from the stamp; None without motion.

    Returns:
        float64 (K, 3), metres.
    """
    xyz = sweep.xyz[keep].astype(np.float64)
    if T_end is None or sweep.time_ns is None or not sweep.farthest_ns or not len(keep):
        # Not by a matrix product, whose threads wait for the next one by turning in circles, in others' time.
        x, y, z = xyz.T
        return np.stack([a * x + b * y + c * z + d for a, b, c, d in T_start[:3]], axis=1)
    fraction = sweep.time_ns[keep] / sweep.farthest_ns
    bins = np.round(fraction * (_TIME_BINS - 1)).astype(np.int64)
    first = int(bins.min())  # below 0 where points lie on the other side of the stamp
    steps = [interpolate(T_start, T_end, b / (_TIME_BINS - 1)) for b in range(first, int(bins.max()) + 1)]
    T = np.stack(steps)[bins - first]  # (N, 4, 4)
    return np.asarray(np.einsum("nij,nj->ni", T[:, :3, :3], xyz) + T[:, :3, 3])
