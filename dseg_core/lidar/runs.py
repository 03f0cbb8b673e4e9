"""Runs of neighbouring cells in a row that have one label: far fewer than cells, and all that many loops need."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled_within

LANES = 16
"""Cells that `write_run` writes at a time, so that most runs need no second time; memory needs so many more behind."""


class Runs(NamedTuple):
    """Runs of one label each, row by row.

    `first`: int32, first cell of each run, row * C + column; `length`: int32, its cells; `before`: int32, the run of
    the same label before it, -1 before the first. `newest`: int32, the last run of each label.
    """

    first: NDArray[np.int32]
    length: NDArray[np.int32]
    before: NDArray[np.int32]
    newest: NDArray[np.int32]


@compiled_within
def write_run(cells: NDArray[np.int32], first: np.int64, end: np.int64, label: np.int32) -> None:
    """Give a run of cells its label, and up to LANES behind it, which must be written to later.

    Few runs are longer, so that its one branch is guessed right; a loop over the cells of each would not be.
    """
    while True:
        for m in range(LANES):
            cells[np.uint64(first + m)] = label
        first += np.int64(LANES)
        if first >= end:
            return
