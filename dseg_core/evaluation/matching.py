"""Which truth class each pseudo-class stands for.

Pseudo-classes have no names, so a score needs a mapping. It is fitted on the counts of one split and used on another.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from dseg_core.class_table import ClassTable
from dseg_core.evaluation.metrics import UNMATCHED, Grouping


def one_to_one(counts: NDArray[np.int64], by: str = "pixels") -> NDArray[np.int64]:
    """Hungarian matching over the whole split: each pseudo-class at most one truth class, and the other way round.

    As in the evaluation of IIC (Ji et al. 2019, section 4), PiCIE and STEGO, the count of agreeing pixels is maximised;
    `by="iou"` maximises the sum of intersections over unions instead, which favours rare classes.

    Args:
        counts: int64 (K + 1, G); the last row, pixels without a prediction, takes no part but in unions.
        by: "pixels" or "iou".

    Returns:
        int64 (K,), UNMATCHED for pseudo-classes left over. A pair that shares no pixel is not a match: it would be an
        accident of the solver.
    """
    shared = counts[:-1]
    gain = shared.astype(np.float64)
    if by == "iou":
        union = shared.sum(axis=1, keepdims=True) + counts.sum(axis=0, keepdims=True) - shared
        gain = shared / np.maximum(union, 1)
    clusters, classes = linear_sum_assignment(gain, maximize=True)
    mapping = np.full(len(shared), UNMATCHED, dtype=np.int64)
    agreeing = shared[clusters, classes] > 0
    mapping[clusters[agreeing]] = classes[agreeing]
    return mapping


def many_to_one(counts: NDArray[np.int64], matched: NDArray[np.int64]) -> NDArray[np.int64]:
    """Keep the one-to-one matches, and give every pseudo-class left over its most frequent truth class.

    Args:
        counts: int64 (K + 1, G).
        matched: int64 (K,), the result of `one_to_one`.

    Returns:
        int64 (K,); UNMATCHED only for pseudo-classes without a pixel in `counts`.
    """
    shared = counts[:-1]
    left = (matched == UNMATCHED) & (shared.sum(axis=1) > 0)
    return np.where(left, shared.argmax(axis=1), matched)


def by_name(clusters: ClassTable, grouping: Grouping, truth: ClassTable) -> NDArray[np.int64]:
    """Match a predictor's own class names with the truth's (case does not count); int64 (len(clusters),).

    A class finds its place by the truth's name or by the scored group's (`ground` where ground is merged).
    """
    known = {name.casefold(): index for index, name in enumerate(grouping.names)}
    for entry, group in zip(truth.entries, grouping.group, strict=True):
        known.setdefault(entry.name.casefold(), int(group))
    return np.array([known.get(entry.name.casefold(), UNMATCHED) for entry in clusters.entries], dtype=np.int64)
