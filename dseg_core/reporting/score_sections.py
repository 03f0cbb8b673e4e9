"""The report's scores: the ladder, per-class IoU, confusion, and the few numbers at the top."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dseg_core.class_table import ClassTable
from dseg_core.evaluation import ladder
from dseg_core.evaluation.stored_scores import ReportScores, results_for_report, scores_for_report
from dseg_core.evaluation.tables import Board, Spread
from dseg_core.label_store import LabelStore
from dseg_core.reporting import pictures, tables
from dseg_core.reporting.page import Html, absent, details, figure, join, section, table, tag
from dseg_core.reporting.sources import Sources, read_summary

_ROWS = (ladder.LABELS, ladder.TEACHER, ladder.STUDENT, ladder.CELLS, ladder.BASELINE, ladder.CAPACITY)
_CONVENTIONS = {
    ladder.ONE_TO_ONE: "one-to-one",
    ladder.IGNORED: "one-to-one, left-over ignored",
    ladder.MANY_TO_ONE: "many-to-one",
    ladder.NAMED: "by the names given",
}
_PIXELS = {ladder.LABELLED: "labelled pixels", ladder.ALL: "all pixels"}


@dataclass(frozen=True, eq=False)
class Overlap:
    """Pixels that masks give each pseudo-class and that truth gives each class, on the scored frames.

    `counts`: of the student, int64 (clusters + 1, truth classes), the last row pixels without a pseudo-class.
    `together`: of pseudo-labels, teacher and student, added up.
    """

    counts: NDArray[np.int64]
    together: NDArray[np.int64]
    truth: ClassTable

    def palette(self, own: ClassTable) -> NDArray[np.uint8]:
        """Each pseudo-class in the colour of the truth class it covers most, uint8 (256, 3); own colour if none."""
        palette = own.palette()
        for cluster, line in enumerate(self.together[:-1]):
            if line.sum():
                palette[cluster] = self.truth.entries[int(line.argmax())].color
        return palette


def scores_of(sources: Sources) -> ReportScores | None:
    """The stored scores of the run on the frames that were not trained on, or None."""
    if sources.run is None or sources.shown is None:
        return None
    return scores_for_report(sources.run, sources.shown.path)


def overlap_of(sources: Sources) -> Overlap | None:
    """The counts on the scored frames, or None where it was not evaluated."""
    if sources.run is None or sources.shown is None:
        return None
    results = results_for_report(sources.run, sources.shown.path)
    if results is None:
        return None
    rows = ((ladder.LABELS, ladder.LABELLED), (ladder.TEACHER, ladder.ALL), (ladder.STUDENT, ladder.ALL))
    keys = [f"{row}#0 {pixels}" for row, pixels in rows]
    found = [np.array(results["counts"][key], dtype=np.int64) for key in keys if key in results["counts"]]
    return Overlap(found[-1], np.sum(found, axis=0), ClassTable.from_list(results["classes"], sources.run))


def scores_section(sources: Sources) -> Html:
    """Everything that was scored, the main table open and the rest folded."""
    title = "Scores against truth"
    scores, overlap = scores_of(sources), overlap_of(sources)
    if scores is None or overlap is None:
        words = "There are no scores: they need truth, which only simulated or hand-labelled data has (dseg evaluate)."
        return section("scores", title, absent(words))
    board = Board([scores.cells])
    intro = tables.sentences(
        "IoU of a class is the overlap of mask and truth over their union; mIoU is its mean over classes, in per cent. "
        "Pseudo-classes have no names, so each is first matched with a truth class, on "
        f"{scores.images['fitted on']} images, and scored on {scores.images['scored']} others. One-to-one gives every "
        "truth class at most one pseudo-class; what is left over counts as wrong, or is left out (published numbers "
        "differ in this); many-to-one gives each pseudo-class the truth class it covers most.",
        "Compare rows of the same pixels only. Labelled pixels are those with a pseudo-label: the scanner's reach, "
        "without sky. The colour baseline clusters every pixel's colour into as many classes and knows nothing else; "
        "'features, no LiDAR' clusters what the labels measure in images, in squares of 16 pixels instead of regions. "
        + "; ".join(scores.notes)
        + ".",
    )
    caption = (
        "The student's confusion matrix, all classes and pixels, one-to-one: a row is a truth class, in per cent of "
        "its pixels. Dark off the diagonal: two things taken for one another."
    )
    matrix = figure(_confusion(scores), caption, class_="tall")
    others = details("Other ways to score", *(_ladder(board, *way) for way in (("merged", True), ("as is", False))))
    return section(
        "scores",
        title,
        intro,
        _ladder(board, "merged", False),
        _ladder(board, "as is", True),
        others,
        _classes(board, "merged", False),
        _classes(board, "as is", True),
        matrix,
        details("What each pseudo-class covers", _clusters(overlap)),
    )


def _grouping(ground: str, sky: bool) -> str:
    merged = "ground classes counted as one" if ground == "merged" else "every class by itself"
    return f"{merged}, {'with sky' if sky else 'sky left out'}"


def _ladder(board: Board, ground: str, sky: bool) -> Html:
    names = [c for c in _CONVENTIONS if any(board.cells(r, p, ground, sky, c) for r in _ROWS for p in _PIXELS)]
    rows = []
    for pixels, words in _PIXELS.items():
        for row in _ROWS:
            cells = board.cells(row, pixels, ground, sky)
            if cells:
                spreads = [board.miou(row, pixels, ground, sky, name) for name in names]
                accuracy = Spread.of([cell.accuracy for cell in cells]).percent()
                rows.append((row, words, *("–" if s is None else s.percent() for s in spreads), accuracy))
    header = ("mIoU in %", "scored on", *(_CONVENTIONS[name] for name in names), "pixel accuracy (%)")
    return join([tag("h3", f"Ladder: {_grouping(ground, sky)}"), table(header, rows, numbers_from=2, class_="ladder")])


def _classes(board: Board, ground: str, sky: bool) -> Html:
    columns = [(r, p) for p in _PIXELS for r in _ROWS if board.cells(r, p, ground, sky)]
    # The student on all pixels is what one gets in the end, so it comes last and has the bar.
    columns.sort(key=lambda column: column == (ladder.STUDENT, ladder.ALL))
    first = board.cells(*columns[0], ground, sky)[0]
    rows = {n: [board.cells(r, p, ground, sky)[0].iou[n] for r, p in columns] for n in first.iou}
    names = [f"{row}, {pixels} px" for row, pixels in columns]
    return join([tag("h3", f"IoU of each class in %: {_grouping(ground, sky)}"), tables.class_bars(rows, names)])


def _clusters(overlap: Overlap) -> Html:
    counts = overlap.counts
    used = np.flatnonzero(counts.sum(axis=1) > 0)
    names = ["ground", *(f"cluster {i}" for i in range(1, len(counts) - 1)), "no class"]
    truth = [entry.name for entry in overlap.truth.entries]
    order = sorted(used, key=lambda i: (int(counts[i].argmax()), -int(counts[i].sum())))
    words = (
        "Of the student's pixels of a pseudo-class, the share of each truth class in per cent; unused ones left out."
    )
    matrix = tables.confusion(counts[order], [names[i] for i in order], truth, "pseudo-class")
    return join([tag("p", words), matrix])


def _confusion(scores: ReportScores) -> Html:
    return pictures.embedded(pictures.read_png(scores.confusion), "Confusion matrix of the student", 1200, quality=90)


def headline(sources: Sources) -> list[tuple[str, str]]:
    """The numbers at the top: (number, what it is)."""
    numbers: list[tuple[str, str]] = []
    for frames, words in ((sources.frames, "frames to learn from"), (sources.test, "frames for scores only")):
        if frames is not None:
            drives = len(frames.store.drives)
            numbers.append((str(len(frames.store.frame_keys)), f"{words}, {drives} drive{'s' * (drives != 1)}"))
    labelled = sources.frames or sources.test
    folder = None if labelled is None else LabelStore(labelled.path, sources.options.labels).path
    if folder is not None and (folder / "summary.json").is_file():
        results = read_summary(folder)["results"]
        numbers.append((str(results["regions"]), "regions: laser proposals seen by a camera"))
        numbers.append((str(results["clusters"] + 1), "pseudo-classes, ground included"))
    scores = scores_of(sources)
    if scores is not None:
        board = Board([scores.cells])
        for row, pixels in (
            (ladder.LABELS, ladder.LABELLED),
            (ladder.BASELINE, ladder.LABELLED),
            (ladder.STUDENT, ladder.ALL),
            (ladder.BASELINE, ladder.ALL),
        ):
            spread = board.miou(row, pixels, "merged", False)
            if spread is not None:
                numbers.append((spread.percent(), f"mIoU in %: {row}, {_PIXELS[pixels]}"))
    return numbers


def headline_section(sources: Sources) -> Html:
    """What was done and the numbers that matter."""
    words = "No label was drawn by hand at any point."
    if scores_of(sources) is not None:
        words += (
            " mIoU (mean overlap of mask and truth over their union) is one-to-one, ground classes counted as one, sky "
            "left out; the simulation's truth served for scores alone."
        )
    return section("result", "Result", tables.tiles(headline(sources)), tag("p", words))
