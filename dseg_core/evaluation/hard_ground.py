"""The parts of a sweep's ground that are hard to tell: kerbs, slopes, beneath vehicles."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.evaluation.proposal_truth import GROUND, Truth

KERB, SLOPE, BENEATH = "at kerbs", "on slopes", "beneath vehicles"

_KERB_CELL, _KERB_STEP = 0.5, 0.05  # metres
_SLOPE_CELL, _STEEP = 4.0, 0.06  # metres; rise per metre
_FEW = 8  # points that a square or a vehicle must have


def ground_parts(xyz: NDArray[np.float32], truth: Truth) -> dict[str, NDArray[np.bool_]]:
    """Points of ground by class, and by what makes it hard.

    Args:
        xyz: float32 (N, 3), metres, z up.
        truth: Of the points, (N,).

    Returns:
        bool (N,) by name; parts without points are left out.
    """
    ground = truth.roles_of_elements() == GROUND
    present = np.unique(truth.semantic[ground])
    parts = {truth.classes.entries[k].name: ground & (truth.semantic == k) for k in present}
    parts[KERB] = _at_kerbs(xyz, ground, truth.semantic)
    parts[SLOPE] = _on_slopes(xyz, ground)
    parts[BENEATH] = ground & _beneath(xyz, np.where(truth.of_classes(truth.roles.vehicles), truth.instance, 0))
    return {name: where for name, where in parts.items() if where.any()}


def _cells(xy: NDArray[np.float32], side: float) -> NDArray[np.int64]:
    """A number for each point's square, dense from 0: int64 (N,)."""
    place = np.floor(xy / side).astype(np.int64)
    return np.asarray(np.unique((place[:, 0] << 32) + place[:, 1], return_inverse=True)[1].reshape(-1))


def _at_kerbs(xyz: NDArray[np.float32], ground: NDArray[np.bool_], semantic: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Ground in squares of half a metre in which two classes of ground meet with a step."""
    where = np.flatnonzero(ground)
    found = np.zeros(len(xyz), bool)
    for shift in (0.0, _KERB_CELL / 2):  # a kerb may lie on the squares' edges
        cell = _cells(xyz[where, :2] + np.float32(shift), _KERB_CELL)
        count = int(cell.max(initial=-1)) + 1
        low, high = np.full(count, np.inf), np.full(count, -np.inf)
        first, last = np.full(count, 255), np.zeros(count, np.int64)
        np.minimum.at(low, cell, xyz[where, 2])
        np.maximum.at(high, cell, xyz[where, 2])
        np.minimum.at(first, cell, semantic[where])
        np.maximum.at(last, cell, semantic[where])
        found[where] |= ((high - low > _KERB_STEP) & (first != last))[cell]
    return found


def _on_slopes(xyz: NDArray[np.float32], ground: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Ground in squares of 4 m whose plane rises more than 6 %."""
    where = np.flatnonzero(ground)
    cell = _cells(xyz[where, :2], _SLOPE_CELL)
    count = np.bincount(cell)
    points = xyz[where].astype(np.float64)
    mean = np.stack([np.bincount(cell, points[:, k]) for k in range(3)], axis=1) / np.maximum(count, 1)[:, None]
    x, y, z = (points - mean[cell]).T
    xx, xy, yy, xz, yz = (np.bincount(cell, a) for a in (x * x, x * y, y * y, x * z, y * z))
    determinant = xx * yy - xy * xy
    safe = np.where(determinant > 1e-3 * (xx + yy) ** 2, determinant, np.inf)  # else the points lie on one line
    steep = np.hypot((yy * xz - xy * yz) / safe, (xx * yz - xy * xz) / safe) > _STEEP
    found = np.zeros(len(xyz), bool)
    found[where] = (steep & (count >= _FEW))[cell]
    return found


def _beneath(xyz: NDArray[np.float32], instance: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Points inside the rectangle, seen from above, of an instance's points, and not its own."""
    found = np.zeros(len(xyz), bool)
    for number in np.unique(instance[instance > 0]):
        mine = instance == number
        if np.count_nonzero(mine) < _FEW:
            continue
        middle, size, turn = cv2.minAreaRect(np.ascontiguousarray(xyz[mine, :2]))
        c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
        x, y = (xyz[:, :2] - np.array(middle, np.float32)).T
        found |= ~mine & (np.abs(c * x + s * y) < size[0] / 2) & (np.abs(c * y - s * x) < size[1] / 2)
    return found
