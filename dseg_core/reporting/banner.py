"""The few pictures that say what dseg does: image, proposals, the student's mask as it comes and beside truth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from dseg_core.class_table import ClassTable
from dseg_core.image_codecs import decode
from dseg_core.networks.checkpoint import load_network
from dseg_core.networks.mask_model import MaskModel
from dseg_core.overlay import laid_over, legend
from dseg_core.progress import write_whole
from dseg_core.reporting import pictures
from dseg_core.reporting.learning_sections import apart, mask_of
from dseg_core.reporting.matching import Overlap, overlap_of
from dseg_core.reporting.pictures import Rgb
from dseg_core.reporting.selection import moment, spread
from dseg_core.reporting.sources import Sources

IMAGE, PROPOSALS, MASK, BY_TRUTH = "camera image", "LiDAR proposals", "the network's mask", "mask, truth's colours"
COVERED_MOST = "clusters are coloured by the class of the truth that each covers most"
_FOOT = "Last column: clusters coloured by the class of the simulation's truth that each covers most."

_GAP, _TITLE, _WIDTH, _STRENGTH = 8, 28, 420, 0.6


def banner_rows(sources: Sources, rows: int) -> list[tuple[str, dict[str, Rgb]]]:
    """Pictures by name for a few views, with where each is from; masks only where there is a run, truth where scored.

    Args:
        sources: At least frames; without any there are no rows.
        rows: Views, at most.

    Returns:
        Where and when, and uint8 (H, W, 3) pictures of one size, under the same names in every row.
    """
    if sources.shown is None:
        return []
    student = None if sources.run is None else load_network(sources.run)
    overlap = overlap_of(sources)
    found = []
    for key in spread(sources.shown.store.view_keys, rows):
        view = sources.shown.store.view(key)
        rgb = decode(view.image)
        row = {IMAGE: rgb, PROPOSALS: pictures.regions_over_image(rgb, view.regions)}
        if student is not None:
            mask = mask_of(MaskModel(student, apart(student.classes)).eval(), rgb)
            own = student.classes.painted().palette()
            row[MASK] = laid_over(rgb, own[mask], mask != 255, _STRENGTH)
            if overlap is not None:
                row[BY_TRUTH] = laid_over(rgb, overlap.palette(student.classes)[mask], mask != 255, _STRENGTH)
        found.append((moment(sources.shown.store, key), row))
    return found


def write_banner(path: Path, sources: Sources, rows: int = 3) -> None:
    """Write a PNG with a row per view and the last column's classes; without frames and a run nothing is written."""
    found = banner_rows(sources, rows)
    if sources.run is None or not found:
        return
    names = list(found[0][1])
    head = np.full((_TITLE, len(names) * (_WIDTH + _GAP) - _GAP, 3), 255, np.uint8)
    for number, name in enumerate(names):
        _write(head, name, number * (_WIDTH + _GAP) + 2)
    gap = np.full((_GAP, head.shape[1], 3), 255, np.uint8)
    lines = [part for _, row in found for part in (_beside(list(row.values())), gap)][:-1]
    overlap = overlap_of(sources)
    feet = [] if overlap is None else [_foot(overlap, head.shape[1])]
    stacked = np.vstack([head, *lines, *feet])
    write_whole(path, cv2.imencode(".png", stacked[..., ::-1])[1].tobytes())


def _foot(overlap: Overlap, width: int) -> Rgb:
    """What the colours of `BY_TRUTH` mean: the classes that some cluster is taken for."""
    foot = np.full((_TITLE, width, 3), 255, np.uint8)
    _write(foot, _FOOT, 2)
    named = [overlap.truth.entries[index] for index in sorted({*overlap.matched().tolist()} - {-1})]
    classes = ClassTable.of_names([entry.name for entry in named], [entry.color for entry in named])
    return np.vstack([foot, legend(classes, width)])


def _beside(tiles: list[Rgb]) -> Rgb:
    size = (_WIDTH, round(_WIDTH * tiles[0].shape[0] / tiles[0].shape[1]))
    gap = np.full((size[1], _GAP, 3), 255, dtype=np.uint8)
    shown = [np.asarray(cv2.resize(tile, size, interpolation=cv2.INTER_AREA), np.uint8) for tile in tiles]
    return np.hstack([part for tile in shown for part in (tile, gap)][:-1])


def _write(paper: Rgb, words: str, left: int) -> None:
    cv2.putText(paper, words, (left, _TITLE - 9), cv2.FONT_HERSHEY_DUPLEX, 0.5, (40, 40, 40), 1, cv2.LINE_AA)
