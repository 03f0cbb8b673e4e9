"""What joining fragments looks at, and what it finds out of each component."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled_within

_FAR = np.float32(np.inf)


class Image(NamedTuple):
    """The image cell by cell, (R * C,) each; see `join_fragments`. Not for functions that are called for each cell."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    z: NDArray[np.float32]
    reach: NDArray[np.float32]
    kind: NDArray[np.uint8]
    label: NDArray[np.int32]


class Found(NamedTuple):
    """What is known of each component, at its root.

    `to`: int32, the nearest larger one, -1 before there is any; `nearest`: float32, its distance, squared metres;
    `close`: whether that is within the gap. `low`, `high`: float32, z, metres. `stands`: on the ground; `hangs`: all
    of it is high. `done`: not to be looked at again; `joins`: the larger one. `box`: float32 (4, L), least and largest
    x, then y, metres. Of slivers: `beside`, int32 (2, L), the neighbour to the left and right, -1 before there is any;
    `votes`, int32 (2, L), rows that are for joining it, less those against; `leads`, int32, what it was joined with;
    `sides`: which were joined of slivers, and so are neither people nor posts.
    """

    to: NDArray[np.int32]
    nearest: NDArray[np.float32]
    close: NDArray[np.bool_]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    stands: NDArray[np.bool_]
    hangs: NDArray[np.bool_]
    done: NDArray[np.bool_]
    joins: NDArray[np.bool_]
    box: NDArray[np.float32]
    beside: NDArray[np.int32]
    votes: NDArray[np.int32]
    leads: NDArray[np.int32]
    sides: NDArray[np.bool_]

    @classmethod
    def of(cls, count: int) -> Found:
        """For so many components; `forget` fills it. Arrays are made here: each kind takes a loop .1 s to compile."""
        numbers, lengths = np.empty((6, count), np.int32), np.empty((7, count), np.float32)
        flags = np.empty((6, count), np.bool_)
        return cls(
            numbers[0], lengths[0], flags[0], lengths[1], lengths[2], flags[1], flags[2], flags[3], flags[4],
            lengths[3:], numbers[1:3], numbers[3:5], numbers[5], flags[5],
        )  # fmt: skip


@compiled_within
def forget(found: Found) -> None:
    """Nothing is known of any component."""
    for k in range(len(found.to)):
        found.to[k], found.nearest[k], found.leads[k] = -1, _FAR, k
        found.low[k], found.high[k], found.hangs[k] = _FAR, -_FAR, True
        found.close[k] = found.stands[k] = found.done[k] = found.joins[k] = found.sides[k] = False
        for side in range(2):
            found.box[2 * side, k], found.box[2 * side + 1, k] = _FAR, -_FAR
            found.beside[side, k], found.votes[side, k] = -1, 0
