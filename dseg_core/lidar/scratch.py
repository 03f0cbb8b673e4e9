"""Working memory that one sweep after the next uses."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Scratch(threading.local):
    """Arrays of each thread's own, by name, kept from call to call.

    A sweep's steps fill some 8 MB. Taken anew each time, the system hands these out page by page and takes them back
    after; that costs as much as the work itself. What `take` returns is valid until the thread takes the name again,
    so results that outlive a call are never made here.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, DTypeLike], NDArray[Any]] = {}

    def take(self, name: str, shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array with anything in it."""
        size = shape if isinstance(shape, int) else math.prod(shape)
        held = self._held.get((name, dtype))
        if held is None or len(held) < size:
            held = self._held[name, dtype] = np.empty(size + size // 4, dtype)  # the next sweep may be a little larger
        return held[:size] if isinstance(shape, int) else held[:size].reshape(shape)
