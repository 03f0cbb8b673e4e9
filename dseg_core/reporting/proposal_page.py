"""The page about proposals' scores: tables, and the worst cases as the LiDAR saw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.evaluation.overlaps import FATES
from dseg_core.evaluation.proposal_tally import ProposalTally
from dseg_core.evaluation.score_proposals import Case
from dseg_core.evaluation.sweep_truth import sweep_truth
from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND
from dseg_core.reporting.page import Html, absent, figure, page, section, table, tag
from dseg_core.reporting.pictures import embedded, proposal_colors
from dseg_core.store import FrameStore

_SIZE = (560, 300)  # pixels of one panel
_WIDEST, _MARGIN = np.deg2rad(60), 1.2  # a panel's field; room around the object, of its size
_BACKDROP, _LEFT_OUT = (16, 19, 24), (70, 76, 86)


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
            instance = truth.points[case.stamp_ns][1].unpack()
            roles = np.where(instance > 0, instance + 1, REGION_GROUND)
            picture = case_picture(frame.sweep.xyz, roles, frame.proposals, instance == case.score.instance)
            score = case.score
            caption = (
                f"{score.name}, {score.distance:.0f} m, {score.size} points: {score.fate}, IoU {score.iou:.2f} "
                f"(drive {drive}, sweep {case.stamp_ns})"
            )
            shown[id(case)] = figure(embedded(picture, caption, width=2 * _SIZE[0] + 8), caption)
    intro = "Objects that were not found, as the LiDAR sees them: left in truth, right the proposals, ground grey."
    return section("worst", title, tag("p", intro), *(shown[id(case)] for case in cases))


def case_picture(
    xyz: NDArray[np.float32], truth: NDArray[np.integer], ids: NDArray[np.uint16], mine: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """An object and what is around it, seen from the LiDAR: in truth, and as proposals.

    Args:
        xyz: float32 (N, 3), metres, LiDAR frame.
        truth: (N,): 1 no object, 2.. objects.
        ids: uint16 (N,): proposals.
        mine: bool (N,), the object's points, at least one.

    Returns:
        uint8 (H, W, 3), two panels side by side; the object's points have white edges.
    """
    azimuth, planar = np.arctan2(xyz[:, 1], xyz[:, 0]), np.hypot(xyz[:, 0], xyz[:, 1])
    middle = np.arctan2(np.sin(azimuth[mine]).mean(), np.cos(azimuth[mine]).mean())
    aside = (azimuth - middle + np.pi) % (2 * np.pi) - np.pi
    up = np.arctan2(xyz[:, 2], planar)
    center = (up[mine].min() + up[mine].max()) / 2
    width, height = _SIZE
    half = max(np.abs(aside[mine]).max(), (up[mine].max() - center) * width / height, np.deg2rad(3))
    scale = width / 2 / min((1 + _MARGIN) * half, _WIDEST / 2)
    column, row = np.rint(width / 2 - aside * scale), np.rint(height / 2 - (up - center) * scale)
    inside = np.flatnonzero((column >= 0) & (column < width) & (row >= 0) & (row < height) & (planar > 0))
    inside = inside[np.argsort(-planar[inside], kind="stable")]  # the nearest on top
    radius = int(np.clip(scale * np.deg2rad(0.12), 1, 5))
    panels = []
    for values in (truth, ids):
        canvas = np.full((height, width, 3), _BACKDROP, np.uint8)
        colors = proposal_colors(int(values.max(initial=REGION_FIRST_OBJECT)) + 1)
        colors[0] = _LEFT_OUT
        for k in inside:
            at = (int(column[k]), int(row[k]))
            if mine[k]:
                cv2.circle(canvas, at, radius + 1, (255, 255, 255), -1)
            cv2.circle(canvas, at, radius, colors[values[k]].tolist(), -1)
        panels.append(canvas)
    return np.concatenate([panels[0], np.full((height, 8, 3), 255, np.uint8), panels[1]], axis=1)
