"""Objects of points without beams: those that are near to each other, and with range ever farther."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.compiling import compiled, compiled_within
from dseg_core.lidar.union import root, unite

MOST_RISE = 0.04
"""Largest share of the range that distances may grow by: with more, cells of two away would not be enough."""

_RATIO = 1.1  # of the distances at a shell's two ends
_SHRUNK = 1 - 1e-5  # of cells, since single precision rounds
_BITS = 21  # of each of a cell's three numbers
_FEW = 512  # points, of which all pairs take less time than grids


def components_by_distance(xyz: NDArray[np.float32], distance: float, rise: float = 0.0) -> NDArray[np.int64]:
    """Connected components of points that are at most so far apart.

    Two points are joined when they lie within `distance` + `rise` * r, r the range of the farther one: beams spread.
    Exactly these pairs: neither the order of the points nor where a grid lies matters, so components are the same
    after any turn about the sensor, and with `rise` 0 after any rigid motion, but for pairs at the very limit.

    The points are put into cells whose diagonal is that distance, so that those that share a cell are joined, and only
    cells up to two away need to be looked at; of these, only those that are not joined yet. Since the distance grows,
    there is a grid for each shell of ranges, which knows the points just inside it as well.

    Args:
        xyz: float32 (N, 3), metres, sensor's frame.
        distance: Metres.
        rise: Metres per metre of range, 0 to MOST_RISE.

    Returns:
        int64 (N,), labels from 0 in the order of their first points.
    """
    n = len(xyz)
    if not n:
        return np.zeros(0, dtype=np.int64)
    if n <= _FEW:
        return _components_of_few(np.ascontiguousarray(xyz), distance, rise)
    axes, parent = np.ascontiguousarray(xyz.T), np.arange(n, dtype=np.int32)
    x, y, z = axes
    reach = np.sqrt(x * x + y * y + z * z)
    shells = _shells(float(reach.max()), distance, rise)
    order, reached = np.argsort(reach), np.empty(0, np.float32)
    reached = reach[order]
    for inner, outer, nearest, farthest in shells:
        first, last = np.searchsorted(reached, [inner, outer])
        if last - first > 1:
            chosen = order[first:last]
            side = nearest / np.sqrt(3) * _SHRUNK
            keys = _keys(axes, chosen, side)
            by_cell = np.argsort(keys)
            _join(axes, reach, chosen[by_cell], keys[by_cell], side, farthest, distance, rise, parent)
    return _numbered(parent)


def _shells(farthest: float, distance: float, rise: float) -> list[tuple[float, float, float, float]]:
    """Ranges from and to, overlapping, and the smallest and largest distance of joined points there, metres."""
    if rise == 0:
        return [(0.0, np.inf, distance, distance)]
    found, inner, here = [], 0.0, distance
    while inner <= farthest:
        after = here * _RATIO
        outer = (after - distance) / rise
        # A pair across a shell's inner end is found in it: the nearer point is at most the distance at that end inside.
        found.append((max(inner - here, 0.0), outer, here * (1 - rise) if inner else here, after))
        inner, here = outer, after
    return found


@compiled
def _keys(axes: NDArray[np.float32], chosen: NDArray[np.int64], side: float) -> NDArray[np.int64]:
    """Cell of each chosen point as one number, with room for neighbours two away."""
    low = np.array([np.inf, np.inf, np.inf])
    for i in chosen:
        for k in range(3):
            low[k] = min(low[k], axes[k, i])
    found = np.empty(len(chosen), np.int64)
    for j in range(len(chosen)):
        key = np.int64(0)
        for k in range(3):
            key = (key << _BITS) + 2 + np.int64((axes[k, chosen[j]] - low[k]) / side)
        found[j] = key
    return found


@compiled
def _join(
    axes: NDArray[np.float32],
    reach: NDArray[np.float32],
    points: NDArray[np.int64],
    keys: NDArray[np.int64],
    side: float,
    farthest: float,
    distance: float,
    rise: float,
    parent: NDArray[np.int32],
) -> None:
    """Join a shell's points, sorted by cell."""
    starts, cell_keys, cells = np.empty(len(keys) + 1, np.int64), np.empty(len(keys), np.int64), 0
    for j in range(len(keys)):
        if j == 0 or keys[j] != keys[j - 1]:
            starts[cells], cell_keys[cells] = j, keys[j]
            cells += 1
    starts[cells] = len(keys)
    joined = np.arange(cells).astype(np.int32)  # cells, which are few, not points
    box = np.empty((cells, 6), np.float32)
    for c in range(cells):
        for k in range(3):
            low = high = axes[k, points[starts[c]]]
            for j in range(starts[c] + 1, starts[c + 1]):
                value = axes[k, points[j]]
                low, high = min(low, value), max(high, value)
            box[c, k], box[c, k + 3] = low, high
    for spread in range(1, 3):  # near cells first: most of what is farther is joined by then
        for dx in range(spread + 1):
            for dy in range(-spread if dx else 0, spread + 1):
                column = (np.int64(dx) << (2 * _BITS)) + (np.int64(dy) << _BITS)
                inner = max(dx, abs(dy)) < spread  # of this column, only what lies `spread` above or below is new
                first = 0
                for c in range(cells):
                    base = cell_keys[c] + column
                    while first < cells and cell_keys[first] < base - spread:
                        first += 1
                    other = first
                    while other < cells and cell_keys[other] <= base + spread:
                        new = not inner or abs(cell_keys[other] - base) == spread
                        if new and cell_keys[other] > cell_keys[c]:
                            a, b = root(joined, np.int64(c)), root(joined, np.int64(other))
                            if a != b and _touch(axes, reach, points, starts, box, c, other, farthest, distance, rise):
                                joined[max(a, b)] = min(a, b)
                        other += 1
    for c in range(cells):
        for j in range(starts[c], starts[c + 1]):
            unite(parent, points[starts[root(joined, np.int64(c))]], points[np.int64(j)])


@compiled
def _components_of_few(xyz: NDArray[np.float32], distance: float, rise: float) -> NDArray[np.int64]:
    """As `components_by_distance`, by looking at every pair."""
    n = len(xyz)
    axes, reach, near = np.empty((3, n), np.float32), np.empty(n, np.float32), np.empty(n, np.bool_)
    parent = np.empty(n, np.int32)
    for i in range(n):
        x, y, z = xyz[i, 0], xyz[i, 1], xyz[i, 2]
        axes[0, i], axes[1, i], axes[2, i], reach[i] = x, y, z, np.sqrt(x * x + y * y + z * z)
        parent[i] = i
    for i in range(n):
        for h in range(i):  # a loop of its own: with vector instructions
            near[h] = _is_near(axes, reach, i, h, distance, rise)
        for h in range(i):
            if near[h]:
                unite(parent, np.int64(h), np.int64(i))
    return _in_order(parent)


@compiled_within
def _touch(
    axes: NDArray[np.float32],
    reach: NDArray[np.float32],
    points: NDArray[np.int64],
    starts: NDArray[np.int64],
    box: NDArray[np.float32],
    c: int,
    d: int,
    farthest: float,
    distance: float,
    rise: float,
) -> bool:
    """Whether a point of one cell is near enough to one of another."""
    apart = 0.0
    for k in range(3):
        gap = max(box[c, k] - box[d, k + 3], box[d, k] - box[c, k + 3], np.float32(0))
        apart += gap * gap
    if apart > farthest * farthest:
        return False
    for j in range(starts[c], starts[c + 1]):
        i = points[j]
        away = 0.0
        for k in range(3):
            gap = max(axes[k, i] - box[d, k + 3], box[d, k] - axes[k, i], np.float32(0))
            away += gap * gap
        if away > farthest * farthest:
            continue
        for m in range(starts[d], starts[d + 1]):
            if _is_near(axes, reach, i, points[m], distance, rise):
                return True
    return False


@compiled_within
def _is_near(
    axes: NDArray[np.float32], reach: NDArray[np.float32], i: int, h: int, distance: float, rise: float
) -> bool:
    x, y, z = axes[0, i] - axes[0, h], axes[1, i] - axes[1, h], axes[2, i] - axes[2, h]
    limit = distance + rise * max(reach[i], reach[h])
    return bool(x * x + y * y + z * z <= limit * limit)


@compiled
def _numbered(parent: NDArray[np.int32]) -> NDArray[np.int64]:
    """As `_in_order`, for Python."""
    return _in_order(parent)


@compiled_within
def _in_order(parent: NDArray[np.int32]) -> NDArray[np.int64]:
    """Labels of components by their roots, which are their first points."""
    labels, count = np.empty(len(parent), np.int64), 0
    for i in range(len(parent)):
        first = root(parent, np.int64(i))
        if first == i:
            labels[i] = count
            count += 1
        else:
            labels[i] = labels[first]
    return labels
