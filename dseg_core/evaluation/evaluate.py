"""`dseg evaluate`: scores of runs against truth, written into each run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.evaluation.baselines import FeatureClusters, FeatureSample, cell_features, colour_features
from dseg_core.evaluation.capacity import capacity_predictor
from dseg_core.evaluation.ladder import (
    ALL,
    BASELINE,
    CELLS,
    ONE_TO_ONE,
    STUDENT,
    TEACHER,
    Cell,
    Features,
    Predictor,
    Row,
    Tally,
    baseline_predictor,
    conventions,
    groupings,
    labels_predictor,
    network_predictor,
    score_rows,
    tally,
)
from dseg_core.evaluation.stored_scores import done_before, evaluation_folder, fingerprint_of, network_print
from dseg_core.evaluation.tables import Board, draw_confusion, headline_table, score_tables
from dseg_core.evaluation.truth import TruthData, open_truth
from dseg_core.networks.checkpoint import digest, load_network
from dseg_core.progress import Summary, check_writable, progress, write_whole
from dseg_core.stage_options import EvaluateOptions, FeatureOptions
from dseg_core.store import read_json
from dseg_core.words import count

if TYPE_CHECKING:
    from dseg_core.region_backbone import RegionBackbone


@dataclass(frozen=True, eq=False)
class Split:
    """Where pseudo-classes are matched and the baseline fitted, and where both are scored. `notes`: what to know."""

    fit: TruthData
    fit_drives: tuple[str, ...]
    scored: TruthData
    scored_drives: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def apart(self) -> bool:
        """Whether nothing is fitted on what is scored."""
        return (self.fit.path.resolve(), self.fit_drives) != (self.scored.path.resolve(), self.scored_drives)

    def images(self) -> dict[str, int]:
        """How many images either side has."""
        return {
            "fitted on": sum(map(self.fit.count, self.fit_drives)),
            "scored": sum(map(self.scored.count, self.scored_drives)),
        }


def split_data(data: TruthData, fit: TruthData | None) -> Split:
    """Keep fitting and scoring apart: other data to fit on if given, else half of the drives.

    Raises:
        DsegError: The two have different truth classes, or pseudo-labels of different clusters.
    """
    if fit is not None:
        if fit.classes != data.classes:
            raise DsegError(f"its truth classes differ from those of {data.path}", where=fit.path)
        _same_clusters(fit, data)
        split = Split(fit, fit.drives, data, data.drives)
    elif len(data.drives) > 1:
        half = len(data.drives) // 2
        note = f"matched on {count(half, 'drive')}, scored on the other {len(data.drives) - half}"
        return Split(data, data.drives[:half], data, data.drives[half:], (note,))
    else:
        split = Split(data, data.drives, data, data.drives)
    if split.apart:
        return split
    warning = "MATCHED ON THE SCORED IMAGES THEMSELVES, so scores are too high; give other frames by --fit-on"
    return Split(data, data.drives, data, data.drives, (warning,))


def _same_clusters(fit: TruthData, data: TruthData) -> None:
    mine, theirs = fit.label_classes, data.label_classes
    if mine is not None and theirs is not None and len(mine) != len(theirs):
        raise DsegError(
            f"its pseudo-labels have {len(theirs)} classes, those of {fit.path} have {len(mine)}",
            where=data.path,
            fix="Label both with the same clusters: dseg label --clusters-from.",
        )


def evaluate(runs: Sequence[Path], data: Path, options: EvaluateOptions) -> Summary:
    """Score pseudo-labels, teacher, student and baselines of each run against truth.

    Writes `RUN/evaluation/DATA/` for each run: `summary.json`, `report.txt`, `confusion.png`, and for several runs also
    `combined_.../` in the first one's, with mean and deviation. A run whose scores are there and up to date is skipped.

    Args:
        runs: Folders written by `dseg train`.
        data: Frames of simulated drives, or a folder with images/, labels/ and classes.yaml.
        options: What to score and how.

    Raises:
        DsegError: Missing runs, data or truth, or data that does not fit.
    """
    name = data.resolve().name
    folders = [evaluation_folder(run, data) for run in runs]
    scored = open_truth(data, options.labels, options.truth)
    place = options.fit_on
    fit = None if place is None else open_truth(place, options.labels, options.fit_truth, "--fit-truth")
    split = split_data(scored, fit)
    prints = [fingerprint_of(run, (split.fit, split.scored), options) for run in runs]
    results, fresh = [], _Fresh(split, options)
    for run, folder, fingerprint in zip(runs, folders, prints, strict=True):
        results.append(done_before(folder, fingerprint) or _evaluate_run(run, name, folder, fresh, fingerprint))
    boards = [[Cell(**row) for row in result.results["rows"]] for result in results]
    if len(runs) == 1:
        return results[0]
    board = Board(boards)
    folder = folders[0] / f"combined_{digest(*(str(run.resolve()).encode() for run in runs))[:8]}"
    text = "\n".join(
        [
            f"{count(len(runs), 'run')} on {name}: mean ± deviation over runs.",
            headline_table(board),
            *(f"Note: {note}." for note in _notes(split)),
            f"All tables are in {folder}: report.txt.",
        ]
    )
    write_whole(folder / "report.txt", f"{score_tables(board)}\n\n{text}\n".encode())
    numbers = {"data": str(data), "runs": [str(run) for run in runs], "notes": _notes(split), "rows": board.to_list()}
    return Summary(text, numbers).write(folder, "evaluate", options)


class _Fresh:
    """What several runs share: the split, and baselines by number of clusters."""

    def __init__(self, split: Split, options: EvaluateOptions) -> None:
        self.split, self.options = split, options
        self.features: dict[str, Features] = {BASELINE: colour_features}
        backbone = _labels_backbone(split, options)
        self.features[CELLS] = lambda rgb: cell_features(rgb, backbone)
        self._samples: dict[str, FeatureSample] = {}

    def baselines(self, name: str, clusters: int) -> tuple[FeatureClusters, ...]:
        """k-means with that many clusters on the fitting images' features, one per seed."""
        if not self._samples:
            split, total = self.split, self.split.images()["fitted on"]
            self._samples = {name: FeatureSample(total) for name in self.features}
            views = (view for drive in split.fit_drives for view in split.fit.views(drive))
            for view in progress(views, "baseline: reading", total=total, unit="image"):
                for kind, sample in self._samples.items():
                    sample.add(self.features[kind](view.rgb))
        return self._samples[name].fit(clusters, range(self.options.baseline_seeds))


def _labels_backbone(split: Split, options: EvaluateOptions) -> RegionBackbone | None:
    """The backbone that the pseudo-labels' image features come from, if they have any."""
    path = split.fit.path / "labels" / options.labels / "summary.json"
    if not options.baseline or not path.is_file():
        return None
    features = FeatureOptions.from_mapping(read_json(path)["options"]["features"], where=path)
    if "image" not in features.blocks:
        return None
    from dseg_core.region_backbone import load_backbone

    return load_backbone(features)


def _evaluate_run(run: Path, name: str, folder: Path, fresh: _Fresh, fingerprint: str) -> Summary:
    check_writable(folder)
    split, options = fresh.split, fresh.options
    predictors = _predictors(run, folder, fresh)
    fitted = tally(split.fit, split.fit_drives, predictors, f"{run.name}: matching")
    scored = fitted
    if split.apart:
        scored = tally(split.scored, split.scored_drives, predictors, f"{run.name}: scoring")
    rows = tuple(row for predictor in predictors for row in predictor.rows)
    cells = score_rows(rows, fitted, scored, split.scored.classes, options)
    student = next(row for row in rows if row.name == STUDENT)
    _draw_student(student, fitted, scored, split.scored.classes, options, folder / "confusion.png")
    board = Board([cells])
    images, notes = split.images(), _notes(split)
    text = "\n".join(
        [
            f"Scored {count(images['scored'], 'image')} of {name}, pseudo-classes matched on {images['fitted on']}.",
            headline_table(board),
            *(f"Note: {note}." for note in notes),
            f"All tables and the confusion matrix are in {folder}: report.txt, confusion.png.",
        ]
    )
    write_whole(folder / "report.txt", f"{score_tables(board)}\n\n{text}\n".encode())
    numbers = {
        "data": str(split.scored.path.resolve()),
        "network": network_print(run),
        "images": images,
        "notes": notes,
        "confusion": "confusion.png",
        "fingerprint": fingerprint,
        "rows": [cell.to_dict() for cell in cells],
        "counts": {f"{row} {pixels}": counts.tolist() for (row, pixels), counts in scored.items()},
        "classes": split.scored.classes.to_list(),
    }
    return Summary(text, numbers).write(folder, "evaluate", options)


def _predictors(run: Path, folder: Path, fresh: _Fresh) -> list[Predictor]:
    split, options = fresh.split, fresh.options
    teacher, student = load_network(run, "teacher"), load_network(run, "student")
    predictors = [network_predictor(TEACHER, teacher), network_predictor(STUDENT, student)]
    if split.fit.label_classes is not None and split.scored.label_classes is not None:
        predictors.insert(0, labels_predictor(split.scored.label_classes))
    if options.baseline:
        for name, features in fresh.features.items():
            predictors.append(baseline_predictor(name, features, fresh.baselines(name, len(student.classes))))
    if options.capacity:
        if not split.apart:
            raise DsegError(
                "the capacity row would learn from the images it is scored on",
                where=split.scored.path,
                fix="Give other frames by --fit-on.",
            )
        predictors.append(capacity_predictor(run, split.fit, split.fit_drives, folder / "capacity"))
    return predictors


def _draw_student(
    row: Row, fitted: Tally, scored: Tally, truth: ClassTable, options: EvaluateOptions, path: Path
) -> None:
    grouping = groupings(truth, options)["as is", True]
    fit, held_out = grouping.apply(fitted[row.key, ALL]), grouping.apply(scored[row.key, ALL])
    scores = conventions(row, grouping, truth, fit, held_out, options.match_by)[ONE_TO_ONE]
    draw_confusion(scores, f"Student, all pixels, one-to-one: mIoU {100 * scores.miou:.1f} %", path)


def _notes(split: Split) -> list[str]:
    notes = [*split.notes, *split.scored.notes, *(() if split.fit is split.scored else split.fit.notes)]
    notes.append("LiDAR never labels sky, and one ground class cannot tell road from pavement")
    return list(dict.fromkeys(notes))
