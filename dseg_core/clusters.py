"""Clusters of region features: fitted by k-means, kept in a file, able to label other regions alike."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from dseg_core.errors import DsegError
from dseg_core.features_from_frames import RegionFeatures
from dseg_core.progress import write_whole
from dseg_core.stage_options import LabelOptions
from dseg_core.words import count

CLUSTERS_FILE = "clusters.safetensors"
_ARRAYS = ("mean", "scale", "limit", "centroids")
_OUTLIER = 4.0  # deviations


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
            f"{count(len(features), 'region')} of at least {options.features.min_pixels} px are too few for "
            f"{count(options.clusters, 'cluster')}",
            fix="Lower --clusters or --features.min-pixels, or record more frames",
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
    path = folder / CLUSTERS_FILE
    if not path.is_file():
        raise DsegError("there are no clusters", where=folder, fix="Give a folder FRAMES/labels/NAME of `dseg label`")
    try:
        with safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in _ARRAYS}
            metadata = file.metadata()
        return Clusters(**arrays, settings=json.loads(metadata["settings"])), metadata["signature"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DsegError(f"is broken: {error}", where=path, fix="Run `dseg label` again") from None
