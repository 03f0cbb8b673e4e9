"""Scores of proposals against annotated boxes, the truth that real data sets have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dseg_core.evaluation.overlaps import overlaps
from dseg_core.evaluation.proposal_scores import ObjectScore


@dataclass(frozen=True)
class Box:
    """An annotated object: centre and size (length, width, height) in metres, yaw in radians about z, LiDAR frame."""

    name: str
    center: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float


def score_boxes(
    xyz: NDArray[np.float32], ids: NDArray[np.uint16], boxes: Sequence[Box], smallest: int = 10, foot: float = 0.15
) -> tuple[ObjectScore, ...]:
    """Score proposals against annotated boxes: an object is the points in its box.

    Args:
        xyz: float32 (N, 3), metres, LiDAR frame, z up.
        ids: uint16 (N,), proposals.
        boxes: Those of the sweep. A point in several is the smallest one's.
        smallest: Boxes with fewer points are not scored.
        foot: Height over a box's bottom up to which points count neither way, metres: boxes reach into the ground.

    Returns:
        A score of each box with enough points; `instance` is its place in `boxes`.
    """
    instance, ignored = np.zeros(len(xyz), np.int64), np.zeros(len(xyz), bool)
    for number, box in sorted(enumerate(boxes, 1), key=lambda item: -float(np.prod(item[1].size))):
        x, y, z = (xyz - np.array(box.center, np.float32)).T
        c, s = np.cos(box.yaw), np.sin(box.yaw)
        length, width, height = box.size
        inside = (np.abs(c * x + s * y) <= length / 2) & (np.abs(c * y - s * x) <= width / 2)
        inside &= np.abs(z) <= height / 2
        instance[inside], ignored[inside] = number, z[inside] < foot - height / 2
    found = overlaps(ids[~ignored], instance[~ignored])
    scores = []
    for k, (number, fate) in enumerate(zip(found.objects.tolist(), found.fates(), strict=True)):
        box, size, best = boxes[number - 1], int(found.size[k]), int(found.proposal[k])
        if size >= smallest:
            far = float(np.hypot(box.center[0], box.center[1]))
            iou, over = float(found.iou[k]), float(found.over[k])
            scores.append(ObjectScore(number - 1, box.name, far, size, best, iou, fate, over))
    return tuple(scores)
