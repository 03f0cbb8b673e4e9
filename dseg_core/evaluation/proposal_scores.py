"""Scores of a sweep's proposals, and of a camera's regions, against truth: objects and ground."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dseg_core.evaluation.hard_ground import ground_parts
from dseg_core.evaluation.overlaps import ENOUGH, Overlaps, overlaps
from dseg_core.evaluation.proposal_truth import BACKGROUND, GROUND, OBJECT, ROLES, UNKNOWN, Truth
from dseg_core.records import REGION_GROUND

ALL, CALLED = "all", "called ground"
"""In `ProposalScores.ground`: recall of all of it, and precision of what is called so."""


@dataclass(frozen=True)
class ObjectScore:
    """What became of one true object.

    `instance`: its number in the truth. `name`: its class. `distance`: metres, NaN where it is not known. `size`:
    points or pixels. `proposal`: id of the best proposal, 0 none, and its `iou`. `fate`: one of `overlaps.FATES`.
    `over`: its entropy of over-segmentation, see `Overlaps`.
    """

    instance: int
    name: str
    distance: float
    size: int
    proposal: int
    iou: float
    fate: str
    over: float


@dataclass(frozen=True)
class Share:
    """So many `right` of `total` points or pixels."""

    right: int
    total: int

    @classmethod
    def of(cls, right: NDArray[np.bool_], among: NDArray[np.bool_]) -> Share:
        """Those that are right among some, bool arrays of one shape."""
        return cls(int(np.count_nonzero(right & among)), int(np.count_nonzero(among)))


@dataclass(frozen=True, eq=False)
class ProposalScores:
    """Scores of one sweep, or of one camera's regions.

    `objects`: true objects of enough points or pixels. `scored`: ids of the proposals that are mostly objects, ground
    or noise, and `matched`: those of them that have IoU 0.5 with an object. `under`: mean entropy of the scored, see
    `Overlaps`. `ground`: how much of the truth's ground, and of parts of it, is called ground; CALLED tells the
    precision. `lost`: points of objects that are called ground. `raised`: points of ground that are in proposals.
    """

    objects: tuple[ObjectScore, ...]
    scored: tuple[int, ...]
    matched: tuple[int, ...]
    under: float
    ground: Mapping[str, Share] = field(default_factory=dict)
    lost: Share = Share(0, 0)
    raised: Share = Share(0, 0)


def score_points(xyz: NDArray[np.float32], ids: NDArray[np.uint16], truth: Truth, smallest: int = 10) -> ProposalScores:
    """Score one sweep's proposals.

    Args:
        xyz: float32 (N, 3), metres, LiDAR frame, z up.
        ids: uint16 (N,): 0 none, 1 ground, 2.. proposals.
        truth: Of the points, (N,).
        smallest: Objects of fewer points are not scored; a proposal that finds one counts as matched all the same.
    """
    order = np.argsort(truth.instance, kind="stable")
    numbers, counts = np.unique(truth.instance, return_counts=True)
    planar = np.hypot(xyz[order, 0], xyz[order, 1])
    runs = zip(numbers, np.cumsum(counts) - counts, np.cumsum(counts), strict=True)
    distances = {int(number): float(np.median(planar[first:last])) for number, first, last in runs}
    return _scores(ids, truth, smallest, distances, ground_parts(xyz, truth))


def score_pixels(
    regions: NDArray[np.uint16], truth: Truth, smallest: int = 100, distances: Mapping[int, float] | None = None
) -> ProposalScores:
    """Score one camera's regions.

    Args:
        regions: uint16 (H, W): 0 none, 1 ground, 2.. proposals.
        truth: Of the pixels, (H, W).
        smallest: Objects of fewer pixels are not scored.
        distances: Metres, by instance, where points tell.
    """
    return _scores(regions, truth, smallest, distances or {}, {})


def _scores(
    ids: NDArray[np.uint16],
    truth: Truth,
    smallest: int,
    distances: Mapping[int, float],
    parts: Mapping[str, NDArray[np.bool_]],
) -> ProposalScores:
    roles = truth.roles_of_elements()
    known, called, ground = roles != UNKNOWN, ids == REGION_GROUND, roles == GROUND
    instance = np.where(roles == OBJECT, truth.instance, 0).astype(np.int64)
    found = overlaps(ids[known], instance[known])
    names = _names(instance, truth, found)
    objects = tuple(
        ObjectScore(
            int(number),
            name,
            distances.get(int(number), float("nan")),
            int(found.size[k]),
            int(found.proposal[k]),
            float(found.iou[k]),
            fate,
            float(found.over[k]),
        )
        for k, (number, name, fate) in enumerate(zip(found.objects, names, found.fates(), strict=True))
        if found.size[k] >= smallest
    )
    scored = _scored(ids[known], roles[known], found)
    matched = scored & (found.matched >= ENOUGH)
    return ProposalScores(
        objects,
        tuple(found.ids[scored].tolist()),
        tuple(found.ids[matched].tolist()),
        float(found.under[scored].mean()) if scored.any() else 0.0,
        {CALLED: Share.of(ground, called & known), ALL: Share.of(called, ground)}
        | {name: Share.of(called, where) for name, where in parts.items()},
        Share.of(called, roles == OBJECT),
        Share.of(ids > REGION_GROUND, ground),
    )


def _names(instance: NDArray[np.int64], truth: Truth, found: Overlaps) -> list[str]:
    """Each object's most frequent class: a sign's is that of its post, where more of that is seen."""
    place = np.searchsorted(found.objects, instance[instance > 0])
    counts = np.bincount(place * 256 + truth.semantic[instance > 0], minlength=256 * len(found.objects))
    return [truth.classes.entries[k].name for k in counts.reshape(-1, 256).argmax(axis=1)]


def _scored(ids: NDArray[np.uint16], roles: NDArray[np.uint8], found: Overlaps) -> NDArray[np.bool_]:
    """The proposals that are mostly something else than background, bool (P,)."""
    place = np.searchsorted(found.ids, ids)
    mine = np.isin(ids, found.ids)
    counts = np.bincount(place[mine] * ROLES + roles[mine], minlength=ROLES * len(found.ids))
    return np.asarray(counts.reshape(-1, ROLES).argmax(axis=1) != BACKGROUND)
