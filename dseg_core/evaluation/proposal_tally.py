"""Scores of many sweeps or regions as one: by class and range band, and in a few numbers to compare methods by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

import numpy as np

from dseg_core.evaluation.overlaps import FATES, FOUND
from dseg_core.evaluation.proposal_scores import ALL, CALLED, ObjectScore, ProposalScores, Share

THIN = ("pole", "sign", "pedestrian")
"""Classes of thin objects, which drown among cars and trees."""

BANDS = (0.0, 10.0, 20.0, 30.0, 50.0, float("inf"))
"""Edges of the range bands, metres."""


class ProposalTally:
    """Adds up scores. Objects count alike, however large; ground counts by points or pixels."""

    def __init__(self) -> None:
        self.objects: list[ObjectScore] = []
        self.scored = self.matched = self.sweeps = 0
        self._under: list[float] = []
        self._shares: dict[str, Share] = defaultdict(lambda: Share(0, 0))

    def add(self, scores: ProposalScores) -> None:
        """Count one more."""
        self.sweeps += 1
        self.objects.extend(scores.objects)
        self.scored += len(scores.scored)
        self.matched += len(scores.matched)
        self._under.append(scores.under)
        for name, share in {**scores.ground, "lost": scores.lost, "raised": scores.raised}.items():
            before = self._shares[name]
            self._shares[name] = Share(before.right + share.right, before.total + share.total)

    def summary(self, thin: Collection[str] = THIN) -> dict[str, float]:
        """Fractions 0..1; NaN where there was nothing to score.

        `recall`: objects found. `thin`: thin ones found. `merged`, `split`, `missed`: what became of the others.
        `iou`: mean over objects. `precision`: scored proposals that are an object. `ground recall`, `ground precision`;
        `lost`: points of objects that are called ground; `raised`: points of ground in proposals. `over`, `under`:
        entropies. Beside them the recall of each part of the ground.
        """
        found = {fate: _mean(o.fate == fate for o in self.objects) for fate in FATES}
        values = {"recall": found.pop(FOUND), "thin": _mean(o.fate == FOUND for o in self.objects if o.name in thin)}
        values |= {"precision": self.matched / self.scored if self.scored else float("nan"), **found}
        values |= {"iou": _mean(o.iou for o in self.objects), "over": _mean(o.over for o in self.objects)}
        values |= {"under": _mean(self._under)}
        renamed = {ALL: "ground recall", CALLED: "ground precision"}
        return values | {
            renamed.get(name, name): share.right / share.total if share.total else float("nan")
            for name, share in self._shares.items()
        }

    def by_class_and_band(self, bands: Sequence[float] = BANDS) -> list[dict[str, object]]:
        """A row for each class, and for each band of it with objects: count, share of each fate, mean IoU."""
        rows: list[dict[str, object]] = []
        for name in sorted({o.name for o in self.objects}):
            mine = [o for o in self.objects if o.name == name]
            rows.append({"class": name, "range": "all", **_row(mine)})
            for low, high in pairwise(bands):
                inside = [o for o in mine if low <= o.distance < high]
                if inside:
                    label = f"{low:g}-{high:g} m" if np.isfinite(high) else f"{low:g} m and more"
                    rows.append({"class": name, "range": label, **_row(inside)})
        return rows


def _row(objects: Sequence[ObjectScore]) -> dict[str, object]:
    shares = {fate: _mean(o.fate == fate for o in objects) for fate in FATES}
    return {"objects": len(objects), **shares, "iou": _mean(o.iou for o in objects)}


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return float(np.mean(listed)) if listed else float("nan")
