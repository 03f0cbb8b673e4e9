"""Proposals to boxes: each object's smallest upright box, for people to look at."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.records import REGION_FIRST_OBJECT


@dataclass(frozen=True, eq=False)
class Boxes:
    """A box for each of K objects, in the sweep's frame, turned about z only.

    `ids`: uint16 (K,), the proposals, ascending. `centers`: float64 (K, 3), metres. `sizes`: float64 (K, 3), metres:
    length, width (the shorter side) and height; sides are 0 where all points lie in a plane. `yaws`: float64 (K,),
    radians from x to the length, counter-clockwise seen from above, in [-pi/2, pi/2).
    """

    ids: NDArray[np.uint16]
    centers: NDArray[np.float64]
    sizes: NDArray[np.float64]
    yaws: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.ids)

    def quaternions(self) -> NDArray[np.float64]:
        """Rotations from each box's axes (length, width, up) to the sweep's: x y z w, float64 (K, 4)."""
        zero = np.zeros(len(self))
        return np.stack([zero, zero, np.sin(self.yaws / 2), np.cos(self.yaws / 2)], axis=1)

    def corners(self) -> NDArray[np.float64]:
        """The eight corners of each, float64 (K, 8, 3): four around the bottom, then those above them."""
        around = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2
        unit = np.array([[x, y, z] for z in (-0.5, 0.5) for x, y in around])
        local = unit[None] * self.sizes[:, None]  # (K, 8, 3)
        c, s = np.cos(self.yaws)[:, None], np.sin(self.yaws)[:, None]
        x, y = c * local[..., 0] - s * local[..., 1], s * local[..., 0] + c * local[..., 1]
        return np.stack([x, y, local[..., 2]], axis=-1) + self.centers[:, None]


def boxes_from_proposals(xyz: NDArray[np.floating], proposals: NDArray[np.uint16]) -> Boxes:
    """The smallest upright box around the points of each object.

    Args:
        xyz: (N, 3), metres, finite, z up.
        proposals: (N,), an id per point; 0 (none) and 1 (ground) get no box.
    """
    order = np.argsort(proposals, kind="stable")
    order = order[np.searchsorted(proposals[order], REGION_FIRST_OBJECT) :]
    ids, starts = np.unique(proposals[order], return_index=True)
    found = (
        [_box(points) for points in np.split(np.asarray(xyz, dtype=np.float64)[order], starts[1:])] if len(ids) else []
    )
    return Boxes(
        ids.astype(np.uint16),
        np.array([center for center, _, _ in found], dtype=np.float64).reshape(-1, 3),
        np.array([size for _, size, _ in found], dtype=np.float64).reshape(-1, 3),
        np.array([yaw for _, _, yaw in found], dtype=np.float64),
    )


def _box(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Center (3,), size (3,) and yaw of the smallest upright box around points (n, 3)."""
    low, high = points[:, 2].min(), points[:, 2].max()
    middle = points[:, :2].mean(axis=0)
    xy = points[:, :2] - middle
    outline = xy[cv2.convexHull(xy.astype(np.float32), returnPoints=False)[:, 0]]  # (h, 2)
    # One side of the smallest rectangle lies along an edge of the hull (Freeman and Shapira 1975).
    edges = np.roll(outline, -1, axis=0) - outline
    angles = np.arctan2(edges[:, 1], edges[:, 0])
    axes = np.stack([np.cos(angles), np.sin(angles), -np.sin(angles), np.cos(angles)], axis=1).reshape(-1, 2, 2)
    along = axes @ outline.T  # (edges, 2, h)
    smallest, largest = along.min(axis=2), along.max(axis=2)
    best = int(np.prod(largest - smallest, axis=1).argmin())
    length, width = largest[best] - smallest[best]
    center = (smallest[best] + largest[best]) / 2 @ axes[best] + middle
    yaw = float(angles[best])
    if width > length:
        length, width, yaw = width, length, yaw + np.pi / 2
    yaw = (yaw + np.pi / 2) % np.pi - np.pi / 2
    return np.array([*center, (low + high) / 2]), np.array([length, width, high - low]), yaw
