"""Objects of a sweep: connected components of the range image, or of voxels where there is no range image.

Range image: Bogoslavskyi and Stachniss 2016, "Fast range image-based segmentation of sparse 3D laser scans for online
operation", section III: two neighbouring beams hit one object when the angle beta between the farther beam and the line
through both points is large. Distances guard it [ours]: near points are joined whatever the angle, far ones never.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from dseg_core.lidar.range_image import RangeImage
from dseg_core.stage_options import ProposalOptions

MOST_OBJECTS = 65533
"""Ids are uint16, and 0 and 1 are taken."""


def cluster_range_image(
    xyz: NDArray[np.float32], image: RangeImage, is_object: NDArray[np.bool_], options: ProposalOptions
) -> NDArray[np.uint16]:
    """Connected components of neighbouring beams.

    Args:
        xyz: float32 (N, 3), metres, LiDAR frame.
        image: Range image of the same points.
        is_object: bool (N,), points to be clustered.
        options: Angle, distances and the smallest size.

    Returns:
        uint16 (N,): 0 where in no proposal, else 2... Numbered by their lowest row, then column.
    """
    parent = _join(
        xyz, image.index, image.distance, is_object, image.elevations,
        np.tan(np.deg2rad(options.angle)), options.near, options.far, options.holes,
    )  # fmt: skip
    size = _sizes(parent)
    ids = _number(parent, size, options.min_points)
    return _spread(xyz, image.index, image.cell, is_object, ids)


def cluster_points(
    xyz: NDArray[np.float32], is_object: NDArray[np.bool_], distance: float, min_points: int
) -> NDArray[np.uint16]:
    """Connected components of occupied voxels with edges of `distance` metres (26 neighbours).

    Returns:
        uint16 (N,): 0 where in no proposal, else 2... Numbered by their first point.
    """
    chosen = np.flatnonzero(is_object)
    labels = np.zeros(len(xyz), dtype=np.uint16)
    if not len(chosen):
        return labels
    keys = np.floor(xyz[chosen].astype(np.float64) / distance).astype(np.int64)
    keys -= keys.min(axis=0) - 1
    extent = keys.max(axis=0) + 2
    code = (keys[:, 0] * extent[1] + keys[:, 1]) * extent[2] + keys[:, 2]
    voxels, voxel_of = np.unique(code, return_inverse=True)
    parent = _join_voxels(voxels, int(extent[1]), int(extent[2]))
    root = parent[voxel_of.ravel()]
    roots, first, inverse, counts = np.unique(root, return_index=True, return_inverse=True, return_counts=True)
    kept = _largest(counts, min_points)
    new = np.zeros(len(roots), dtype=np.uint16)
    new[kept[np.argsort(first[kept])]] = np.arange(2, 2 + len(kept))
    labels[chosen] = new[inverse.ravel()]
    return labels


def _largest(counts: NDArray[np.int64], min_points: int) -> NDArray[np.int64]:
    """The clusters that are kept: large enough, and no more than ids can tell apart."""
    kept = np.flatnonzero(counts >= min_points)
    if len(kept) > MOST_OBJECTS:
        kept = np.sort(kept[np.argsort(-counts[kept], kind="stable")[:MOST_OBJECTS]])
    return kept


@njit(cache=True, nogil=True, inline="always")
def _find(parent, i):  # type: ignore[no-untyped-def]
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True, inline="always")
def _union(parent, i, j):  # type: ignore[no-untyped-def]
    """The smaller index becomes the root, so that the result does not depend on the order of joining."""
    a, b = _find(parent, i), _find(parent, j)
    if a < b:
        parent[b] = a
    elif b < a:
        parent[a] = b


@njit(cache=True, nogil=True)
def _join(xyz, index, distance, is_object, elevations, tangent, near, far, holes):  # type: ignore[no-untyped-def]
    """Union-find forest over the cells, flat (R * C,), -1 where there is no object's point."""
    rows, columns = index.shape
    parent = np.full(rows * columns, -1, np.int32)
    for r in range(rows):
        for c in range(columns):
            i = index[r, c]
            if i >= 0 and is_object[i]:
                parent[r * columns + c] = r * columns + c
    turn = 2 * np.pi / columns
    for r in range(rows):
        for c in range(columns):
            here = r * columns + c
            if parent[here] < 0:
                continue
            i = index[r, c]
            for step in range(1, holes + 2):  # to the left, past cells without a measurement
                k = (c + step) % columns
                j = index[r, k]
                if j < 0:
                    continue
                if is_object[j] and _one_object(xyz, distance, i, j, step * turn, tangent, near, far):
                    _union(parent, here, r * columns + k)
                    break
                if step > 1 and distance[j] < distance[i]:
                    break
            for step in range(1, holes + 2):  # upwards
                if r + step >= rows:
                    break
                j = index[r + step, c]
                if j < 0:
                    continue
                angle = elevations[r + step] - elevations[r]
                if is_object[j] and _one_object(xyz, distance, i, j, angle, tangent, near, far):
                    _union(parent, here, (r + step) * columns + c)
                    break
                if step > 1 and distance[j] < distance[i]:
                    break
    for here in range(rows * columns):
        if parent[here] >= 0:
            parent[here] = _find(parent, here)
    return parent


@njit(cache=True, nogil=True, inline="always")
def _one_object(xyz, distance, i, j, angle, tangent, near, far):  # type: ignore[no-untyped-def]
    """Whether two points, `angle` apart as seen from the LiDAR, are on one object."""
    dx, dy, dz = xyz[i, 0] - xyz[j, 0], xyz[i, 1] - xyz[j, 1], xyz[i, 2] - xyz[j, 2]
    gap = dx * dx + dy * dy + dz * dz
    if gap < near * near:
        return True
    if gap > far * far:
        return False
    d1, d2 = max(distance[i], distance[j]), min(distance[i], distance[j])
    return d2 * np.sin(angle) > tangent * (d1 - d2 * np.cos(angle))


@njit(cache=True, nogil=True)
def _sizes(parent):  # type: ignore[no-untyped-def]
    size = np.zeros(len(parent), np.int32)
    for here in range(len(parent)):
        if parent[here] >= 0:
            size[parent[here]] += 1
    return size


def _number(parent: NDArray[np.int32], size: NDArray[np.int32], min_points: int) -> NDArray[np.uint16]:
    """Id of each cell (R * C,)."""
    roots = np.flatnonzero(size)
    kept = roots[_largest(size[roots].astype(np.int64), min_points)]
    new = np.zeros(len(parent) + 1, dtype=np.uint16)
    new[kept] = np.arange(2, 2 + len(kept))
    return new[parent]  # -1 reads the last one, which stays 0


@njit(cache=True, nogil=True)
def _spread(xyz, index, cell, is_object, ids):  # type: ignore[no-untyped-def]
    """Ids of points. One that shares its cell with a nearer point takes the id of the nearest point around, if near."""
    rows, columns = index.shape
    labels = np.zeros(len(xyz), np.uint16)
    for i in range(len(xyz)):
        if not is_object[i] or cell[i] < 0:
            continue
        r, c = cell[i] // columns, cell[i] % columns
        if index[r, c] == i:
            labels[i] = ids[cell[i]]
            continue
        best = 0.25  # half a metre, squared
        for dr in range(-1, 2):
            if r + dr < 0 or r + dr >= rows:
                continue
            for dc in range(-1, 2):
                k = (c + dc) % columns
                j = index[r + dr, k]
                if j < 0 or not is_object[j]:
                    continue
                x, y, z = xyz[i, 0] - xyz[j, 0], xyz[i, 1] - xyz[j, 1], xyz[i, 2] - xyz[j, 2]
                gap = x * x + y * y + z * z
                if gap < best:
                    best = gap
                    labels[i] = ids[(r + dr) * columns + k]
    return labels


@njit(cache=True, nogil=True)
def _join_voxels(voxels, ny, nz):  # type: ignore[no-untyped-def]
    """Roots of the components of sorted voxel codes; 13 of the 26 neighbours come later in the order."""
    parent = np.arange(len(voxels))
    for dx in range(2):
        for dy in range(-1, 2):
            for dz in range(-1, 2):
                offset = (dx * ny + dy) * nz + dz
                if offset <= 0:
                    continue
                j = 0
                for i in range(len(voxels)):
                    wanted = voxels[i] + offset
                    while j < len(voxels) and voxels[j] < wanted:
                        j += 1
                    if j == len(voxels):
                        break
                    if voxels[j] == wanted:
                        _union(parent, i, j)
    for i in range(len(voxels)):
        parent[i] = _find(parent, i)
    return parent
