"""What every method of splitting a sweep gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Split:
    """A sweep in ground and objects.

    `labels`: int32 (N,), of each point: 0 none, 1 ground, 2.. objects, without gaps; the memory may be used anew for
    the thread's next sweep. `sizes`: int64 (L,), of each object, how many different measurements it has, of beams how
    many cells: copies of a point count once.
    """

    labels: NDArray[np.int32]
    sizes: NDArray[np.int64]
