"""Several LiDARs' sweeps as one: each is split into proposals in its own frame, where its beams are, then merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dseg_core.records import REGION_FIRST_OBJECT, REGION_NONE, Sweep
from dseg_core.transforms import Matrix

_MOST = 2**16 - REGION_FIRST_OBJECT  # objects that have an id


@dataclass(frozen=True, eq=False)
class SweepPart:
    """One LiDAR's sweep as measured, its proposals uint16 (N,), and T_first_part (4, 4).

    The transform goes from this sweep's frame at its stamp to the first one's at the first one's stamp.
    """

    sweep: Sweep
    proposals: NDArray[np.uint16]
    T_first_part: Matrix

    @property
    def xyz(self) -> NDArray[np.float32]:
        """The points in the first LiDAR's frame, float32 (N, 3)."""
        T = self.T_first_part.astype(np.float32)
        return np.asarray(self.sweep.xyz @ T[:3, :3].T + T[:3, 3], dtype=np.float32)


def with_common_ids(parts: Sequence[SweepPart], side: float) -> list[SweepPart]:
    """The same parts with ids that hold for all of them: objects of different LiDARs that touch are one.

    Args:
        parts: The trigger's first.
        side: Two objects touch that have points in one cube of this side, metres.

    Returns:
        Ids 0 none, 1 ground, 2.. objects, larger objects first. Of more than 65534 objects the smallest become none.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    firsts = np.cumsum([0, *(int(part.proposals.max(initial=0)) + 1 for part in parts)])
    numbers = [part.proposals.astype(np.int64) + first for part, first in zip(parts, firsts, strict=False)]
    ids = np.concatenate(numbers)
    objects = np.concatenate([part.proposals >= REGION_FIRST_OBJECT for part in parts])
    cubes = np.floor(np.concatenate([part.xyz for part in parts])[objects] / side).astype(np.int64)
    owners = np.unique(np.column_stack([_keys(cubes), ids[objects]]), axis=0)  # (cube, object), each once
    same = owners[1:, 0] == owners[:-1, 0]
    edges = owners[:-1][same, 1], owners[1:][same, 1]
    graph = coo_matrix((np.ones(len(edges[0]), np.uint8), edges), shape=(firsts[-1], firsts[-1]))
    groups = connected_components(graph, directed=False)[1]
    counts = np.bincount(groups[ids[objects]], minlength=groups.max(initial=0) + 1)
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    found = []
    for part, own in zip(parts, numbers, strict=True):
        number = rank[groups[own]]
        number = np.where(number < _MOST, number + REGION_FIRST_OBJECT, REGION_NONE)
        kept = np.where(part.proposals >= REGION_FIRST_OBJECT, number, part.proposals)
        found.append(replace(part, proposals=kept.astype(np.uint16)))
    return found


def merged_sweep(parts: Sequence[SweepPart]) -> tuple[Sweep, NDArray[np.uint16]]:
    """One sweep of all points in the first's frame and stamp, and their proposals uint16 (N,).

    It has no beams. Times stay relative to each LiDAR's own stamp, up to which the transform has moved the points.
    """
    sweeps = [part.sweep for part in parts]
    intensity = [sweep.intensity for sweep in sweeps if sweep.intensity is not None]
    times = [sweep.time_ns for sweep in sweeps if sweep.time_ns is not None]
    whole = Sweep(
        stamp_ns=sweeps[0].stamp_ns,
        frame_id=sweeps[0].frame_id,
        xyz=np.concatenate([sweeps[0].xyz, *(part.xyz for part in parts[1:])]),
        intensity=np.concatenate(intensity) if len(intensity) == len(parts) else None,
        time_ns=np.concatenate(times) if len(times) == len(parts) else None,
    )
    return whole, np.concatenate([part.proposals for part in parts])


def merged_regions(
    regions: Sequence[NDArray[np.uint16]], parts: Sequence[SweepPart], eye: NDArray[np.float64]
) -> NDArray[np.uint16]:
    """One image's regions of all LiDARs: where they differ, the object whose points are nearer to the camera.

    Args:
        regions: uint16 (H, W) of each part, with common ids. Ground gives way to objects, and none to both.
        parts: With common ids.
        eye: (3,), the camera's place in the first LiDAR's frame, metres.
    """
    ids = np.concatenate([part.proposals for part in parts])
    objects = ids >= REGION_FIRST_OBJECT  # what is none may be anywhere, even where its distance overflows
    away = np.linalg.norm(np.concatenate([part.xyz for part in parts])[objects] - eye, axis=1)
    nearest = np.full(max(int(ids.max(initial=0)), REGION_FIRST_OBJECT) + 1, np.inf, dtype=np.float32)
    np.minimum.at(nearest, ids[objects], away.astype(np.float32))
    nearest[:REGION_FIRST_OBJECT] = np.finfo(np.float32).max  # ground: behind every object
    nearest[REGION_NONE] = np.inf
    found = regions[0].copy()
    for other in regions[1:]:
        np.copyto(found, other, where=nearest[other] < nearest[found])
    return found


def _keys(cubes: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each of (N, 3) cubes, within 2 million cubes of the origin each way."""
    return np.asarray((cubes[:, 0] << 42) + (cubes[:, 1] << 21) + cubes[:, 2])
