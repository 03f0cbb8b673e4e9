"""Sums of what is measured in each beam."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled
from dseg_core.lidar.points import Points

_ZERO = np.float32(0.0)


def sums_of_labels(labels: NDArray[np.int32], points: Points) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Sum of tangents, float64 (B,), and number of measurements, int32 (B,), of each beam, from that of each point."""
    beams = int(labels.max()) + 1
    sums, counts = np.zeros(beams), np.zeros(beams, np.int32)
    _sum_up(labels, points.distance, points.tangent, sums, counts)
    return sums, counts


@compiled
def _sum_up(
    labels: NDArray[np.int32],
    distance: NDArray[np.float32],
    tangent: NDArray[np.float32],
    sums: NDArray[np.float64],
    counts: NDArray[np.int32],
) -> None:
    """Sum of tangents (0 without a measurement) and number of measurements of each beam."""
    current, count = labels[0], np.int32(0)  # of the run of points that are of one beam
    even = odd = 0.0  # two sums: no addition has to wait for the one before
    for i in range(len(labels)):
        if labels[i] != current:
            sums[current] += even + odd
            counts[current] += count
            current, even, odd, count = labels[i], 0.0, 0.0, np.int32(0)
        even, odd = odd + tangent[i], even
        count += np.int32(distance[i] > _ZERO)
    sums[current] += even + odd
    counts[current] += count


def runs_of_labels(
    labels: NDArray[np.int32] | NDArray[np.uint16],
) -> tuple[NDArray[np.int32], NDArray[np.int32]] | None:
    """The first point of each run of points of one beam and, behind the last, their number, int32 (K + 1,); its beam.

    None where beams take turns, as they do in clouds that come firing by firing.
    """
    some = labels[:2048]
    if 16 * np.count_nonzero(some[1:] != some[:-1]) > len(some):
        return None
    changes = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    if 64 * len(changes) > len(labels):
        return None
    starts = np.concatenate([[0], changes, [len(labels)]]).astype(np.int32)
    return starts, labels[starts[:-1]].astype(np.int32)


def sums_of_runs(
    starts: NDArray[np.int32], beam: NDArray[np.int32], beams: int, points: Points
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """The same sums from where runs of points start, int32 (K + 1,), the beam of each, int32 (K,), and their number."""
    sums, counts = np.zeros(beams), np.zeros(beams, np.int32)
    _sum_up_runs(starts, beam, points.distance, points.tangent, sums, counts)
    return sums, counts


@compiled
def _sum_up_runs(
    starts: NDArray[np.int32],
    beam: NDArray[np.int32],
    distance: NDArray[np.float32],
    tangent: NDArray[np.float32],
    sums: NDArray[np.float64],
    counts: NDArray[np.int32],
) -> None:
    """128 sums, of every 128th point each: they are added to many at a time, as vector instructions do it."""
    apart = np.empty(128)
    for run in range(len(beam)):
        count, first, end = np.int32(0), starts[run], starts[run + 1]
        reach = distance[first:end]
        for i in range(len(reach)):
            count = np.int32(count + (reach[i] > _ZERO))
        apart[:] = 0.0
        while first < end:
            some = tangent[first : min(first + len(apart), end)]
            for i in range(len(some)):
                apart[i] += some[i]
            first += len(apart)
        total = 0.0  # `apart.sum()` takes numba a tenth of a second more to compile
        for i in range(len(apart)):
            total += apart[i]
        sums[beam[run]] += total
        counts[beam[run]] += count
