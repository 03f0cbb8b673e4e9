"""Whether a LiDAR measures what is no thing: drops, dust or its own housing, all around it [ours]."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dseg_core.records import Sweep

NEAR = 1.0
"""Metres within which there is nothing on a street but the vehicle itself."""
_BLIND = 0.3  # metres within which points are no measurements anyway
_LEAST = 0.03  # of the points, so that objects come apart by them
_SAMPLE = 16  # every so manieth point tells whether there are so many
_AZIMUTHS, _ELEVATIONS = 72, 60  # cells of 5 by 3 degrees
_OPEN = 0.5  # share of near points up to which a cell's beams mostly pass: a roof or a bonnet stops them all
_FIRST, _EVERY = 3, 20  # sweeps looked at: the first ones, then every so manieth
_AROUND = 0.75  # of the azimuths in which something is near above the LiDAR, where no vehicle is


class NearWatch:
    """Looks at some of each LiDAR's sweeps; any thread may ask."""

    def __init__(self) -> None:
        self._count = Counter[str]()
        self._note = dict[str, str]()
        self._lock = threading.Lock()

    def note(self, sweep: Sweep, street: Callable[[Sweep], Sweep]) -> str:
        """As `near_note` of the latest sweep of its LiDAR that was looked at. `street`: takes the vehicle out."""
        frame = sweep.frame_id
        with self._lock:
            count = self._count[frame]
            self._count[frame] += 1
        if count < _FIRST or count % _EVERY == 0:
            note = near_note(sweep) and near_note(street(sweep))
            with self._lock:
                self._note[frame] = note
        with self._lock:
            return self._note.get(frame, "")


def near_note(sweep: Sweep) -> str:
    """What to do about points that are near in every direction; empty where there are few, or they are the vehicle.

    The vehicle is below the LiDAR, and where it is near, it hides the street: among near points of other kinds, other
    beams of the same directions go on.

    Args:
        sweep: Without what is known to be the vehicle; points at the origin are none.
    """
    sample = sweep.xyz[::_SAMPLE]
    square = np.einsum("ij,ij->i", sample, sample)
    if np.count_nonzero((square > _BLIND**2) & (square < NEAR**2)) < _LEAST * max(len(sample), 1):
        return ""
    if not _is_all_around(sweep.xyz[np.isfinite(sweep.xyz).all(axis=1)].astype(np.float64)):
        return ""
    side = ",".join([f"-{NEAR:g}"] * 3 + [f"{NEAR:g}"] * 3)
    return (
        f"points within {NEAR:g} m of {sweep.frame_id} lie in all directions, as drops, dust or its housing do: leave "
        f"them out with --ego.box={side}"
    )


def _is_all_around(xyz: NDArray[np.float64]) -> bool:
    """Whether near points (of N, 3) are scattered among others, or are on every side above the LiDAR."""
    distance = np.linalg.norm(xyz, axis=1)
    xyz, distance = xyz[distance > _BLIND], distance[distance > _BLIND]
    near = distance < NEAR
    azimuth = np.arctan2(xyz[:, 1], xyz[:, 0]) / (2 * np.pi) + 0.5  # 0 to 1
    elevation = np.arcsin(np.clip(xyz[:, 2] / distance, -1, 1)) / np.pi + 0.5
    column = np.minimum((azimuth * _AZIMUTHS).astype(np.int64), _AZIMUTHS - 1)
    cell = np.minimum((elevation * _ELEVATIONS).astype(np.int64), _ELEVATIONS - 1) * _AZIMUTHS + column
    whole = np.bincount(cell, minlength=_AZIMUTHS * _ELEVATIONS)
    held = np.bincount(cell[near], minlength=_AZIMUTHS * _ELEVATIONS)
    scattered = held[held < _OPEN * whole].sum() > _LEAST * len(xyz)
    above = np.unique(column[near & (xyz[:, 2] > 0)])
    return bool(scattered or len(above) > _AROUND * _AZIMUTHS)
