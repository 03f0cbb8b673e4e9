"""Where marks are, eight looked at as one number: those that lie together are found without looking at each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled_within

AT_ONCE = 8
"""Marks in a number."""
_NO = np.uint64(0)


@compiled_within
def list_words(words: NDArray[np.uint64], first: int, chosen: NDArray[np.int32]) -> int:
    """The first of each eight marks of which any is set, and how many these are.

    Each is kept where it is counted, and the next over it if it is none: a branch would often be guessed wrong.

    Args:
        words: uint64 (W,), marks, bool, seen as numbers.
        first: What the first mark is numbered.
        chosen: int32 (W + 1,), is filled.
    """
    count = 0
    for w in range(len(words)):
        chosen[np.uint64(count)] = first + AT_ONCE * w
        count += words[w] != _NO
    return count
