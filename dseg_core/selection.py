"""Which of a drive's sweeps become frames: by number, by the way driven, by speed, by time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.errors import DsegError
from dseg_core.stage_options import FrameOptions
from dseg_core.transforms import TransformError, TransformTree

EVERY, NEAR, SLOW = "not chosen by --every", "nearer than --min-distance", "slower than --min-speed"
OUTSIDE = "outside the chosen times"
_APART_NS = 100_000_000  # on either side of a sweep, for its speed


class Selection:
    """Asked once for every sweep that could become a frame, in their order.

    Args:
        options: What is chosen.
        tree: The vehicle's motion.
        frame_id: The sweeps' frame.

    Raises:
        DsegError: Distance or speed is asked for, and nothing in the tree moves.
    """

    def __init__(self, options: FrameOptions, tree: TransformTree, frame_id: str) -> None:
        self._options, self._tree, self._frame_id = options, tree, frame_id
        self._fixed = tree.fixed_frame(frame_id)
        self._last: NDArray[np.float64] | None = None
        self._count = 0
        self.unknown = 0  # sweeps that were chosen though their position was asked for in vain
        if self._fixed is None and (options.min_distance > 0 or options.min_speed > 0):
            raise DsegError(
                f"--min-distance and --min-speed need the vehicle's motion, and nothing moves {frame_id}",
                fix="Record /tf with odometry, or a nav_msgs/Odometry topic",
            )

    def refuse(self, stamp_ns: int) -> str | None:
        """Why a sweep of this header stamp is not chosen; None when it is. Sweeps of unknown position are."""
        position = self._position(stamp_ns)
        if self._options.min_speed > 0 and self._speed(stamp_ns) < self._options.min_speed:
            return SLOW
        driven = np.inf if position is None or self._last is None else float(np.linalg.norm(position - self._last))
        if driven < self._options.min_distance:
            return NEAR
        self._count += 1
        if (self._count - 1) % self._options.every:
            return EVERY
        if position is not None:
            self._last = position
        elif self._options.min_distance or self._options.min_speed:
            self.unknown += 1
        return None

    def _position(self, stamp_ns: int) -> NDArray[np.float64] | None:
        if self._fixed is None:
            return None
        try:
            return self._tree.lookup(self._fixed, self._frame_id, stamp_ns)[:3, 3]
        except TransformError:
            return None

    def _speed(self, stamp_ns: int) -> float:
        """Metres per second around a time; infinite where it is not known."""
        times = (stamp_ns - _APART_NS, stamp_ns, stamp_ns + _APART_NS)
        known = [(t, p) for t in times if (p := self._position(t)) is not None]
        if len(known) < 2:
            return np.inf
        (first, start), (last, end) = known[0], known[-1]
        return float(np.linalg.norm(end - start)) / ((last - first) / 1e9)
