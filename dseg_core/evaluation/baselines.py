"""What must be beaten: k-means on colour alone, and on the same image features as the labels but without LiDAR."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray

from dseg_core.descriptors import color_descriptors
from dseg_core.errors import DsegError

if TYPE_CHECKING:
    from dseg_core.region_backbone import RegionBackbone

SIGMA = 3.0
"""Of the Gaussian window in which Lab mean and deviation are taken, in pixels."""

CELL = 16
"""Side of the squares that stand in for regions where there is no LiDAR, in pixels."""

_PIXELS_PER_IMAGE, _PIXELS = 4_000, 400_000
_ITERATIONS = 25


def colour_features(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Local mean and standard deviation of CIE Lab around every pixel.

    Args:
        rgb: uint8 (H, W, 3).

    Returns:
        float32 (H, W, 6): mean L, a, b, then deviation L, a, b, in Lab units (L 0..100).
    """
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    mean = cv2.GaussianBlur(lab, (0, 0), SIGMA)
    square = cv2.GaussianBlur(lab * lab, (0, 0), SIGMA)
    deviation = np.sqrt(np.maximum(square - mean * mean, 0))
    features: NDArray[np.float32] = np.concatenate((mean, deviation), axis=2)
    return features


def cell_features(rgb: NDArray[np.uint8], backbone: RegionBackbone | None) -> NDArray[np.float32]:
    """The features that `dseg label` takes from images, of squares of CELL pixels instead of LiDAR's regions.

    Args:
        rgb: uint8 (H, W, 3).
        backbone: The labels' own, where they used one; its features are appended to those of colour and texture.

    Returns:
        float32 (ceil(H / CELL), ceil(W / CELL), C).
    """
    height, width = rgb.shape[:2]
    rows, columns = -(-height // CELL), -(-width // CELL)
    y, x = np.mgrid[:height, :width] // CELL
    ids = np.arange(rows * columns)
    cells = y * columns + x  # (H, W)
    features = color_descriptors(rgb, cells, ids)
    if backbone is not None:
        left, top = ids % columns * CELL, ids // columns * CELL
        boxes = np.stack([left, top, np.minimum(left + CELL, width), np.minimum(top + CELL, height)], axis=1)
        features = np.concatenate([features, backbone(rgb, cells, ids, boxes)], axis=1)
    return features.reshape(rows, columns, -1)


@dataclass(frozen=True, eq=False)
class FeatureClusters:
    """k-means over features of places. `centroids`: float32 (k, C), in units of `scale`; `scale`: float32 (C,)."""

    centroids: NDArray[np.float32]
    scale: NDArray[np.float32]

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The nearest cluster of every place: float32 (h, w, C) -> uint8 (h, w) of ids 0..k-1."""
        points = features.reshape(-1, features.shape[2]) / self.scale
        index = faiss.IndexFlatL2(points.shape[1])
        index.add(self.centroids)
        _, nearest = index.search(np.ascontiguousarray(points), 1)
        mask: NDArray[np.uint8] = nearest[:, 0].astype(np.uint8).reshape(features.shape[:2])
        return mask


class FeatureSample:
    """Places gathered from the fitting images: the same number from every image, at most about 400 000 in all."""

    def __init__(self, images: int, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._per_image = min(_PIXELS_PER_IMAGE, max(_PIXELS // max(images, 1), 1))
        self._parts: list[NDArray[np.float32]] = []

    def add(self, features: NDArray[np.float32]) -> None:
        """Draw places of one image: float32 (h, w, C)."""
        flat = features.reshape(-1, features.shape[2])
        chosen = self._random.choice(len(flat), min(self._per_image, len(flat)), replace=False)
        self._parts.append(flat[chosen])

    def fit(self, clusters: int, seeds: Iterable[int]) -> tuple[FeatureClusters, ...]:
        """Run k-means once per seed, every feature divided by its deviation over the sample.

        Raises:
            DsegError: Fewer sampled places than clusters.
        """
        points = np.concatenate(self._parts) if self._parts else np.empty((0, 1), np.float32)
        if len(points) < clusters:
            raise DsegError(f"the fitting images have {len(points)} places, fewer than {clusters} clusters")
        scale = np.maximum(points.std(axis=0), 1e-6).astype(np.float32)
        points = np.ascontiguousarray(points / scale)
        fitted = []
        for seed in seeds:
            # Neither bound of faiss' subsampling may bite: the sample is the sample.
            kmeans = faiss.Kmeans(
                points.shape[1],
                clusters,
                niter=_ITERATIONS,
                seed=seed + 1,
                min_points_per_centroid=1,
                max_points_per_centroid=len(points),
            )
            kmeans.train(points)
            fitted.append(FeatureClusters(np.array(kmeans.centroids, dtype=np.float32), scale))
        return tuple(fitted)
