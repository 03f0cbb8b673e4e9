"""The page about proposals' scores: tables, and the worst cases as the LiDAR saw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dseg_core.class_table import ClassTable
from dseg_core.evaluation.overlaps import FATES
from dseg_core.evaluation.proposal_tally import ProposalTally
from dseg_core.evaluation.score_proposals import Case
from dseg_core.evaluation.sweep_truth import sweep_truth
from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND
from dseg_core.reporting.case_pictures import GROUND, HOLDERS, LOST, OBJECT, OTHER, case_picture, holders
from dseg_core.reporting.page import Html, absent, figure, page, section, table, tag
from dseg_core.reporting.pictures import embedded
from dseg_core.reporting.tables import legend
from dseg_core.store import FrameStore
from dseg_core.words import count

_MOST = 4  # parts of an object that its caption tells of


def proposal_page(
    tallies: Mapping[str, ProposalTally], cases: Sequence[Case], store: FrameStore, bags: Mapping[str, Path], text: str
) -> str:
    """The whole document.

    Args:
        tallies: By kind of truth: points, pixels, boxes.
        cases: What was not found, the worst first.
        store: The frames.
        bags: With the truth, by drive.
        text: The summary's table.
    """
    sections = [("summary", "Summary", section("summary", "Summary", tag("pre", text)))]
    for name, tally in tallies.items():
        sections.append((name, f"By {name}", section(name, f"By {name}", _table(tally))))
    sections.append(("worst", "Worst cases", _cases(cases, store, bags)))
    subtitle = "What became of every true object, and of the ground."
    return page(f"Proposals of {store.folder.resolve().name}", subtitle, sections)


def _table(tally: ProposalTally) -> Html:
    rows = []
    for row in tally.by_class_and_band():
        shares = (f"{100 * float(str(row[key])):.1f}" for key in (*FATES, "iou"))
        rows.append([row["class"] if row["range"] == "all" else "", row["range"], row["objects"], *shares])
    return table(["class", "range", "objects", *(f"{fate} %" for fate in FATES), "mean IoU %"], rows, numbers_from=2)


def _cases(cases: Sequence[Case], store: FrameStore, bags: Mapping[str, Path]) -> Html:
    title = "Worst cases"
    if not cases:
        return section("worst", title, absent("No truth of points, or every object was found."))
    by_drive: dict[str, list[Case]] = {}
    for case in cases:
        by_drive.setdefault(case.drive, []).append(case)
    shown: dict[int, Html] = {}
    for drive, mine in by_drive.items():
        truth = sweep_truth(bags[drive])
        for case in mine:
            frame = store.frame(drive, case.stamp_ns)
            semantic, instance = (ids.unpack() for ids in truth.points[case.stamp_ns])
            picture = case_picture(frame, instance, case.score.instance)
            names = {entry.id: entry.name for entry in truth.classes.entries}
            score, own = case.score, instance == case.score.instance
            caption = (
                f"{score.name}, {score.distance:.0f} m, {count(score.size, 'point')}: {score.fate}, IoU "
                f"{score.iou:.2f}; {became_of(own, frame.proposals, semantic, names)} "
                f"(drive {drive}, sweep {case.stamp_ns})"
            )
            shown[id(case)] = figure(embedded(picture, caption, width=picture.shape[1]), caption)
    return section("worst", title, _legend(), *(shown[id(case)] for case in cases))


def _legend() -> Html:
    keys = {
        "the object in truth": OBJECT,
        "proposals that hold points of it, the first of them; in truth, what else is in them": HOLDERS[0],
        "points of it in no proposal": LOST,
        "other objects, other proposals": OTHER,
        "ground, and in truth what is no object": GROUND,
    }
    about = "Objects that were not found, as the LiDAR sees them, in the image, and where they are, from above."
    return tag("div", tag("p", about), legend(ClassTable.of_names([*keys], [*keys.values()]), unlabelled=False))


def became_of(
    own: NDArray[np.bool_], ids: NDArray[np.uint16], semantic: NDArray[np.integer], names: Mapping[int, str]
) -> str:
    """In words what an object's points are in: "8 in a proposal of 19 points with pole, 2 in none".

    Args:
        own: bool (N,), the object's points.
        ids: uint16 (N,), proposals.
        semantic: (N,), classes in truth.
        names: Of the classes.
    """
    parts = []
    for identity in holders(ids, own):
        inside = ids == identity
        number = np.count_nonzero(inside & own)
        if identity < REGION_FIRST_OBJECT:
            parts.append(f"{number} called ground" if identity == REGION_GROUND else f"{number} in no proposal")
            continue
        others, counts = np.unique(semantic[inside & ~own], return_counts=True)
        beside = f" with {names.get(int(others[counts.argmax()]), 'what has no class')}" if len(others) else ""
        parts.append(f"{number} in a proposal of {count(int(inside.sum()), 'point')}{beside}")
    return ", ".join(
        [*parts[:_MOST], *([f"and {count(rest, 'more part')}"] if (rest := len(parts) - _MOST) > 0 else [])]
    )
