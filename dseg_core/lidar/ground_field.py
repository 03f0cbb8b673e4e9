"""The field of the ground's heights over a polar grid: grown outwards from the vehicle, then made even."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.scratch import Scratch

_BESIDE, _CARRIED = 5, 3  # sectors to each side that a cell is compared with, and that heights are carried on from
_RELIEF = 0.2  # metres over the lowest flat point of a cell that others are averaged with it
_LANES = 2  # sums of each cell, by turns: an addition to what was just written waits for it

_scratch = Scratch()


class GrowMemory(NamedTuple):
    """Working memory for S sectors.

    `before`, `last`: float64 (S,), the height so far, and how far out it was accepted, 0 if it was not. `rises`: bool
    (S,). `ring`: float64 (3, S + 2 * _CARRIED), the last sectors before the first, and so on.
    """

    before: NDArray[np.float64]
    last: NDArray[np.float64]
    rises: NDArray[np.bool_]
    ring: NDArray[np.float64]

    @classmethod
    def of(cls, sectors: int, sensor: float) -> GrowMemory:
        """At the sensor, with the ground at that height under it, metres."""
        last, rises = np.zeros(sectors), np.zeros(sectors, np.bool_)
        return cls(np.full(sectors, sensor), last, rises, np.empty((3, sectors + 2 * _CARRIED)))


@compiled
def grow(
    low: NDArray[np.float64],
    edges: NDArray[np.float64],
    sensor: float,
    slope: float,
    kerb: float,
    memory: GrowMemory,
    height: NDArray[np.float64],
    accepted: NDArray[np.bool_],
) -> None:
    """Accept cells from the vehicle outwards; heights of the others are carried on from those before and beside.

    Args:
        low: float64 (bins, sectors), the lowest flat point of each cell, infinite without any, metres.
        edges: float64 (bins + 1,), planar distance between bins, metres.
        sensor: The ground's height under the sensor, metres; NaN where there is none.
        slope: Steepest ground, as a tangent.
        kerb: Highest step, metres.
        memory: For so many sectors.
        height: float64 (bins, sectors), is filled, metres.
        accepted: bool (bins, sectors), is filled.
    """
    bins, sectors = low.shape
    before, last, rises, ring = memory
    for b in range(bins):
        middle, width = 0.5 * (edges[b] + edges[b + 1]), edges[b + 1] - edges[b]
        here, found, ground = low[b], height[b], accepted[b]
        for s in range(sectors):
            gap = min(middle - last[s], 3.0 * width)
            # The vehicle stands on the ground, which does not rise at its side: what does is a car in the next lane.
            allowed = 0.15 + (slope if last[s] > 0 else 0.3 * slope) * gap
            ground[s] = abs(here[s] - before[s]) <= allowed
        for s in range(sectors):  # an array given to a slice takes a second to compile
            found[s] = here[s]
        _begin_beside(middle, slope, found, ground)
        rising = 0
        for s in range(sectors):
            rises[s] = ground[s] & (found[s] - before[s] > kerb)
            rising += rises[s]
        if rising:  # what towers over ground beside it is a bonnet or a sill
            for s in range(sectors):
                rises[s] = rises[s] and _towers(found, ground, s, slope * middle * 2 * np.pi / sectors, kerb)
            for s in range(sectors):
                ground[s] &= not rises[s]
        for s in range(sectors):
            before[s] = found[s] if ground[s] else before[s]
        for s in range(sectors):
            last[s] = middle if ground[s] else last[s]
        _carry_on(before, ground, ring, found)


@compiled_within
def _begin_beside(middle: float, slope: float, found: NDArray[np.float64], ground: NDArray[np.bool_]) -> None:
    """Beside accepted cells ground may begin anew, as behind a car."""
    sectors = len(found)
    for s in range(sectors):
        if ground[s] or found[s] == np.inf:
            continue
        for side in (-2, -1, 1, 2):
            t = s + side
            t = t + sectors if t < 0 else t - sectors if t >= sectors else t
            across = abs(side) * middle * 2 * np.pi / sectors
            if ground[t] and abs(found[s] - found[t]) <= 0.1 + 0.5 * slope * across:
                ground[s] = True
                break


@compiled_within
def _carry_on(
    before: NDArray[np.float64], ground: NDArray[np.bool_], ring: NDArray[np.float64], found: NDArray[np.float64]
) -> None:
    """Heights of cells that are not accepted: the mean of that before and those beside, by how far aside they are.

    `ring`: float64 (3, sectors + 2 * _CARRIED), working memory, with the last sectors before the first, and so on: then
    loops have no branches.
    """
    sectors = len(found)
    heights, shares, weights = ring[0], ring[1], ring[2]
    for s in range(sectors):
        heights[s + _CARRIED] = found[s] if ground[s] else 0.0
    for s in range(sectors):
        shares[s + _CARRIED] = 1.0 if ground[s] else 0.0
    for s in range(_CARRIED):
        heights[s], heights[s + sectors + _CARRIED] = heights[s + sectors], heights[s + _CARRIED]
        shares[s], shares[s + sectors + _CARRIED] = shares[s + sectors], shares[s + _CARRIED]
    for s in range(sectors):
        weight = 0.5
        for side in (-3, -2, -1, 1, 2, 3):
            weight += shares[s + side + _CARRIED] / abs(side)
        weights[s] = weight
    for s in range(sectors):
        total = before[s] * 0.5
        for side in (-3, -2, -1, 1, 2, 3):
            total += heights[s + side + _CARRIED] / abs(side)
        found[s] = found[s] if ground[s] else total / weights[s]
    for s in range(sectors):
        before[s] = found[s] if weights[s] > 0.5 else before[s]


@compiled_within
def _towers(found: NDArray[np.float64], ground: NDArray[np.bool_], s: int, rise: float, kerb: float) -> bool:
    """Whether a cell is higher than ground and a kerb can be over two or more cells beside it; one may be noise."""
    lower = 0
    for side in range(1, _BESIDE + 1):
        for t in ((s - side) % len(found), (s + side) % len(found)):
            lower += ground[t] and found[s] - found[t] > kerb + side * rise
    return lower > 1


def refine(
    spots: NDArray[np.int32], heights: NDArray[np.float32], accepted: NDArray[np.bool_], height: NDArray[np.float64]
) -> None:
    """Replace the lowest by the mean height of the accepted cells' flat points, which noise does not pull down.

    Args:
        spots: int32 (K,), cells of the flat points, bin * sectors + sector.
        heights: float32 (K,), their z, metres.
        accepted: bool (bins, sectors).
        height: float64 (bins, sectors), is changed.
    """
    highest = _scratch.take("highest", height.size, np.float64)
    sums = _scratch.take("sums", (height.size, _LANES, 2), np.float64)
    _mean(spots, heights, accepted.reshape(-1), highest, sums, height.reshape(-1))


@compiled
def _mean(
    spots: NDArray[np.int32],
    heights: NDArray[np.float32],
    accepted: NDArray[np.bool_],
    highest: NDArray[np.float64],
    sums: NDArray[np.float64],
    height: NDArray[np.float64],
) -> None:
    """The mean of those that are lower than their cell's `highest`; `sums`: of heights, and how many these are."""
    sums[:] = 0.0
    for k in range(len(height)):
        highest[k] = height[k] + _RELIEF if accepted[k] else -np.inf
    for j in range(len(spots)):
        p, lane = np.uint32(spots[j]), np.uint32(j % _LANES)
        is_low = heights[j] < highest[p]  # no branch, which would often be guessed wrong
        sums[p, lane, 0] += heights[j] if is_low else 0.0
        sums[p, lane, 1] += 1.0 if is_low else 0.0
    for k in range(len(height)):
        count = sums[k, 0, 1] + sums[k, 1, 1]
        if count:
            height[k] = (sums[k, 0, 0] + sums[k, 1, 0]) / count
