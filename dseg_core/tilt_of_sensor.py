"""Whether a LiDAR is mounted so far from level that its ground is not found without being told."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from dseg_core.transforms import TransformTree

FOUND_BY_ITSELF = 11.0
"""Degrees up to which a sweep shows its own tilt."""
_ON_ITS_SIDE = 45.0
"""Degrees. Between this and half a turn less it, the frame above is one whose z is not up, as cameras' are, more often
than the LiDAR lies on its side."""


_known: WeakKeyDictionary[TransformTree, dict[str, tuple[int, str]]] = WeakKeyDictionary()


def tilt_note(tree: TransformTree, frame: str) -> str:
    """What to do where a sensor's frame is far from level in the vehicle's; empty where it is level or nobody knows.

    Every sweep asks: it is looked up anew only when something is mounted otherwise.
    """
    notes = _known.setdefault(tree, {})
    if frame not in notes or notes[frame][0] != tree.mounts:
        mounts = tree.mounts  # first: threads may add to the tree meanwhile
        notes[frame] = mounts, _note(tree, frame)
    return notes[frame][1]


def _note(tree: TransformTree, frame: str) -> str:
    vehicle = tree.rigid_root(frame)
    z = tree.lookup(vehicle, frame, 0)[2, 2]  # no odometry is on that way, so that any time will do
    tilt = float(np.rad2deg(np.arccos(np.clip(z, -1, 1))))
    if tilt <= FOUND_BY_ITSELF or _ON_ITS_SIDE < tilt < 180 - _ON_ITS_SIDE:
        return ""
    return (
        f"{frame} is turned by {tilt:.0f} deg from level: give --proposals.level {vehicle}, else ground may be missed"
    )
