"""The field of the ground's heights over a polar grid: grown outwards from the vehicle, then made even."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within

_BESIDE = 5  # sectors to each side that a cell is compared with


@compiled
def grow(
    low: NDArray[np.float64],
    edges: NDArray[np.float64],
    sensor: float,
    slope: float,
    kerb: float,
    state: NDArray[np.float64],
    height: NDArray[np.float64],
    accepted: NDArray[np.bool_],
) -> None:
    """Accept cells from the vehicle outwards; heights of the others are carried on from those before and beside.

    Args:
        low: float64 (sectors, bins), the lowest flat point of each cell, infinite without any, metres.
        edges: float64 (bins + 1,), planar distance between bins, metres.
        sensor: The ground's height under the sensor, metres; NaN where there is none.
        slope: Steepest ground, as a tangent.
        kerb: Highest step, metres.
        state: float64 (3, sectors), zeros, for the height so far, how far out the last accepted cell was, 0 if none,
            and what is too steep.
        height: float64 (sectors, bins), is filled, metres.
        accepted: bool (sectors, bins), is filled.
    """
    sectors, bins = low.shape
    before, last, steep = state[0], state[1], state[2]
    before[:] = sensor
    for b in range(bins):
        middle, width = 0.5 * (edges[b] + edges[b + 1]), edges[b + 1] - edges[b]
        rise = slope * middle * 2 * np.pi / sectors
        for s in range(sectors):
            gap = min(middle - last[s], 3.0 * width)
            # The vehicle stands on the ground, which does not rise at its side: what does is a car in the next lane.
            allowed = 0.15 + (slope if last[s] > 0 else 0.3 * slope) * gap
            accepted[s, b] = abs(low[s, b] - before[s]) <= allowed
            if accepted[s, b]:
                height[s, b] = low[s, b]
        for s in range(sectors):  # beside accepted cells ground may begin anew, as behind a car
            if accepted[s, b] or low[s, b] == np.inf:
                continue
            for side in (-2, -1, 1, 2):
                t = s + side
                t = t + sectors if t < 0 else t - sectors if t >= sectors else t
                across = abs(side) * middle * 2 * np.pi / sectors
                if accepted[t, b] and abs(low[s, b] - height[t, b]) <= 0.1 + 0.5 * slope * across:
                    height[s, b] = low[s, b]
                    accepted[s, b] = True
                    break
        for s in range(sectors):  # what rises, and towers over ground beside it, is a bonnet or a sill
            rises = accepted[s, b] and height[s, b] - before[s] > kerb
            steep[s] = 1.0 if rises and _towers(height, accepted, s, b, rise, kerb) else 0.0
        for s in range(sectors):
            accepted[s, b] &= steep[s] == 0
            if accepted[s, b]:
                before[s], last[s] = height[s, b], middle
        for s in range(sectors):
            if not accepted[s, b]:
                total, weight = before[s] * 0.5, 0.5
                for side in (-3, -2, -1, 1, 2, 3):
                    t = s + side
                    t = t + sectors if t < 0 else t - sectors if t >= sectors else t
                    if accepted[t, b]:
                        total += height[t, b] / abs(side)
                        weight += 1.0 / abs(side)
                height[s, b] = total / weight
                if weight > 0.5:
                    before[s] = height[s, b]


@compiled_within
def _towers(height: NDArray[np.float64], accepted: NDArray[np.bool_], s: int, b: int, rise: float, kerb: float) -> bool:
    """Whether a cell is higher than ground and a kerb can be over two or more cells beside it; one may be noise."""
    lower = 0
    for side in range(1, _BESIDE + 1):
        for t in ((s - side) % height.shape[0], (s + side) % height.shape[0]):
            lower += accepted[t, b] and height[s, b] - height[t, b] > kerb + side * rise
    return lower > 1


@compiled
def refine(
    spots: NDArray[np.int32],
    heights: NDArray[np.float32],
    accepted: NDArray[np.bool_],
    sums: NDArray[np.float64],
    height: NDArray[np.float64],
) -> None:
    """Replace the lowest by the mean height of the accepted cells' flat points, which noise does not pull down.

    Args:
        spots: int32 (K,), cells of the flat points, sector * bins + bin.
        heights: float32 (K,), their z, metres.
        accepted: bool (sectors * bins,).
        sums: float64 (2, sectors * bins), zeros, for heights and how many these are. Of runs of points of one cell:
            an addition to what was just written waits for it.
        height: float64 (sectors * bins,), is changed.
    """
    spot, total, count, highest = 0, 0.0, 0.0, -np.inf
    for j in range(len(spots)):
        if spots[j] != spot:
            sums[0, spot] += total
            sums[1, spot] += count
            spot, total, count = spots[j], 0.0, 0.0
            highest = height[spot] + 0.2 if accepted[spot] else -np.inf
        is_low = heights[j] < highest  # no branch, which would often be guessed wrong
        total += heights[j] if is_low else 0.0
        count += 1.0 if is_low else 0.0
    sums[0, spot] += total
    sums[1, spot] += count
    for p in range(height.size):
        if sums[1, p]:
            height[p] = sums[0, p] / sums[1, p]
