"""What the networks must beat: k-means on colour alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray

from dseg_core.errors import DsegError

SIGMA = 3.0
"""Of the Gaussian window in which Lab mean and deviation are taken, in pixels."""

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


@dataclass(frozen=True, eq=False)
class ColourBaseline:
    """k-means over `colour_features`. `centroids`: float32 (k, 6), in units of `scale`; `scale`: float32 (6,)."""

    centroids: NDArray[np.float32]
    scale: NDArray[np.float32]

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The nearest cluster of every pixel: float32 (H, W, 6) -> uint8 (H, W) of ids 0..k-1."""
        points = features.reshape(-1, features.shape[2]) / self.scale
        index = faiss.IndexFlatL2(points.shape[1])
        index.add(self.centroids)
        _, nearest = index.search(np.ascontiguousarray(points), 1)
        mask: NDArray[np.uint8] = nearest[:, 0].astype(np.uint8).reshape(features.shape[:2])
        return mask


class ColourSample:
    """Pixels gathered from the fitting images: the same number from every image, at most about 400 000 in all."""

    def __init__(self, images: int, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._per_image = min(_PIXELS_PER_IMAGE, max(_PIXELS // max(images, 1), 1))
        self._parts: list[NDArray[np.float32]] = []

    def add(self, features: NDArray[np.float32]) -> None:
        """Draw pixels of one image: float32 (H, W, 6)."""
        flat = features.reshape(-1, features.shape[2])
        chosen = self._random.choice(len(flat), min(self._per_image, len(flat)), replace=False)
        self._parts.append(flat[chosen])

    def fit(self, clusters: int, seeds: Iterable[int]) -> tuple[ColourBaseline, ...]:
        """Run k-means once per seed, every feature divided by its deviation over the sample.

        Raises:
            DsegError: Fewer sampled pixels than clusters.
        """
        points = np.concatenate(self._parts) if self._parts else np.empty((0, 6), np.float32)
        if len(points) < clusters:
            raise DsegError(f"the fitting images have {len(points)} pixels, fewer than {clusters} clusters")
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
            fitted.append(ColourBaseline(np.array(kmeans.centroids, dtype=np.float32), scale))
        return tuple(fitted)
