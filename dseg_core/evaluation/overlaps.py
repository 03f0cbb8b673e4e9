"""How proposals and true objects overlap, in points or in pixels: what became of each object, and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dseg_core.records import REGION_FIRST_OBJECT

FOUND, MERGED, SPLIT, MISSED = "found", "merged", "split", "missed"
FATES = (FOUND, MERGED, SPLIT, MISSED)
"""Of an object: some proposal has IoU 0.5 with it; or one holds half of it, and more of other things; or several hold
half of it, but none does alone; or most of it is in no proposal."""

ENOUGH = 0.5
"""The IoU, and the share of an object, from which on it counts."""


@dataclass(frozen=True, eq=False)
class Overlaps:
    """K true objects and P proposals.

    Of objects, in the order of their numbers: `objects` int64 (K,); `size` int64 (K,), points or pixels; `iou` float64
    (K,), with `proposal` int64 (K,), the id of the best, 0 where none touches it; `held` float64 (K,), the largest
    share in one proposal; `covered` float64 (K,), the share in any. Of proposals: `ids` int64 (P,), `proposal_size`
    int64 (P,), and `matched` float64 (P,), their largest IoU.

    `over` float64 (K,): entropy of the proposals of an object's elements; `under` float64 (P,): entropy of the objects
    of a proposal's elements, what is no object as one; natural logarithm, after TRAVEL (Oh et al. 2022).
    """

    objects: NDArray[np.int64]
    size: NDArray[np.int64]
    proposal: NDArray[np.int64]
    iou: NDArray[np.float64]
    held: NDArray[np.float64]
    covered: NDArray[np.float64]
    over: NDArray[np.float64]
    ids: NDArray[np.int64]
    proposal_size: NDArray[np.int64]
    matched: NDArray[np.float64]
    under: NDArray[np.float64]

    def fates(self) -> list[str]:
        """What became of each object, one of FATES."""
        return [
            FOUND if iou >= ENOUGH else MERGED if held >= ENOUGH else SPLIT if covered >= ENOUGH else MISSED
            for iou, held, covered in zip(self.iou, self.held, self.covered, strict=True)
        ]


def overlaps(ids: NDArray[np.integer], instance: NDArray[np.integer]) -> Overlaps:
    """Compare proposals with true objects.

    Args:
        ids: Any shape: 0 none, 1 ground, 2.. proposals.
        instance: The same shape: 0 no object, 1.. objects.
    """
    proposals, p = np.unique(np.append(ids.ravel(), 0), return_inverse=True)
    objects, o = np.unique(np.append(instance.ravel(), 0), return_inverse=True)
    table = np.bincount(o[:-1] * len(proposals) + p[:-1], minlength=len(objects) * len(proposals))
    table = table.reshape(len(objects), len(proposals)).astype(np.int64)
    objects, proposals = objects.astype(np.int64), proposals.astype(np.int64)
    is_proposal, is_object = proposals >= REGION_FIRST_OBJECT, objects > 0
    sizes, proposal_sizes = table.sum(axis=1), table[:, is_proposal].sum(axis=0)
    both = table[np.ix_(is_object, is_proposal)]  # (K, P)
    size = sizes[is_object]
    iou = both / np.maximum(size[:, None] + proposal_sizes - both, 1)
    empty = both.shape[1] == 0
    best = np.zeros(len(size), np.int64) if empty else iou.argmax(axis=1)
    most = np.zeros(len(size)) if empty else iou.max(axis=1)
    ids_found = proposals[is_proposal]
    return Overlaps(
        objects=objects[is_object],
        size=size,
        proposal=np.where(most > 0, 0 if empty else ids_found[best], 0),
        iou=most,
        held=both.max(axis=1, initial=0) / np.maximum(size, 1),
        covered=both.sum(axis=1) / np.maximum(size, 1),
        over=_entropy(both),
        ids=ids_found,
        proposal_size=proposal_sizes,
        matched=iou.max(axis=0, initial=0),
        under=_entropy(table[:, is_proposal].T),
    )


def _entropy(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of each row, natural logarithm; 0 for an empty one."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    logs = np.log(share, where=share > 0, out=np.zeros(share.shape))
    return np.asarray(np.abs((share * logs).sum(axis=1)))
