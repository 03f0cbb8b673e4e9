"""Sets that are joined pair by pair, for compiled loops."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled_within


@compiled_within
def root(parent: NDArray[np.int32], i: np.int64) -> np.int64:
    """What stands for the set that `i` is in; shortens the way there."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = np.int64(parent[i])  # of one type, else functions are compiled again
    return i


@compiled_within
def unite(parent: NDArray[np.int32], i: np.int64, j: np.int64) -> None:
    """The smaller number becomes the root, so that the result does not depend on the order of joining."""
    a, b = root(parent, i), root(parent, j)
    if a < b:
        parent[b] = a
    elif b < a:
        parent[a] = b
