"""The field of the ground's heights over a polar grid: grown outwards from the vehicle, then made even."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.scratch import Scratch
from dseg_core.lidar.seeds_from_points import Seeds

_BESIDE, _CARRIED = 5, 3  # sectors to each side that a cell is compared with, and that heights are carried on from
_RELIEF = np.float32(0.2)  # metres over the lowest flat point of a cell that others are averaged with it
_PARTS = np.float32(2**20)  # of a metre
_ONE = np.int64(2**41)  # more than all parts of a cell of 8 million points; twice as many counts fit beside them
_LANES = np.uint32(2)

_scratch = Scratch()


class GrowMemory(NamedTuple):
    """Working memory for S sectors.

    `before`, `last`: float64 (S,), the height so far, and how far out it was accepted, 0 if it was not. `rises`: bool
    (S,). `ring`: float64 (3, S + 2 * _CARRIED), the last sectors before the first, and so on. `chosen`: int32 (S + 1,).
    """

    before: NDArray[np.float64]
    last: NDArray[np.float64]
    rises: NDArray[np.bool_]
    ring: NDArray[np.float64]
    chosen: NDArray[np.int32]

    @classmethod
    def of(cls, sectors: int) -> GrowMemory:
        """With anything in it; it is used anew for the thread's next field."""
        before, last = (_scratch.take(name, sectors, np.float64) for name in ("before", "last"))
        ring = _scratch.take("ring", (3, sectors + 2 * _CARRIED), np.float64)
        return cls(
            before,
            last,
            _scratch.take("rises", sectors, np.bool_),
            ring,
            _scratch.take("chosen", sectors + 1, np.int32),
        )


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
    before, last, rises, ring, chosen = memory
    for s in range(sectors):
        before[s], last[s] = sensor, 0.0
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
        _begin_beside(middle, slope, found, ground, chosen)
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
def _begin_beside(
    middle: float, slope: float, found: NDArray[np.float64], ground: NDArray[np.bool_], chosen: NDArray[np.int32]
) -> None:
    """Beside accepted cells ground may begin anew, as behind a car; `chosen`: working memory, of sectors."""
    sectors, count = len(found), 0
    for s in range(sectors):
        chosen[np.uint64(count)] = s  # kept where it is counted: no branch, which would often be guessed wrong
        count += (not ground[s]) & (found[s] < np.inf)
    for k in range(count):
        s, begins = int(chosen[k]), False
        for side in (-2, -1, 1, 2):
            t, across = _aside(s, side, sectors), abs(side) * middle * 2 * np.pi / sectors
            begins |= ground[t] & (abs(found[s] - found[t]) <= 0.1 + 0.5 * slope * across)
        ground[s] = begins


@compiled_within
def _aside(s: int, side: int, sectors: int) -> int:
    t = s + side
    t = t + sectors if t < 0 else t
    return t - sectors if t >= sectors else t


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
    for s in range(sectors):  # written out: only so it runs with vector instructions
        first, second, third = shares[s + 2] + shares[s + 4], shares[s + 1] + shares[s + 5], shares[s] + shares[s + 6]
        weights[s] = 0.5 + first + second / 2 + third / 3
    for s in range(sectors):
        first, second, third = (
            heights[s + 2] + heights[s + 4],
            heights[s + 1] + heights[s + 5],
            heights[s] + heights[s + 6],
        )
        total = before[s] * 0.5 + first + second / 2 + third / 3
        found[s] = found[s] if ground[s] else total / weights[s]
    for s in range(sectors):
        before[s] = found[s] if weights[s] > 0.5 else before[s]


@compiled_within
def _towers(found: NDArray[np.float64], ground: NDArray[np.bool_], s: int, rise: float, kerb: float) -> bool:
    """Whether a cell is higher than ground and a kerb can be over two or more cells beside it; one may be noise."""
    lower = 0
    for side in range(1, _BESIDE + 1):
        for t in (_aside(s, -side, len(found)), _aside(s, side, len(found))):
            lower += ground[t] and found[s] - found[t] > kerb + side * rise
    return lower > 1


def refine(seeds: Seeds, accepted: NDArray[np.bool_], height: NDArray[np.float64]) -> None:
    """Replace the lowest by the mean height of the accepted cells' flat points, which noise does not pull down.

    Args:
        seeds: With the flat points.
        accepted: bool (bins, sectors).
        height: float64 (bins, sectors), the lowest of these in each accepted cell, metres; is changed, to 1e-6 m.
    """
    lowest = _scratch.take("lowest", height.size + 1, np.float32)
    sums = _scratch.take("sums", 2 * height.size + 2, np.int64)
    _mean(seeds.spots, seeds.heights, accepted.reshape(-1), lowest, sums, height.reshape(-1))


@compiled
def _mean(
    spots: NDArray[np.int32],
    heights: NDArray[np.float32],
    accepted: NDArray[np.bool_],
    lowest: NDArray[np.float32],
    sums: NDArray[np.int64],
    height: NDArray[np.float64],
) -> None:
    """The mean of those that are less than _RELIEF over their cell's lowest.

    Args:
        spots: int32 (K,), see `Seeds`.
        heights: float32 (K,), metres.
        accepted: bool (bins * sectors,).
        lowest: float32 (bins * sectors + 1,), working memory: of accepted cells.
        sums: int64 (2 * bins * sectors + 2,), also: how many, times _ONE, and how much higher these are, times _PARTS:
            one addition for both, which others wait for less long than for two in floating point.
        height: float64 (bins * sectors,), is changed.
    """
    sums[:] = 0
    lowest[0] = -np.inf
    for k in range(len(height)):
        lowest[k + 1] = height[k] if accepted[k] else -np.inf
    for j in range(len(spots)):
        spot = np.uint32(spots[j])
        over = heights[j] - lowest[spot // _LANES]
        sums[spot] += np.int64(np.int32(over * _PARTS)) + _ONE if over < _RELIEF else np.int64(0)  # no branch
    for k in range(len(height)):
        total = sums[2 * k + 2] + sums[2 * k + 3]
        count = (total + _ONE // 2) // _ONE
        height[k] += (total - count * _ONE) / (max(count, 1) * _PARTS)
