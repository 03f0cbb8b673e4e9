"""Group the regions' features into pseudo-classes (k-means) and paint them as pseudo-labels.

Ground is class 0 and takes no part; objects are 1.., the largest cluster first; pixels without a region are 255.
`Clusters` is the model: what was fitted, able to label other frames alike.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dseg_core.class_table import ClassTable
from dseg_core.contact_sheet import write_sheets
from dseg_core.errors import DsegError
from dseg_core.features_from_frames import RegionFeatures, features_from_frames
from dseg_core.progress import Summary, progress, write_whole
from dseg_core.records import REGION_GROUND, UNLABELLED, ViewKey
from dseg_core.stage_options import FeatureOptions, LabelOptions
from dseg_core.store import FrameStore, LabelStore

_OUTLIER = 4.0  # deviations
_FILE = "clusters.safetensors"
_ARRAYS = ("mean", "scale", "limit", "centroids")


@dataclass(frozen=True, eq=False)
class Clusters:
    """Fitted clusters.

    `mean`, `scale`: float32 (C,), the standardisation with the blocks' weights in it; `limit`: float32 (C,), where
    standardised values are cut, or a few odd regions would claim clusters of their own; `centroids`: float32 (k, C);
    `settings`: the options that they come from, plain JSON types.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    limit: NDArray[np.float32]
    centroids: NDArray[np.float32]
    settings: dict[str, Any]

    def standardise(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (N, C) as k-means sees them; float32 (N, C)."""
        return np.asarray(np.clip((values - self.mean) * self.scale, -self.limit, self.limit), dtype=np.float32)

    def nearest(self, values: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Of raw features (N, C): cluster 0..k-1, int64 (N,), and squared distance to its centroid, float32 (N,)."""
        index = faiss.IndexFlatL2(self.centroids.shape[1])
        index.add(self.centroids)
        distance, cluster = index.search(self.standardise(values), 1)
        return cluster[:, 0].astype(np.int64), distance[:, 0]


def fit_clusters(features: RegionFeatures, options: LabelOptions) -> Clusters:
    """Standardise the blocks, weight them, and run k-means (faiss); the same seed gives the same clusters.

    Every column is standardised, but the image block as a whole, which keeps its cosine geometry. A block of weight w
    then has total variance w * w whatever its length.

    Raises:
        DsegError: There are fewer regions than clusters, or no block has a weight.
    """
    if len(features) < options.clusters:
        raise DsegError(
            f"{len(features)} regions of at least {options.features.min_pixels} px are too few for {options.clusters} "
            "clusters",
            fix="Lower --clusters or --features.min_pixels, or record more frames",
        )
    values = stacked(features)
    mean = values.mean(axis=0, dtype=np.float64)
    spread = values.std(axis=0, dtype=np.float64)
    scale, limit, start = np.zeros_like(mean), np.zeros_like(mean), 0
    for name, block in sorted(features.blocks.items()):
        part = slice(start, start + block.shape[1])
        deviation = spread[part]
        if name == "image":
            deviation = np.full_like(deviation, np.sqrt((deviation**2).mean()))
        weight = getattr(options.weights, name) / np.sqrt(block.shape[1])
        limit[part] = _OUTLIER * weight
        scale[part] = np.where(deviation > 1e-6, weight / np.maximum(deviation, 1e-6), 0.0)
        start = part.stop
    if not scale.any():
        raise DsegError("no block of features has a weight", where="weights", fix="Give --weights.shape 1")
    settings, places = fit_settings(options), np.zeros((0, len(mean)), dtype=np.float32)
    model = Clusters(mean.astype(np.float32), scale.astype(np.float32), limit.astype(np.float32), places, settings)
    ready = model.standardise(values)
    kmeans = faiss.Kmeans(
        ready.shape[1],
        options.clusters,
        niter=options.iterations,
        nredo=options.restarts,
        seed=options.seed + 1,  # faiss takes 0 for its own default
        min_points_per_centroid=1,
        max_points_per_centroid=options.max_points_per_centroid,
    )
    kmeans.train(ready)
    places = np.asarray(kmeans.centroids, dtype=np.float32)
    cluster, _ = replace(model, centroids=places).nearest(values)
    share = np.bincount(cluster, features.pixels, minlength=options.clusters)
    order = np.argsort(-share, kind="stable")
    return replace(model, centroids=np.ascontiguousarray(places[order]))


def stacked(features: RegionFeatures) -> NDArray[np.float32]:
    """All blocks side by side, in the order of their names; float32 (N, C)."""
    return np.concatenate([features.blocks[name] for name in sorted(features.blocks)], axis=1)


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


def fit_settings(options: LabelOptions) -> dict[str, Any]:
    """The options that clusters depend on, as plain JSON types."""
    settings = options.to_dict()
    for name in ("name", "clusters_from", "samples"):
        del settings[name]
    return settings


def write_clusters(clusters: Clusters, path: Path, signature: str) -> None:
    """Keep clusters; `signature` tells which run they are of."""
    arrays = {name: getattr(clusters, name) for name in _ARRAYS}
    metadata = {"settings": json.dumps(clusters.settings, sort_keys=True), "signature": signature}
    write_whole(path, save(arrays, metadata))


def read_clusters(folder: Path) -> tuple[Clusters, str]:
    """Clusters of a labels folder and their signature. Raises DsegError."""
    path = folder / _FILE
    if not path.is_file():
        raise DsegError("there are no clusters", where=folder, fix="Give a folder FRAMES/labels/NAME of `dseg label`")
    try:
        with safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in _ARRAYS}
            metadata = file.metadata()
        return Clusters(**arrays, settings=json.loads(metadata["settings"])), metadata["signature"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DsegError(f"is broken: {error}", where=path, fix="Run `dseg label` again") from None


def label(frames: Path, options: LabelOptions) -> Summary:
    """Measure regions, fit or take clusters, write pseudo-labels, classes.yaml and contact sheets.

    summary.json comes last; it is taken away while labels change, so a folder that has it is whole.

    Raises:
        DsegError: No frames, too few regions, or clusters that do not fit these features.
    """
    store, labels = FrameStore(frames), LabelStore(frames, options.name)
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
        raise DsegError(f"clusters are of {len(model.mean)} features, the regions have {values.shape[1]}", where=_FILE)
    return model.nearest(values)


def _claim(folder: Path, model: Clusters, features: RegionFeatures, options: LabelOptions) -> str:
    """Make the folder this run's: drop what other clusters painted, keep names given by hand; tells what it did."""
    content = hashlib.sha256(model.centroids.tobytes() + model.mean.tobytes() + model.scale.tobytes())
    content.update(features.region.tobytes() + features.view.tobytes() + repr(features.keys).encode())
    signature = content.hexdigest()
    (folder / "summary.json").unlink(missing_ok=True)
    same = (folder / _FILE).is_file() and read_clusters(folder)[1] == signature
    said = ""
    names = folder / "classes.yaml"
    wanted = ClassTable.of_clusters(len(model.centroids))
    if options.clusters_from is not None:
        wanted = ClassTable.read(options.clusters_from / "classes.yaml")
    if not same:
        shutil.rmtree(folder / "masks", ignore_errors=True)
        (folder / _FILE).unlink(missing_ok=True)
        if names.is_file():
            names.replace(folder / "classes.previous.yaml")
            said = " Clusters changed: the former classes.yaml is kept as classes.previous.yaml."
    if not names.is_file():
        wanted.write(names)
    write_clusters(model, folder / _FILE, signature)
    return said


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
        f"Labelled {len(features)} regions of {views} views with {len(model.centroids)} clusters ({source}) from "
        f"{blocks}; {'features were measured before; ' if kept else ''}{written} masks written, {views - written} were "
        f"there. Look at {labels.path / 'contact_sheet.png'} and name the clusters in "
        f"{labels.path / 'classes.yaml'}.{said}"
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
