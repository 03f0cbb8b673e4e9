"""The ladder: pseudo-labels, teacher, student and what stands beside them, all scored on the same pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dseg_core.class_colors import distinct_color
from dseg_core.class_table import ClassTable
from dseg_core.evaluation.baselines import CELL, FeatureClusters
from dseg_core.evaluation.matching import by_name, many_to_one, one_to_one
from dseg_core.evaluation.metrics import Grouping, Scores, count_pixels, group_truth, score
from dseg_core.evaluation.truth import TruthData, TruthView
from dseg_core.networks.checkpoint import TrainedNetwork
from dseg_core.networks.mask_model import MaskModel
from dseg_core.progress import progress
from dseg_core.records import UNLABELLED
from dseg_core.stage_options import EvaluateOptions

LABELS, TEACHER, STUDENT, CAPACITY = "pseudo-labels", "teacher", "student", "capacity"
BASELINE, CELLS = "colour baseline", "features, no LiDAR"
LABELLED, ALL = "labelled", "all"
ONE_TO_ONE, IGNORED, MANY_TO_ONE, NAMED = "one-to-one", "unmatched ignored", "many-to-one", "by name"

Features = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From an image, uint8 (H, W, 3), to features of its pixels or cells, float32 (h, w, C)."""

Masks = Mapping[str, NDArray[np.uint8]]
"""One predictor's or several predictors' masks of an image, uint8 (H, W), by row."""


@dataclass(frozen=True, eq=False)
class Row:
    """One row of the ladder.

    `clusters`: how many ids its masks have. `names`: their names, where they have some. `supervised`: ids are the
    truth's own, so nothing is matched. `seed`: rows of one name and different seeds compete, the best is shown.
    """

    name: str
    clusters: int
    names: ClassTable | None = None
    supervised: bool = False
    seed: int = 0

    @property
    def key(self) -> str:
        """Unique among rows."""
        return f"{self.name}#{self.seed}"


@dataclass(frozen=True, eq=False)
class Predictor:
    """Makes the masks of one or several rows: a mask by the row's key."""

    rows: tuple[Row, ...]
    predict: Callable[[TruthView], Masks]


Tally = dict[tuple[str, str], NDArray[np.int64]]
"""By row key and set of pixels: int64 (clusters + 1, truth classes)."""


@dataclass(frozen=True)
class Cell:
    """One score. `iou`: by class, None for classes that are not in the truth. All are fractions 0..1."""

    row: str
    pixels: str
    ground: str
    sky: bool
    convention: str
    miou: float
    accuracy: float
    iou: dict[str, float | None]

    @property
    def key(self) -> tuple[str, str, str, bool, str]:
        """What it is the score of."""
        return self.row, self.pixels, self.ground, self.sky, self.convention

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types."""
        return asdict(self)


def labels_predictor(classes: ClassTable) -> Predictor:
    """The pseudo-labels themselves; only ever scored on labelled pixels."""
    row = Row(LABELS, len(classes), classes)
    return Predictor((row,), lambda view: {} if view.labels is None else {row.key: view.labels})


def network_predictor(name: str, trained: TrainedNetwork, *, supervised: bool = False) -> Predictor:
    """A network as it is exported, but with its clusters kept apart whatever they are called."""
    count = len(trained.classes)
    apart = ClassTable.of_names([f"class_{i}" for i in range(count)], [distinct_color(i) for i in range(count)])
    model = MaskModel(trained, apart, confidence=False).eval()
    row = Row(name, count, trained.classes, supervised)

    def predict(view: TruthView) -> Masks:
        with torch.inference_mode():
            (mask,) = model(torch.from_numpy(view.rgb)[None])  # (1, H, W)
        return {row.key: mask[0].numpy()}

    return Predictor((row,), predict)


def baseline_predictor(name: str, features: Features, baselines: Sequence[FeatureClusters]) -> Predictor:
    """Clusters of image features, a row per seed; features of cells are spread over their pixels."""
    rows = tuple(Row(name, len(b.centroids), seed=seed) for seed, b in enumerate(baselines))

    def predict(view: TruthView) -> Masks:
        height, width = view.rgb.shape[:2]
        places = features(view.rgb)
        side = 1 if places.shape[:2] == (height, width) else CELL
        return {
            row.key: baseline.predict(places).repeat(side, axis=0).repeat(side, axis=1)[:height, :width]
            for row, baseline in zip(rows, baselines, strict=True)
        }

    return Predictor(rows, predict)


def tally(data: TruthData, drives: Sequence[str], predictors: Sequence[Predictor], what: str) -> Tally:
    """Count the pixels of every predictor over some drives, on labelled pixels and on all."""
    rows = {row.key: row for predictor in predictors for row in predictor.rows}
    counts: Tally = {}
    views = (view for drive in drives for view in data.views(drive))
    for view in progress(views, what, total=sum(map(data.count, drives)), unit="image"):
        sets = {ALL: view.truth}
        if view.labels is not None:
            sets[LABELLED] = np.where(view.labels == UNLABELLED, np.uint8(UNLABELLED), view.truth)
        for predictor in predictors:
            for key, mask in predictor.predict(view).items():
                for pixels, truth in sets.items():
                    if rows[key].name == LABELS and pixels == ALL:
                        continue  # unlabelled pixels have no pseudo-label to be right or wrong
                    counted = count_pixels(mask, truth, rows[key].clusters, len(data.classes))
                    counts[key, pixels] = counts.get((key, pixels), 0) + counted
    return counts


def groupings(truth: ClassTable, options: EvaluateOptions) -> dict[tuple[str, bool], Grouping]:
    """The four ways to score: ground merged or as it is, without sky or with it."""
    return {
        (ground, sky): group_truth(
            truth,
            merge_ground=ground == "merged",
            with_sky=sky,
            ground_classes=options.ground_classes,
            sky_classes=options.sky_classes,
        )
        for ground in ("merged", "as is")
        for sky in (False, True)
    }


def score_rows(
    rows: Iterable[Row], fitted: Tally, scored: Tally, truth: ClassTable, options: EvaluateOptions
) -> tuple[Cell, ...]:
    """Score every row under every grouping and convention.

    Args:
        rows: The ladder.
        fitted: Counts of the split on which pseudo-classes are matched. Each grouping and each set of pixels has a
            mapping of its own, fitted under the same conditions as it is scored.
        scored: Counts of the split to score.
        truth: The truth's classes.
        options: `match_by`, `ground_classes`, `sky_classes`.
    """
    best: dict[tuple[str, str, str, bool, str], Cell] = {}
    for (ground, sky), grouping in groupings(truth, options).items():
        for row in rows:
            for pixels in (LABELLED, ALL):
                if (row.key, pixels) not in scored or (row.key, pixels) not in fitted:
                    continue
                fit, held_out = grouping.apply(fitted[row.key, pixels]), grouping.apply(scored[row.key, pixels])
                for convention, scores in conventions(row, grouping, truth, fit, held_out, options.match_by).items():
                    cell = _cell(row.name, pixels, ground, sky, convention, scores)
                    # Of several seeds the best by this very score: in the baseline's favour.
                    if cell.key not in best or cell.miou > best[cell.key].miou:
                        best[cell.key] = cell
    return tuple(best.values())


def conventions(
    row: Row, grouping: Grouping, truth: ClassTable, fit: NDArray[np.int64], held_out: NDArray[np.int64], match_by: str
) -> dict[str, Scores]:
    """The scores of one row: unmatched pseudo-classes as errors, as ignored, left-overs by arg-max, and by name.

    By name only where two names or more are the truth's, that is when somebody named the clusters. A supervised row
    says the truth's own names, so it has one score, kept with the one-to-one scores.
    """
    named = by_name(row.names, grouping, truth) if row.names is not None else None
    if row.supervised and named is not None:
        return {ONE_TO_ONE: score(held_out, named, grouping.names)}
    matched = one_to_one(fit, match_by)
    found = {
        ONE_TO_ONE: score(held_out, matched, grouping.names),
        IGNORED: score(held_out, matched, grouping.names, ignore_unmatched=True),
        MANY_TO_ONE: score(held_out, many_to_one(fit, matched), grouping.names),
    }
    if named is not None and len(set(named[named >= 0].tolist())) >= 2:
        found[NAMED] = score(held_out, named, grouping.names)
    return found


def _cell(row: str, pixels: str, ground: str, sky: bool, convention: str, scores: Scores) -> Cell:
    iou = {n: None if np.isnan(v) else float(v) for n, v in zip(scores.names, scores.iou, strict=True)}
    return Cell(row, pixels, ground, sky, convention, scores.miou, scores.accuracy, iou)
