"""Depth clustering with its published parameters (Bogoslavskyi & Stachniss 2016, 2017), written anew as a peer.

Range image of 870 columns, holes of up to 5 cells repaired where the step is under 1 m, angles of columns smoothed over
5 cells (Savitzky-Golay), ground from the lowest cell upwards by breadth-first search (start 30 degrees, 9 from cell to
cell), components by beta over 10 degrees, those of fewer than 20 cells dropped.
"""

from __future__ import annotations

import numba
import numpy as np
from scipy.signal import savgol_filter

from dseg_core.records import Sweep

_COLUMNS, _START, _STEP, _BETA, _FEWEST = 870, np.deg2rad(30), np.deg2rad(9), np.deg2rad(10), 20


def depth_clustering(sweep: Sweep, field: tuple[float, float], beams: int) -> np.ndarray:
    """Ids of points: 0 none, 1 ground, 2.. objects. `field`: lowest and highest beam, degrees."""
    xyz = sweep.xyz.astype(np.float64)
    reach = np.linalg.norm(xyz, axis=1)
    if sweep.ring is not None:
        row = beams - 1 - sweep.ring.astype(int)
    else:
        elevation = np.rad2deg(np.arcsin(xyz[:, 2] / np.maximum(reach, 1e-6)))
        row = np.clip(np.round((field[1] - elevation) / (field[1] - field[0]) * (beams - 1)), 0, beams - 1).astype(int)
    column = ((np.pi - np.arctan2(xyz[:, 1], xyz[:, 0])) / (2 * np.pi) * _COLUMNS).astype(int) % _COLUMNS
    depth, height = np.zeros((beams, _COLUMNS)), np.zeros((beams, _COLUMNS))
    order = np.argsort(-reach)  # the nearest point of a cell counts
    depth[row[order], column[order]], height[row[order], column[order]] = reach[order], xyz[order, 2]
    planar = np.sqrt(np.maximum(depth**2 - height**2, 0))
    _repair(depth, planar, height)
    angle = np.zeros_like(depth)
    angle[:-1] = np.arctan2(np.abs(height[:-1] - height[1:]), np.abs(planar[:-1] - planar[1:]))
    angle[-1] = angle[-2]
    angle = savgol_filter(angle, 5, 2, axis=0)
    ground = np.zeros(depth.shape, bool)
    _ground(depth, angle, ground)
    slope = np.deg2rad(field[1] - field[0]) / (beams - 1)
    labels = _components(np.where(ground, 0.0, depth), slope, 2 * np.pi / _COLUMNS)
    counts = np.bincount(labels.ravel())
    counts[0] = 0
    kept = np.where(counts >= _FEWEST, np.cumsum(counts >= _FEWEST) + 1, 0)
    ids = np.where(ground, 1, kept[labels])[row, column]
    return np.where(np.abs(reach - depth[row, column]) < 0.5, ids, 0)


@numba.njit(cache=True)
def _repair(depth: np.ndarray, planar: np.ndarray, height: np.ndarray) -> None:
    rows, columns = depth.shape
    for c in range(columns):
        last = -1
        for r in range(rows):
            if depth[r, c] <= 0:
                continue
            if last >= 0 and 1 < r - last <= 5 and abs(depth[r, c] - depth[last, c]) < 1:
                for k in range(last + 1, r):
                    t = (k - last) / (r - last)
                    for a in (depth, planar, height):
                        a[k, c] = (1 - t) * a[last, c] + t * a[r, c]
            last = r


@numba.njit(cache=True)
def _ground(depth: np.ndarray, angle: np.ndarray, ground: np.ndarray) -> None:
    rows, columns = depth.shape
    stack = np.empty((rows * columns * 4 + 1, 2), np.int64)
    for c in range(columns):
        r = rows - 1
        while r > 0 and depth[r, c] <= 0:
            r -= 1
        if depth[r, c] <= 0 or angle[r, c] > _START or ground[r, c]:
            continue
        stack[0, 0], stack[0, 1], top = r, c, 1
        ground[r, c] = True
        while top:
            top -= 1
            i, j = stack[top]
            for k in range(4):
                a, b = i + (0, 0, 1, -1)[k], (j + (1, -1, 0, 0)[k]) % columns
                if a < 0 or a >= rows or ground[a, b] or depth[a, b] <= 0:
                    continue
                if abs(angle[a, b] - angle[i, j]) < _STEP:
                    ground[a, b] = True
                    stack[top, 0], stack[top, 1] = a, b
                    top += 1


@numba.njit(cache=True)
def _components(depth: np.ndarray, up: float, aside: float) -> np.ndarray:
    rows, columns = depth.shape
    labels = np.zeros((rows, columns), np.int64)
    stack = np.empty((rows * columns + 1, 2), np.int64)
    used = 0
    for r in range(rows):
        for c in range(columns):
            if labels[r, c] or depth[r, c] <= 0:
                continue
            used += 1
            labels[r, c] = used
            stack[0, 0], stack[0, 1], top = r, c, 1
            while top:
                top -= 1
                i, j = stack[top]
                for k in range(4):
                    a, b = i + (0, 0, 1, -1)[k], (j + (1, -1, 0, 0)[k]) % columns
                    if a < 0 or a >= rows or labels[a, b] or depth[a, b] <= 0:
                        continue
                    alpha = aside if k < 2 else up
                    far, near = max(depth[i, j], depth[a, b]), min(depth[i, j], depth[a, b])
                    if np.arctan2(near * np.sin(alpha), far - near * np.cos(alpha)) > _BETA:
                        labels[a, b] = used
                        stack[top, 0], stack[top, 1] = a, b
                        top += 1
    return labels
