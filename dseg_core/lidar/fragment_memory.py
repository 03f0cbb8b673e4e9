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


@compiled_within
def nothing_found(count: int) -> Found:
    """For so many components, of which nothing is known."""
    no, box = np.zeros((5, count), np.bool_), np.full((4, count), _FAR)
    box[1::2] = -_FAR
    return Found(
        np.full(count, np.int32(-1)), np.full(count, _FAR), no[0], np.full(count, _FAR), np.full(count, -_FAR),
        no[1], np.ones(count, np.bool_), no[2], no[3], box,
        np.full((2, count), np.int32(-1)), np.zeros((2, count), np.int32), np.arange(count).astype(np.int32), no[4],
    )  # fmt: skip
