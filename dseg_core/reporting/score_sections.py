"""The report's scores: the ladder, per-class IoU, confusion, what each pseudo-class covers."""

from __future__ import annotations

import numpy as np

from dseg_core.evaluation import ladder
from dseg_core.evaluation.tables import Board, Spread
from dseg_core.reporting import tables
from dseg_core.reporting.matching import Overlap, overlap_of, scores_of
from dseg_core.reporting.page import Html, absent, details, figure, join, section, table, tag
from dseg_core.reporting.sources import Sources
from dseg_core.words import count

_ROWS = (ladder.LABELS, ladder.TEACHER, ladder.STUDENT, ladder.CELLS, ladder.BASELINE, ladder.CAPACITY)
_CONVENTIONS = {
    ladder.ONE_TO_ONE: "one-to-one",
    ladder.IGNORED: "one-to-one, left-over ignored",
    ladder.MANY_TO_ONE: "many-to-one",
    ladder.NAMED: "by the names given",
}
_PIXELS = {ladder.LABELLED: "labelled pixels", ladder.ALL: "all pixels"}


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
        f"{count(scores.images['fitted on'], 'image')}, and scored on {scores.images['scored']} others. One-to-one "
        "gives every truth class at most one pseudo-class; what is left over counts as wrong, or is left out "
        "(published numbers differ in this); many-to-one gives each pseudo-class the truth class it covers most.",
        "Compare rows of the same pixels only. Labelled pixels are those with a pseudo-label: the scanner's reach, "
        "without sky. The colour baseline clusters every pixel's colour into as many classes and knows nothing else; "
        "'features, no LiDAR' clusters what the labels measure in images, in squares of 16 pixels instead of regions. "
        + " ".join(f"{note[:1].upper()}{note[1:]}." for note in scores.notes),
    )
    caption = (
        "The student's confusion matrix, all classes and pixels: a row is a truth class, in per cent of its pixels. "
        "Each pseudo-class is read as the truth class that it covers most in these frames, just as the pictures under "
        "Masks are coloured. A column of zeros is a class that no pseudo-class stands for. The tables above match on "
        "other images, and one-to-one may match a pseudo-class with less than it covers most."
    )
    matrix = join([tag("h3", "What is taken for what"), figure(_confusion(overlap), caption)])
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


def _confusion(overlap: Overlap) -> Html:
    matrix = overlap.confusion()
    truth = [entry.name for entry in overlap.truth.entries]
    columns = [*truth, "no class"]
    there = np.flatnonzero(matrix.sum(axis=1) > 0)
    shown = [*range(len(truth)), *([len(truth)] if matrix[:, -1].any() else [])]
    return tables.confusion(matrix[there][:, shown], [truth[i] for i in there], [columns[i] for i in shown], "truth")
