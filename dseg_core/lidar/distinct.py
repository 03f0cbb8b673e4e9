"""Points without the copies of points: some drivers send points twice, and merged clouds may."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled


def distinct(xyz: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Find points at exactly the same place.

    Args:
        xyz: float32 (N, 3).

    Returns:
        int64 (M,), the first point of each place, rising; and int32 (N,), which of these each point is a copy of.
    """
    return _find(np.ascontiguousarray(xyz).view(np.uint32))


@compiled
def _find(words: NDArray[np.uint32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """As `distinct`, of the coordinates' bits, uint32 (N, 3)."""
    size = 2
    while size <= 2 * len(words):
        size *= 2
    table, mask, count = np.empty(size, np.int32), np.uint64(size - 1), 0
    table[:] = -1
    first, copy_of = np.empty(len(words), np.int64), np.empty(len(words), np.int32)
    for i in range(len(words)):
        key = np.uint64(0)
        for k in range(3):
            key = (key ^ np.uint64(words[i, k])) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(32)
        slot = key & mask
        while True:
            j = table[slot]
            if j < 0:
                table[slot] = copy_of[i] = count
                first[count] = i
                count += 1
                break
            h = first[j]
            if words[h, 0] == words[i, 0] and words[h, 1] == words[i, 1] and words[h, 2] == words[i, 2]:
                copy_of[i] = j
                break
            slot = (slot + np.uint64(1)) & mask
    return first[:count], copy_of
