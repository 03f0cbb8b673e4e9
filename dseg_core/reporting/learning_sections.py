"""The report's sections about training and the masks it leads to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.networks.checkpoint import load_network
from dseg_core.networks.mask_model import MaskModel
from dseg_core.records import ViewKey
from dseg_core.reporting import charts, pictures, tables
from dseg_core.reporting.page import Html, absent, figure, join, section, tag
from dseg_core.reporting.selection import spread
from dseg_core.reporting.sources import Sources
from dseg_core.store import LabelStore, decode

NETWORKS = ("teacher", "student")


def training_section(run: Path | None) -> Html:
    """Loss over steps of teacher and student."""
    title = "Training"
    if run is None:
        return section("training", title, absent("No run was given, so there are no training curves."))
    lines = [json.loads(line) for line in (run / "curves.jsonl").read_text(encoding="utf-8").splitlines() if line]
    if not lines:
        raise DsegError("holds no steps", where=run / "curves.jsonl", fix="Train the run again.")
    series = []
    for phase in dict.fromkeys(line["phase"] for line in lines):
        own = [line for line in lines if line["phase"] == phase and line.get("loss") is not None]
        steps = np.array([line["step"] for line in own], dtype=np.float64)
        series.append(charts.Series(phase, steps, np.array([line["loss"] for line in own], dtype=np.float64)))
    names = " and ".join(line.name for line in series)
    smooth = max(1, min(len(line.y) for line in series) // 25)
    chart = charts.curves(series, "step of the phase", "loss (cross-entropy)", f"Training loss of {names}", smooth)
    ends = "; ".join(f"{s.name} {s.y[:smooth].mean():.2f} → {s.y[-smooth:].mean():.2f}" for s in series)
    words = (
        f"Training loss, {ends} (means of the first and last logged steps); the faint line is each logged step, the "
        "strong one its running mean. The teacher learns the pseudo-labels, where there are any; the student "
        "learns the teacher's own masks on every pixel, made one class inside each proposal, so the two levels are not "
        "comparable. A curve that still falls steeply at its end wants more steps; one that never falls, a smaller "
        "learning rate."
    )
    return section("training", title, figure(chart, words, class_="chart"))


def masks_section(sources: Sources) -> Html:
    """Image, pseudo-label, teacher's and student's mask of the same view, and truth where it is known."""
    title = "Masks"
    if sources.run is None or sources.shown is None:
        return section("masks", title, absent("Masks are shown when both a run and frames are given."))
    frames, run = sources.shown, sources.run
    labels = LabelStore(frames.path, sources.options.labels)
    trained = {name: load_network(run, name) for name in NETWORKS}
    classes = trained["student"].classes
    models = {name: MaskModel(network, None).eval() for name, network in trained.items()}
    used = np.zeros(256, dtype=bool)
    rows = []
    for key in spread(frames.store.view_keys, sources.options.samples):
        rgb = decode(frames.store.view(key).image)
        shown = {"pseudo-labels": labels.mask(key), **{n: mask_of(m, rgb) for n, m in models.items()}}
        for mask in shown.values():
            used |= np.bincount(mask.ravel(), minlength=256) > 0
        rows.append(_row(key, rgb, shown, classes))
    intro = (
        f"Views of {'frames that were not trained on' if sources.test else 'the frames it was trained on'}. "
        "Pseudo-labels exist where the scanner saw something and no sky; hatched is unlabelled. A good student has "
        "crisp, unbroken things; wrong would be one class across different things, or frayed and shifted borders."
    )
    return section("masks", title, tag("p", intro), tables.legend(classes, used[: len(classes)]), *rows)


def mask_of(model: MaskModel, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The class ids that a network gives an image (uint8 (H, W, 3)); uint8 (H, W)."""
    with torch.inference_mode():
        mask, _ = model(torch.from_numpy(rgb.copy())[None])
    return np.asarray(mask[0].numpy(), dtype=np.uint8)


def _row(key: ViewKey, rgb: NDArray[np.uint8], masks: dict[str, NDArray[np.uint8]], classes: ClassTable) -> Html:
    where = f"{key.drive}, {key.camera}, {key.stamp_ns / 1e9:.1f} s"
    cells = [figure(pictures.embedded(rgb, f"Camera image, {where}", 560), "image")]
    for name, mask in masks.items():
        painted = pictures.mask_picture(mask, classes.palette())
        cells.append(figure(pictures.embedded(painted, f"{name}, {where}", 560, labels=True), name))
    return join([tag("h3", where), tag("div", *cells, class_="row masks")])
