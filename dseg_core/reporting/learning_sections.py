"""The report's sections about training and the masks it leads to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dseg_core.class_table import ClassEntry, ClassTable
from dseg_core.errors import DsegError
from dseg_core.evaluation.stored_scores import evaluation_folder
from dseg_core.evaluation.truth import open_truth
from dseg_core.image_codecs import decode
from dseg_core.label_store import LabelStore
from dseg_core.networks.checkpoint import load_network
from dseg_core.networks.curves import read_curves
from dseg_core.networks.mask_model import MaskModel
from dseg_core.records import ViewKey
from dseg_core.reporting import charts, pictures, tables
from dseg_core.reporting.matching import overlap_of
from dseg_core.reporting.page import Html, absent, figure, join, section, tag
from dseg_core.reporting.selection import moment, spread
from dseg_core.reporting.sources import Sources, read_summary

NETWORKS = ("teacher", "student")


def training_section(run: Path | None) -> Html:
    """Loss over steps of teacher and student."""
    title = "Training"
    if run is None:
        return section("training", title, absent("No run was given, so there are no training curves."))
    lines = read_curves(run)
    if not lines:
        raise DsegError("holds no training curves", where=run, fix="Train the run again.")
    series = []
    for phase in dict.fromkeys(str(line["phase"]) for line in lines):
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
    frames, overlap = sources.shown, overlap_of(sources)
    labels = LabelStore(frames.path, sources.options.labels)
    labelled = frozenset(labels.keys())
    trained = {name: load_network(sources.run, name) for name in NETWORKS}
    classes = trained["student"].classes
    models = {name: MaskModel(network, apart(classes)).eval() for name, network in trained.items()}
    chosen = spread(frames.store.view_keys, sources.options.samples)
    truth = truth_of(sources, chosen)
    own = classes.painted()
    used = np.zeros(256, dtype=bool)
    rows = []
    for key in chosen:
        rgb = decode(frames.store.view(key).image)
        masks = {"pseudo-labels": labels.mask(key)} if key in labelled else {}
        masks |= {name: mask_of(model, rgb) for name, model in models.items()}
        for mask in masks.values():
            used |= np.bincount(mask.ravel(), minlength=256) > 0
        palette = own.palette() if overlap is None else overlap.palette(own)
        painted = {name: pictures.mask_picture(mask, palette) for name, mask in masks.items()}
        if key in truth and overlap is not None:
            painted["student, as it comes"] = pictures.mask_picture(masks["student"], own.palette())
            painted["truth"] = pictures.mask_picture(truth[key], overlap.truth.palette())
        rows.append(_row(moment(frames.store, key), rgb, painted))
    names = np.zeros(256, dtype=bool)
    names[own.name_ids()[used[: len(own)]]] = True
    legend = tables.legend(own.merged(), names, used[255]) if overlap is None else tables.legend(overlap.truth)
    intro = (
        f"Views of {'frames that were not trained on' if sources.test else 'the frames it was trained on'}. "
        "Pseudo-labels exist where the scanner saw something, so never on sky; hatched is unlabelled. Good masks have "
        "crisp, unbroken things; wrong would be one class across different things, or frayed and shifted borders."
    )
    if overlap is not None:
        intro += (
            " Here clusters are coloured by the class of the truth that each covers most in these frames, as in the "
            "confusion matrix, to compare by eye: the network itself knows no names, and 'as it comes' is its mask in "
            "the clusters' own colours."
        )
    return section("masks", title, tag("p", intro), legend, *rows)


def truth_of(sources: Sources, keys: Sequence[ViewKey]) -> dict[ViewKey, NDArray[np.uint8]]:
    """The truth of some views, uint8 (H, W) each, where the run was scored on their frames; else empty."""
    if sources.run is None or sources.shown is None or overlap_of(sources) is None:
        return {}
    path = sources.shown.path
    options = read_summary(evaluation_folder(sources.run, path))["options"]
    data = open_truth(path, options["labels"], [Path(bag) for bag in options["truth"]])
    names = {str(key): key for key in keys}
    views = (view for drive in dict.fromkeys(key.drive for key in keys) for view in data.views(drive))
    return {names[view.name]: view.truth for view in views if view.name in names}


def apart(classes: ClassTable) -> ClassTable:
    """The same classes with names of their own, so that the model does not merge what shares a name."""
    rows = [ClassEntry(entry.id, f"class {entry.id}", entry.color) for entry in classes.entries]
    return ClassTable(tuple(rows))


def mask_of(model: MaskModel, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The class ids that a network gives an image (uint8 (H, W, 3)); uint8 (H, W)."""
    with torch.inference_mode():
        mask, _ = model(torch.from_numpy(rgb.copy())[None])
    return np.asarray(mask[0].numpy(), dtype=np.uint8)


def _row(where: str, rgb: NDArray[np.uint8], painted: dict[str, NDArray[np.uint8]]) -> Html:
    cells = [figure(pictures.embedded(rgb, f"Camera image, {where}", 640), "image")]
    for name, picture in painted.items():
        cells.append(figure(pictures.embedded(picture, f"{name}, {where}", 640, labels=True), name))
    columns = 3 if len(cells) % 3 == 0 else 2
    return join([tag("h3", where), tag("div", *cells, class_=f"row by{columns}")])
