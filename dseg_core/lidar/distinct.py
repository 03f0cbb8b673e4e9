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
    words = np.ascontiguousarray(xyz).view(np.uint32)
    table = np.full(1 << max(2 * len(xyz), 2).bit_length(), -1, np.int32)
    first, copy_of = np.empty(len(xyz), np.int64), np.empty(len(xyz), np.int32)
    return first[: _find(words, table, first, copy_of)], copy_of


@compiled
def _find(
    words: NDArray[np.uint32], table: NDArray[np.int32], first: NDArray[np.int64], copy_of: NDArray[np.int32]
) -> int:
    count, mask = 0, np.uint64(len(table) - 1)
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
    return count
