"""Ground and objects of clouds without beams (solid-state and non-repetitive scanners): a height grid and voxels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# SciPy is imported where it is used: a process of `record` needs a quarter more time to start with it.


def ground_by_height(xyz: NDArray[np.float32], cell: float, tolerance: float, slope: float) -> NDArray[np.bool_]:
    """Points near the lowest surface: the lowest point of each cell, smoothed, within `tolerance`; bool (N,).

    Args:
        xyz: float32 (N, 3), metres, z up.
        cell: Side of the grid's cells, metres.
        tolerance: Height over the surface that still is ground, metres.
        slope: Steepest ground, as a tangent; a cell that stands higher over its neighbours is no ground.
    """
    from scipy import ndimage

    if not len(xyz):
        return np.zeros(0, dtype=bool)
    place = np.floor((xyz[:, :2] - xyz[:, :2].min(axis=0)) / cell).astype(np.int64)
    shape = tuple(np.minimum(place.max(axis=0) + 1, 2000))
    a, b = (np.minimum(place[:, i], shape[i] - 1) for i in range(2))
    lowest = np.full(shape, np.inf)
    np.minimum.at(lowest, (a, b), xyz[:, 2].astype(np.float64))
    around = ndimage.minimum_filter(lowest, size=5, mode="nearest")
    surface = np.minimum(lowest, around + slope * 2 * cell)
    return np.asarray(xyz[:, 2] < surface[a, b] + tolerance)


def components_by_distance(xyz: NDArray[np.float32], distance: float) -> NDArray[np.int64]:
    """Label points; occupied voxels that touch, by side, edge or corner, are one component; int64 (N,)."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not len(xyz):
        return np.zeros(0, dtype=np.int64)
    voxel = np.floor((xyz - xyz.min(axis=0)) / distance).astype(np.int64)
    extent = voxel.max(axis=0) + 3  # a margin, so that neighbours do not wrap round
    key = (voxel[:, 0] * extent[1] + voxel[:, 1]) * extent[2] + voxel[:, 2]
    occupied, voxel_of = np.unique(key, return_inverse=True)
    voxel_of = voxel_of.reshape(-1)
    edges_from, edges_to = [], []
    for dx, dy, dz in np.ndindex(3, 3, 3):
        step = ((dx - 1) * extent[1] + dy - 1) * extent[2] + dz - 1
        if step <= 0:
            continue  # each pair once
        at = np.searchsorted(occupied, occupied + step)
        at[at == len(occupied)] = 0
        found = occupied[at] == occupied + step
        edges_from.append(np.flatnonzero(found))
        edges_to.append(at[found])
    i, j = np.concatenate(edges_from), np.concatenate(edges_to)
    graph = coo_matrix((np.ones(len(i), dtype=bool), (i, j)), shape=(len(occupied), len(occupied)))
    labels = connected_components(graph, directed=False)[1]
    return np.asarray(labels[voxel_of], dtype=np.int64)
