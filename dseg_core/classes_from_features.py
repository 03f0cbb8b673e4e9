"""Group the regions' features into pseudo-classes (k-means) and paint them as pseudo-labels.

Ground is class 0 and takes no part; objects are 1.., the largest cluster first; pixels without a region are 255.
What was fitted (`clusters`) can label other frames alike.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dseg_core.class_table import ClassTable
from dseg_core.clusters import CLUSTERS_FILE, Clusters, fit_clusters, read_clusters, stacked, write_clusters
from dseg_core.contact_sheet import write_sheets
from dseg_core.errors import DsegError
from dseg_core.features_from_frames import RegionFeatures, features_from_frames
from dseg_core.label_store import LabelStore
from dseg_core.progress import Summary, check_writable, progress
from dseg_core.records import REGION_GROUND, UNLABELLED, ViewKey
from dseg_core.stage_options import FeatureOptions, LabelOptions
from dseg_core.store import FrameStore
from dseg_core.words import count


def paint(regions: NDArray[np.uint16], ids: NDArray[np.integer], clusters: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Pseudo-labels of a view: uint8 (H, W), 0 ground, 1.. clusters, 255 without a region or too small a one.

    Args:
        regions: uint16 (H, W).
        ids: (M,) labelled regions.
        clusters: (M,) their clusters, from 0.
    """
    table = np.full(int(max(regions.max(), ids.max(initial=1))) + 1, UNLABELLED, dtype=np.uint8)
    table[REGION_GROUND] = 0
    table[ids] = clusters + 1
    return table[regions]


_FEW = 10  # regions per cluster


def label(frames: Path, options: LabelOptions) -> Summary:
    """Measure regions, fit or take clusters, write pseudo-labels, classes.yaml and contact sheets.

    summary.json comes last; it is taken away while labels change, so a folder that has it is whole.

    Raises:
        DsegError: No frames, too few regions, or clusters that do not fit these features.
    """
    store, labels = FrameStore(frames), LabelStore(frames, options.name)
    check_writable(labels.path)
    model = None
    if options.clusters_from is not None:
        if options.clusters_from.resolve() == labels.path.resolve():
            raise DsegError("are the labels to write", where=options.clusters_from, fix="Give another --name")
        model, _ = read_clusters(options.clusters_from)
    used = options.features if model is None else FeatureOptions.from_mapping(model.settings["features"])
    features, kept = features_from_frames(store, labels.path, used)
    if model is None:
        model = fit_clusters(features, options)
    fresh = _claim(labels.path, model, features, options)
    cluster, distance = _assign(model, features)
    written = _paint_all(store, labels, features, cluster)
    write_sheets(store, labels.path, labels.classes, features, cluster, distance, options.samples)
    return _summary(labels, options, model, features, cluster, kept, written, fresh).write(
        labels.path, "label", options
    )


def _assign(model: Clusters, features: RegionFeatures) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    values = stacked(features) if len(features) else np.zeros((0, len(model.mean)), dtype=np.float32)
    if values.shape[1] != len(model.mean):
        raise DsegError(
            f"clusters are of {len(model.mean)} features, the regions have {values.shape[1]}", where=CLUSTERS_FILE
        )
    return model.nearest(values)


def _claim(folder: Path, model: Clusters, features: RegionFeatures, options: LabelOptions) -> str:
    """Make the folder this run's: drop what other clusters painted, keep names given by hand; tells what it did."""
    content = hashlib.sha256(model.centroids.tobytes() + model.mean.tobytes() + model.scale.tobytes())
    content.update(features.region.tobytes() + features.view.tobytes() + repr(features.keys).encode())
    signature = content.hexdigest()
    (folder / "summary.json").unlink(missing_ok=True)
    same = (folder / CLUSTERS_FILE).is_file() and read_clusters(folder)[1] == signature
    said = ""
    names = folder / "classes.yaml"
    wanted = ClassTable.of_clusters(len(model.centroids))
    if options.clusters_from is not None:
        wanted = ClassTable.read(options.clusters_from / "classes.yaml")
    if not same:
        shutil.rmtree(folder / "masks", ignore_errors=True)
        (folder / CLUSTERS_FILE).unlink(missing_ok=True)
        if names.is_file():
            said = _keep_names(names)
    if not names.is_file():
        wanted.write(names)
    write_clusters(model, folder / CLUSTERS_FILE, signature)
    return said


def _keep_names(names: Path) -> str:
    """Put names that a person gave aside, under a name of their own; says so."""
    try:
        table = ClassTable.read(names)
        if table == ClassTable.of_clusters(len(table) - 1):
            names.unlink()
            return ""
    except DsegError:
        pass  # half edited: kept, too
    numbers = itertools.count(1)
    kept = next(p for n in numbers if not (p := names.with_name(f"classes.previous_{n}.yaml")).exists())
    names.replace(kept)
    return f" Clusters changed: the former classes.yaml is kept as {kept.name}."


def _paint_all(store: FrameStore, labels: LabelStore, features: RegionFeatures, cluster: NDArray[np.int64]) -> int:
    """Write the masks that are missing; returns how many."""
    done = set(labels.keys())
    index = {key: i for i, key in enumerate(features.keys)}
    order = np.argsort(features.view, kind="stable")
    bounds = np.searchsorted(features.view[order], np.arange(len(features.keys) + 1))

    def rows_of(key: ViewKey) -> NDArray[np.int64]:
        i = index[key]
        return np.asarray(order[bounds[i] : bounds[i + 1]])

    missing = [key for key in store.view_keys if key not in done]
    for key in progress(missing, "pseudo-labels", total=len(missing), unit="view"):
        rows = rows_of(key)
        labels.write_mask(key, paint(store.view(key).regions, features.region[rows], cluster[rows]))
    return len(missing)


def _summary(
    labels: LabelStore,
    options: LabelOptions,
    model: Clusters,
    features: RegionFeatures,
    cluster: NDArray[np.int64],
    kept: bool,
    written: int,
    said: str,
) -> Summary:
    regions = np.bincount(cluster, minlength=len(model.centroids))
    pixels = np.bincount(cluster, features.pixels, minlength=len(model.centroids))
    blocks = ", ".join(f"{name} (weight {model.settings['weights'][name]:g})" for name in sorted(features.blocks))
    source = f"the clusters of {options.clusters_from}" if options.clusters_from else f"k-means, seed {options.seed}"
    views = len(features.keys)
    text = (
        f"Labelled {count(len(features), 'region')} of {count(views, 'view')} with "
        f"{count(len(model.centroids), 'cluster')} ({source}) from "
        f"{blocks}; {'features were measured before; ' if kept else ''}{count(written, 'mask')} written, "
        f"{views - written} were "
        f"there. Look at {labels.path / 'contact_sheet.png'} and name the clusters in "
        f"{labels.path / 'classes.yaml'}.{said}"
    )
    if len(features) < _FEW * len(model.centroids):
        text += (
            f"\nWARNING: {count(len(features), 'region')} are few for {count(len(model.centroids), 'cluster')}, which "
            "will hold single things rather than kinds. Record more frames, or lower --clusters."
        )
    results = {
        "regions": len(features),
        "views": views,
        "clusters": len(model.centroids),
        "blocks": {name: int(values.shape[1]) for name, values in sorted(features.blocks.items())},
        "settings": model.settings,
        "regions_per_cluster": regions.tolist(),
        "pixels_per_cluster": pixels.astype(int).tolist(),
        "masks_written": written,
        "max_points_per_centroid": model.settings["max_points_per_centroid"],
    }
    return Summary(text, results)
