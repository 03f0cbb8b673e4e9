"""Between what the field of the ground's heights is in each cell, so that most points need not be interpolated to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within

_SLACK, _SLACK_PER_METRE = np.array([1e-3, 1e-6], dtype=np.float32)  # many times what single precision rounds off


@compiled
def bound_field(
    height: NDArray[np.float64],
    edges: NDArray[np.float64],
    field: NDArray[np.float32],
    beside: NDArray[np.float32],
    between: NDArray[np.float32],
    bins: NDArray[np.float32],
) -> None:
    """The field with a margin, and the lowest and highest that it can be within each cell: what it is in those around.

    Args:
        height: float64 (bins, sectors), metres.
        edges: float64 (bins + 1,), planar distance between bins, metres.
        field: float32 ((bins + 2) * (sectors + 2),), is filled with the same: the innermost and outermost bins twice,
            before the first sector the last and behind the last the first.
        beside: float32 (2, bins + 2, sectors), working memory.
        between: float32 (2 * bins * sectors + 2,), is filled with the lowest and the highest of cell p at 2 p + 2. The
            first two are infinite: nothing is sure beyond the field.
        bins: float32 (2 * bins,), is filled with where each begins, and one divided by how wide it is, metres.
    """
    rings, sectors = height.shape
    lowest, highest = beside[0], beside[1]
    for b in range(rings + 2):
        row = field[b * (sectors + 2) : (b + 1) * (sectors + 2)]
        _put(height[min(max(b - 1, 0), rings - 1)], row)
        _lowest(row, lowest[b])
        _highest(row, highest[b])
    between[0], between[1] = -np.inf, np.inf
    for b in range(rings):
        first = 2 + 2 * b * sectors
        inner, here, outer = lowest[b], lowest[b + 1], lowest[b + 2]
        above, beyond = highest[b], highest[b + 2]
        _enclose(inner, here, outer, above, highest[b + 1], beyond, between[first : first + 2 * sectors])
        bins[2 * b], bins[2 * b + 1] = edges[b], 1 / (edges[b + 1] - edges[b])


# Loops of their own, without branches, that write to one array each: only such run with vector instructions.


@compiled_within
def _put(heights: NDArray[np.float64], row: NDArray[np.float32]) -> None:
    """A bin with what is beside its first and last sector."""
    sectors = len(heights)
    for s in range(sectors):
        row[s + 1] = heights[s]
    row[0], row[sectors + 1] = row[sectors], row[1]


@compiled_within
def _lowest(row: NDArray[np.float32], lowest: NDArray[np.float32]) -> None:
    for s in range(len(lowest)):
        lowest[s] = min(row[s], row[s + 1], row[s + 2])


@compiled_within
def _highest(row: NDArray[np.float32], highest: NDArray[np.float32]) -> None:
    for s in range(len(highest)):
        highest[s] = max(row[s], row[s + 1], row[s + 2])


@compiled_within
def _enclose(
    low_before: NDArray[np.float32],
    low: NDArray[np.float32],
    low_behind: NDArray[np.float32],
    high_before: NDArray[np.float32],
    high: NDArray[np.float32],
    high_behind: NDArray[np.float32],
    between: NDArray[np.float32],
) -> None:
    for s in range(len(low)):
        lowest = min(low_before[s], low[s], low_behind[s])
        highest = max(high_before[s], high[s], high_behind[s])
        slack = _SLACK + _SLACK_PER_METRE * max(abs(lowest), abs(highest))
        between[2 * s], between[2 * s + 1] = lowest - slack, highest + slack
