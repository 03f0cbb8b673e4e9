"""Scores over a whole data set from counts of (pseudo-class, truth class) pixels.

Everything is derived from one table of counts per set of pixels: leaving the sky out drops a column, merging the ground
adds columns, a mapping of pseudo-classes to truth classes adds rows. So all variants score exactly the same pixels.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.records import UNLABELLED

UNMATCHED = -1
"""In a mapping: the pseudo-class stands for no truth class. In a grouping: the truth class is not scored."""

MERGED_GROUND = "ground"
"""The name of all ground classes together."""


def count_pixels(
    predicted: NDArray[np.uint8], truth: NDArray[np.uint8], clusters: int, classes: int
) -> NDArray[np.int64]:
    """Count the pixels of each pair of pseudo-class and truth class.

    Args:
        predicted: uint8, any shape; ids 0..clusters-1, anything else means no prediction.
        truth: uint8, same shape; ids 0..classes-1, or 255 for pixels that are not scored.
        clusters: Number of pseudo-classes, ground included.
        classes: Number of truth classes.

    Returns:
        int64 (clusters + 1, classes). The last row counts the pixels without a prediction.

    Raises:
        DsegError: Different shapes, or a truth id that is neither a class nor 255.
    """
    if predicted.shape != truth.shape:
        raise DsegError(f"a prediction of shape {predicted.shape} cannot be scored on truth of shape {truth.shape}")
    pairs = predicted.ravel().astype(np.int64) * 256 + truth.ravel()
    table = np.bincount(pairs, minlength=256 * 256).reshape(256, 256)
    foreign = np.flatnonzero(table[:, classes:UNLABELLED].sum(axis=0)) + classes
    if len(foreign):
        raise DsegError(
            f"truth holds id {foreign[0]}, but its class table ends at {classes - 1}",
            fix=f"Pixels that are not to be scored must be {UNLABELLED}.",
        )
    counts = np.empty((clusters + 1, classes), dtype=np.int64)
    counts[:clusters] = table[:clusters, :classes]
    counts[clusters] = table[clusters:, :classes].sum(axis=0)
    return counts


@dataclass(frozen=True, eq=False)
class Grouping:
    """Which truth classes are scored, and which of them as one.

    `names`: the scored classes. `group`: int64 (truth classes,), the index in `names` of each truth class, UNMATCHED
    for classes that are left out.
    """

    names: tuple[str, ...]
    group: NDArray[np.int64]

    def apply(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Add up truth classes: int64 (rows, truth classes) -> int64 (rows, len(names))."""
        membership = self.group[:, None] == np.arange(len(self.names))
        grouped: NDArray[np.int64] = counts @ membership.astype(np.int64)
        return grouped


def group_truth(
    truth: ClassTable,
    *,
    merge_ground: bool,
    with_sky: bool,
    ground_classes: Collection[str],
    sky_classes: Collection[str],
) -> Grouping:
    """The scored classes of a truth table: classes that share a name are one; ground merged and sky left out on demand.

    Raises:
        DsegError: Nothing but sky is left to score.
    """
    ground, sky = _folded(ground_classes), _folded(sky_classes)
    roles: list[str | None] = []
    for entry in truth.entries:
        if entry.name.casefold() in sky and not with_sky:
            roles.append(None)
        elif entry.name.casefold() in ground and merge_ground:
            roles.append(MERGED_GROUND)
        else:
            roles.append(entry.name)
    names = tuple(dict.fromkeys(role for role in roles if role is not None))
    if not names:
        raise DsegError("every truth class counts as sky", fix="Check --sky-classes.")
    group = [UNMATCHED if role is None else names.index(role) for role in roles]
    return Grouping(names, np.array(group, dtype=np.int64))


def _folded(names: Collection[str]) -> frozenset[str]:
    return frozenset(name.casefold() for name in names)


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of one predictor on one set of pixels, as fractions 0..1.

    `names`: G scored classes. `confusion`: int64 (G + 1, G), rows what the mapped pseudo-classes say, columns truth;
    the last row counts pixels whose pseudo-class stands for no class (all zero where those are ignored). `iou`: float64
    (G,), NaN for classes without a pixel in the truth. `miou`: mean over the classes that are in the truth; NaN when
    nothing was scored. `accuracy`: share of the counted pixels that are right.
    """

    names: tuple[str, ...]
    confusion: NDArray[np.int64]
    iou: NDArray[np.float64]
    miou: float
    accuracy: float


def score(
    counts: NDArray[np.int64], mapping: NDArray[np.int64], names: tuple[str, ...], *, ignore_unmatched: bool = False
) -> Scores:
    """Score counts under a mapping of pseudo-classes to truth classes.

    Args:
        counts: int64 (K + 1, G), the last row for pixels without a prediction.
        mapping: int64 (K,), the truth class each pseudo-class stands for, or UNMATCHED.
        names: The G scored classes.
        ignore_unmatched: Leave pixels of unmatched pseudo-classes out, rather than count them as errors. Published
            numbers differ in this, so both are always reported.
    """
    classes = len(names)
    rows = np.append(np.where(mapping == UNMATCHED, classes, mapping), classes)
    confusion = np.zeros((classes + 1, classes), dtype=np.int64)
    np.add.at(confusion, rows, counts)
    if ignore_unmatched:
        confusion[classes] = 0
    present = counts.sum(axis=0) > 0
    right = np.diagonal(confusion).astype(np.float64)
    union = confusion.sum(axis=0) + confusion[:classes].sum(axis=1) - right
    iou = np.full(classes, np.nan)
    # A class whose every pixel went to ignored pseudo-classes has no union left: it was missed, so its IoU is 0.
    iou[present] = right[present] / np.maximum(union[present], 1)
    total = confusion.sum()
    miou = float(np.mean(iou[present])) if present.any() else float("nan")
    return Scores(names, confusion, iou, miou, float(right.sum() / total) if total else float("nan"))
