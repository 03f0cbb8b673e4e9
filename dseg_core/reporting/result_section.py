"""The top of the report: a picture, what there is, and the scores beside what one would have without dseg."""

from __future__ import annotations

from itertools import product

from dseg_core.evaluation import ladder
from dseg_core.evaluation.tables import Board
from dseg_core.label_store import LabelStore
from dseg_core.reporting import banner, pictures, tables
from dseg_core.reporting.matching import scores_of
from dseg_core.reporting.page import Html, figure, join, section, table, tag
from dseg_core.reporting.sources import Sources, read_summary
from dseg_core.reporting.video import videos
from dseg_core.words import count

_BASELINES = (ladder.CELLS, ladder.BASELINE)
_GROUPINGS = (("merged", False), ("as is", True))
_CONVENTIONS = (ladder.ONE_TO_ONE, ladder.MANY_TO_ONE, ladder.IGNORED, ladder.NAMED)
_WORDS = {
    "merged": "road, pavement and terrain as one, without sky",
    "as is": "every class by itself, with sky",
    ladder.ONE_TO_ONE: "one-to-one, left-over clusters wrong",
    ladder.MANY_TO_ONE: "many-to-one",
    ladder.IGNORED: "one-to-one, left-over clusters ignored",
    ladder.NAMED: "by the names given",
}


def result_section(sources: Sources) -> Html:
    """What was made, at one look."""
    parts: list[Html | None] = [_pictures(sources), tables.tiles(numbers(sources)), *_scores(sources)]
    return section("result", "Result", *parts, *videos(sources))


def _pictures(sources: Sources) -> Html | None:
    """The banner's pictures: of one view, or of two where three fill a row."""
    rows = banner.banner_rows(sources, 2)
    if not rows:
        return None
    columns = 3 if len(rows[0][1]) == 3 else 2
    rows = rows if columns == 3 else rows[-1:]
    cells = [
        figure(pictures.embedded(picture, f"{name}, {where}", 640), name)
        for where, row in rows
        for name, picture in row.items()
    ]
    caption = "Frames that were not trained on. " if sources.test is not None else ""
    if banner.BY_TRUTH in rows[0][1]:
        caption += f"In '{banner.BY_TRUTH}', {banner.COVERED_MOST}: to compare by eye, the network knows no names. "
    if banner.MASK in rows[0][1]:
        caption += f"'{banner.MASK.capitalize()}' is what one gets: a colour a cluster, or a name once it has one."
    return figure(tag("div", *cells, class_=f"row by{columns}"), caption)


def numbers(sources: Sources) -> list[tuple[str, str]]:
    """What there is, to count: (number, what it is)."""
    found: list[tuple[str, str]] = []
    for frames, words in ((sources.frames, "to learn from"), (sources.test, "for scores only")):
        if frames is not None:
            frames_count, drives = len(frames.store.frame_keys), len(frames.store.drives)
            noun = count(frames_count, "frame").split(" ", 1)[1]
            cameras = count(len(frames.store.cameras), "camera")
            found.append((str(frames_count), f"{noun} {words}: {count(drives, 'drive')}, {cameras}"))
    labelled = sources.frames or sources.test
    folder = None if labelled is None else LabelStore(labelled.path, sources.options.labels).path
    if folder is not None and (folder / "summary.json").is_file():
        results = read_summary(folder)["results"]
        found.append((str(results["regions"]), "regions: laser proposals seen by a camera"))
        found.append((str(results["clusters"] + 1), "pseudo-classes, ground included"))
    return found


def headline(sources: Sources) -> dict[str, float]:
    """The student's mIoU on all pixels in per cent, by the way it is scored; empty without scores."""
    scores = scores_of(sources)
    found: dict[str, float] = {}
    if scores is not None:
        board = Board([scores.cells])
        for (ground, sky), convention in product(_GROUPINGS, _CONVENTIONS):
            spread = board.miou(ladder.STUDENT, ladder.ALL, ground, sky, convention)
            if spread is not None:
                found[f"{_WORDS[convention]}; {_WORDS[ground]}"] = round(100 * spread.mean, 1)
    return found


def _scores(sources: Sources) -> list[Html]:
    """The student beside the baselines, scored in every way, and where it is no better."""
    scores = scores_of(sources)
    if scores is None:
        where = "Frames and Pseudo-classes" if sources.run is None else "Masks"
        words = (
            "No label was drawn by hand, and there is no truth here to score masks with (simulated and hand-labelled "
            f"data have it): judge by the pictures under {where}."
        )
        return [tag("p", words)]
    board = Board([scores.cells])
    found = [_comparison(board, *grouping) for grouping in _GROUPINGS]
    lost = "; ".join(words for _, without in found for words in without)
    told = [
        "No label was drawn by hand: truth served for scores alone. The numbers are mIoU on all pixels in per cent, "
        "the mean overlap of mask and truth over their union. The baselines have as many clusters and no LiDAR: of "
        "colour, and of the labels' image features.",
        f"No gain over the better baseline: {lost}." if lost else "",
        _classes_without_gain(board),
    ]
    tabled = tag("div", *(tag("div", shown) for shown, _ in found), class_="row halves")
    return [tabled, *(tag("p", words) for words in told if words)]


def _comparison(board: Board, ground: str, sky: bool) -> tuple[Html, list[str]]:
    """A table of student and baselines by convention, and the ways in which the student is not ahead, in words."""
    rows, lost = [], []
    for convention in _CONVENTIONS:
        own = board.miou(ladder.STUDENT, ladder.ALL, ground, sky, convention)
        if own is None:
            continue
        others = [board.miou(name, ladder.ALL, ground, sky, convention) for name in _BASELINES]
        best = max((spread.mean for spread in others if spread is not None), default=None)
        lead = "–" if best is None else f"{100 * (own.mean - best):+.1f}".replace("-", "−")
        if best is not None and own.mean <= best:
            lost.append(f"{_WORDS[convention]}, {_WORDS[ground]} ({own.percent()} against {100 * best:.1f})")
        cells = ("–" if spread is None else spread.percent() for spread in others)
        rows.append((_WORDS[convention], tag("th", own.percent(), class_="n"), *cells, lead))
    header = ("mIoU in %, all pixels", "student", *_BASELINES, "student's lead")
    return join([tag("h3", _WORDS[ground].capitalize()), table(header, rows)]), lost


def _classes_without_gain(board: Board) -> str:
    """The classes that the student does not see better than the better baseline; empty when there are none."""
    way = (ladder.ALL, "as is", True, ladder.ONE_TO_ONE)
    cells = {name: board.cells(name, *way) for name in (ladder.STUDENT, *_BASELINES)}
    others = [cells[name][0].iou for name in _BASELINES if cells[name]]
    if not cells[ladder.STUDENT] or not others:
        return ""
    own = cells[ladder.STUDENT][0].iou
    worse = [
        name for name, value in own.items() if value is not None and value <= max(iou[name] or 0.0 for iou in others)
    ]
    return f"Class by class (one-to-one, with sky), no gain for: {', '.join(worse)}." if worse else ""
