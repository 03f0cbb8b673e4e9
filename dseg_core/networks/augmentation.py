"""Random views of images, and their targets seen through the same view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own habit)
from torch import Tensor

from dseg_core.networks.build import MEAN, STD, STRIDE
from dseg_core.networks.samples import Sample
from dseg_core.records import UNLABELLED
from dseg_core.stage_options import AugmentationOptions


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step learns from.

    `images`: float32 (B, 3, h, w), normalised. `labels`: int64 (B, h/4, w/4), 255 unlabelled; for soft targets the
    likeliest class. `soft`: float32 (B, C, h/4, w/4) or None; probabilities, all zero outside the image. `regions`:
    int64 (B, h/4, w/4).
    """

    images: Tensor
    labels: Tensor
    soft: Tensor | None
    regions: Tensor


def draw_views(count: int, options: AugmentationOptions, generator: torch.Generator) -> Tensor:
    """Random mirroring, scale and crop, as maps from output to input.

    Returns:
        float32 (count, 2, 3) in the coordinates of `torch.nn.functional.affine_grid`: -1..1 from edge to edge, so one
        map serves arrays of any resolution.
    """
    draws = torch.rand(count, 4, generator=generator)
    low, high = math.log(options.smallest), math.log(options.largest)
    step = torch.exp(-(low + (high - low) * draws[:, 0]))  # input per output
    shift = (2 * draws[:, 1:3] - 1) * (1 - step).abs()[:, None]
    mirror = torch.where(draws[:, 3] < options.flip, -1.0, 1.0)
    views = torch.zeros(count, 2, 3)
    views[:, 0, 0], views[:, 1, 1], views[:, :, 2] = mirror * step, step, shift
    return views


def make_batch(
    samples: Sequence[Sample], options: AugmentationOptions, generator: torch.Generator, device: torch.device
) -> Batch:
    """Look at each sample through its own random view; targets at stride 4, unlabelled outside the image."""
    views = draw_views(len(samples), options, generator).to(device)
    tints = torch.rand(len(samples), 3, generator=generator).to(device)
    images = torch.stack([s.image for s in samples]).to(device).float() / 255  # (B, 3, h, w)
    height, width = images.shape[-2:]
    images = normalise(vary_colour(images, options.colour * (2 * tints - 1)))
    images = look(images, views, (height, width), "bilinear")
    cells = (height // STRIDE, width // STRIDE)
    targets = torch.stack([s.target for s in samples]).to(device)
    regions = torch.stack([s.regions for s in samples]).to(device)
    regions = look(regions[:, None].float(), views, cells, "nearest")[:, 0].long()
    if targets.ndim == 3:
        # One is added, and taken off again, so that the zeros outside the image can be told from class 0.
        found = look(targets[:, None].float() + 1, views, cells, "nearest")[:, 0].long() - 1
        return Batch(images, torch.where(found < 0, UNLABELLED, found), None, regions)
    soft = look(targets.float(), views, cells, "bilinear")  # (B, C, h/4, w/4)
    labels = torch.where(soft.sum(dim=1) > 0, soft.argmax(dim=1), UNLABELLED)
    return Batch(images, labels, soft, regions)


def look(arrays: Tensor, views: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Sample float32 (B, K, H, W) through `views` at `size` (rows, columns); zero outside."""
    grid = F.affine_grid(views, [len(arrays), 1, *size], align_corners=False)
    return F.grid_sample(arrays, grid, mode=mode, padding_mode="zeros", align_corners=False)


def normalise(images: Tensor) -> Tensor:
    """R, G, B in 0..1, float32 (B, 3, h, w), to the network's input."""
    mean = torch.tensor(MEAN, device=images.device)[None, :, None, None]
    std = torch.tensor(STD, device=images.device)[None, :, None, None]
    return (images - mean) / std


def vary_colour(images: Tensor, amounts: Tensor) -> Tensor:
    """Change brightness, contrast and saturation of images in 0..1 by `amounts`, float32 (B, 3), -1..1; 0 is none."""
    factors = (1 + amounts)[:, :, None, None, None]  # (B, 3, 1, 1, 1)
    images = images * factors[:, 0]
    grey = images.mean(dim=(1, 2, 3), keepdim=True)
    images = grey + (images - grey) * factors[:, 1]
    grey = images.mean(dim=1, keepdim=True)
    return (grey + (images - grey) * factors[:, 2]).clamp(0, 1)
