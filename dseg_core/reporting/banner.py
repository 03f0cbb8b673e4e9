"""One picture that says what dseg does: a camera image, the LiDAR's proposals in it, the student's mask over it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from dseg_core.image_codecs import decode
from dseg_core.networks.checkpoint import load_network
from dseg_core.networks.mask_model import MaskModel
from dseg_core.progress import write_whole
from dseg_core.reporting import pictures
from dseg_core.reporting.learning_sections import apart, mask_of
from dseg_core.reporting.pictures import Rgb
from dseg_core.reporting.score_sections import overlap_of
from dseg_core.reporting.selection import spread
from dseg_core.reporting.sources import Sources

_GAP, _TITLE = 8, 26


def write_banner(path: Path, sources: Sources, rows: int = 3) -> None:
    """Write a PNG with a row per view: image, proposals, the student's mask. Needs frames and a run."""
    if sources.run is None or sources.shown is None:
        return
    student, overlap = load_network(sources.run), overlap_of(sources)
    model = MaskModel(student, apart(student.classes)).eval()
    palette = student.classes.palette() if overlap is None else overlap.palette(student.classes)
    shown = []
    for key in spread(sources.shown.store.view_keys, rows):
        view = sources.shown.store.view(key)
        rgb = decode(view.image)
        mask = mask_of(model, rgb)
        over = pictures.blend(rgb, palette[mask], mask != 255, 0.6)
        regions = pictures.regions_over_image(rgb, view.regions)
        size = (480, round(480 * rgb.shape[0] / rgb.shape[1]))
        shown.append(_beside([cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (rgb, regions, over)]))
    titles = ("camera image", "LiDAR proposals in it", "mask of the distilled network")
    head = np.full((_TITLE, shown[0].shape[1], 3), 255, dtype=np.uint8)
    for number, title in enumerate(titles):
        place = (number * (480 + _GAP) + 2, _TITLE - 9)
        cv2.putText(head, title, place, cv2.FONT_HERSHEY_DUPLEX, 0.5, (40, 40, 40), 1, cv2.LINE_AA)
    white = np.full((_GAP, shown[0].shape[1], 3), 255, dtype=np.uint8)
    stacked = np.vstack([head, *(part for row in shown for part in (row, white))][:-1])
    write_whole(path, cv2.imencode(".png", stacked[..., ::-1])[1].tobytes())


def _beside(tiles: list[Rgb]) -> Rgb:
    gap = np.full((tiles[0].shape[0], _GAP, 3), 255, dtype=np.uint8)
    return np.hstack([part for tile in tiles for part in (tile, gap)][:-1])
