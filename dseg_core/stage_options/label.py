"""Options of `dseg label`: features and clusters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dseg_core.options import Options, option


@dataclass(frozen=True)
class FeatureWeights(Options):
    """How much each block of features counts in k-means; a block of weight w has variance w * w in all."""

    image: float = option(1.0, "weight of the backbone's features", minimum=0)
    shape: float = option(1.0, "weight of the 3D descriptors", minimum=0)
    color: float = option(0.6, "weight of colour and texture", minimum=0)


@dataclass(frozen=True)
class FeatureOptions(Options):
    """What is measured of each region."""

    blocks: tuple[str, ...] = option(
        ("shape", "color"),
        "blocks of features; image separates best but needs a backbone's weights",
        choices=("image", "shape", "color"),
    )
    min_pixels: int = option(40, "smaller regions stay unlabelled", unit="px", minimum=1)
    backbone: str = option("vit_small_patch16_224.dino", "image: timm's name of the backbone")
    backbone_weights: Path | None = option(
        None, "image: the backbone's .safetensors file; none takes timm's weights from the hub"
    )
    crop_size: int = option(224, "image: side that a region's crop is resized to", unit="px", minimum=16)
    crop_margin: float = option(0.1, "image: margin around a region, of its longer side", minimum=0, maximum=2)
    batch: int = option(32, "image: crops at a time", minimum=1)
    device: str = option("auto", "image: torch device; auto takes a GPU where there is one")


@dataclass(frozen=True)
class LabelOptions(Options):
    """`dseg label`: features, clusters, pseudo-labels."""

    name: str = option("default", "the labels' folder under FRAMES/labels/")
    clusters: int = option(30, "pseudo-classes besides ground (k of k-means)", minimum=1, maximum=253)
    seed: int = option(0, "seed of k-means", minimum=0)
    clusters_from: Path | None = option(
        None, "a labels folder of other frames whose clusters are used instead of fitting"
    )
    features: FeatureOptions = FeatureOptions()
    weights: FeatureWeights = FeatureWeights()
    iterations: int = option(50, "k-means: iterations", minimum=1)
    restarts: int = option(5, "k-means: starts, of which the best is kept", minimum=1)
    max_points_per_centroid: int = option(
        10000, "k-means: with more regions than this times k, it fits on a sample", minimum=1
    )
    samples: int = option(24, "crops on a cluster's contact sheet", minimum=1, maximum=200)
