"""How much of what regions paint is right, and why the rest is wrong, against a simulated pair's truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from region_scenes import Pair

from dseg_core.evaluation.proposal_scores import ProposalScores, score_pixels
from dseg_core.records import REGION_NONE, Sweep

Painter = Callable[[Sweep, np.ndarray], np.ndarray]
"""Makes regions, uint16 (H, W), of a pair's sweep and its proposals."""


def meanings(proposals: np.ndarray, of_points: np.ndarray) -> np.ndarray:
    """What most points of each proposal are: uint16 (65536,), ids as `Pair.of_points`."""
    found = np.zeros(65536, np.uint16)
    order = np.lexsort((of_points, proposals))
    pairs, counts = np.unique(np.stack([proposals[order], of_points[order]]), axis=1, return_counts=True)
    rank = np.argsort(counts, kind="stable")  # the largest last, so that it stays
    found[pairs[0, rank]] = pairs[1, rank]
    found[0] = 0
    return found


def hidden_points(pair: Pair, xyz: np.ndarray) -> np.ndarray:
    """Points that something nearer covers in the image, bool (N,). `xyz`: float64 (N, 3), optical, at its time."""
    uv, visible = pair.camera.project(xyz)
    farthest = cv2.dilate(np.where(np.isfinite(pair.reach), pair.reach, 1e6).astype(np.float32), np.ones((3, 3)))
    column, row = np.rint(np.where(visible[:, None], uv, 0)).astype(int).T
    return np.asarray(visible & (np.linalg.norm(xyz, axis=1) > 1.03 * farthest[row, column] + 0.2))


def count_pixels(pair: Pair, proposals: np.ndarray, paint: Painter, hidden: np.ndarray) -> Counter[str]:
    """Pixels: painted, right, and wrong by cause; those painted on poles, signs and people."""
    regions = paint(pair.sweep, proposals)
    meant = meanings(proposals, pair.of_points)
    said = meant[regions]
    # Not taken out of the sweep: beams that do not come back say that something swallowed them.
    unhidden = meant[paint(pair.sweep, np.where(hidden, REGION_NONE, proposals).astype(np.uint16))]
    painted = said > 0
    wrong = painted & (said != pair.seen)
    sky, by_hidden = wrong & (pair.seen == 0), wrong & (pair.seen > 0) & (unhidden != said)
    masks = {
        "pixels": np.ones_like(painted),
        "painted": painted,
        "right": painted & ~wrong,
        "sky": sky,
        "hidden": by_hidden,
        "bled": wrong & ~sky & ~by_hidden,
        "reached": pair.seen > 0,
        # An edge's own pixel is of both: what is wrong by one pixel only.
        "wrong by more than a pixel": wrong & (cv2.dilate((said == pair.seen).astype(np.uint8), np.ones((3, 3))) == 0),
    }
    return Counter({name: int(mask.sum()) for name, mask in masks.items()})


def score(pair: Pair, regions: np.ndarray) -> ProposalScores:
    """Objects of at least 100 pixels which the LiDAR has 10 points on."""
    enough = {k for k, n in zip(*np.unique(pair.of_points, return_counts=True), strict=True) if n >= 10}
    seen = score_pixels(regions, pair.truth, 100, pair.distances)
    return replace(seen, objects=tuple(o for o in seen.objects if o.instance + 1 in enough))
