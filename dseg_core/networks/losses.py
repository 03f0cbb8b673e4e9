"""Cross-entropy at stride 4, hard or soft, with weights that let small regions be heard."""

from __future__ import annotations

import torch
from torch import Tensor

from dseg_core.networks.augmentation import Batch
from dseg_core.records import UNLABELLED


def batch_loss(logits: Tensor, batch: Batch, balance: str, class_weights: Tensor) -> Tensor:
    """Weighted mean of the cross-entropy over labelled cells; 0 with gradient 0 where there is none.

    Args:
        logits: float (B, C, h, w).
        batch: Targets of the same h, w. Soft targets weigh each cell with their sum too (below 1 at the image's edge).
        balance: "none", "class" or "region".
        class_weights: float32 (C,), used by "class".
    """
    weights = cell_weights(batch.labels, batch.regions, balance, class_weights)  # (B, h, w)
    likelihood = torch.log_softmax(logits.float(), dim=1)
    if batch.soft is None:
        known = torch.where(batch.labels == UNLABELLED, 0, batch.labels)
        loss = -likelihood.gather(1, known[:, None])[:, 0]
    else:
        weights = weights * batch.soft.sum(dim=1)
        loss = -(batch.soft / batch.soft.sum(dim=1, keepdim=True).clamp(min=1e-6) * likelihood).sum(dim=1)
    return (loss * weights).sum() / weights.sum().clamp(min=1e-6)


def cell_weights(labels: Tensor, regions: Tensor, balance: str, class_weights: Tensor) -> Tensor:
    """How much each cell counts; 0 where unlabelled.

    Square roots, a compromise of ours: with plain pixels roads and buildings drown poles, with equal shares the noise
    of the smallest regions leads.

    Args:
        labels: int64 (B, h, w), 255 unlabelled.
        regions: int64 (B, h, w); cells of one image with one id are a region, whatever the id.
        balance: "none": 1. "class": the class's weight. "region": 1 / sqrt(labelled cells of the region).
        class_weights: float32 (C,).

    Returns:
        float32 (B, h, w).
    """
    labelled = labels != UNLABELLED
    weights = labelled.to(torch.float32)
    if balance == "class":
        weights[labelled] = class_weights[labels[labelled]]
    elif balance == "region":
        image = torch.arange(len(labels), device=labels.device)[:, None, None]
        keys = (image * 65536 + regions)[labelled]
        _, inverse, counts = torch.unique(keys, return_inverse=True, return_counts=True)
        weights[labelled] = counts.to(torch.float32).rsqrt()[inverse]
    return weights


def class_weights_of(mass: Tensor) -> Tensor:
    """1 / sqrt(share) of each class, scaled to a mean of 1 over all pixels; 0 for classes that never occur.

    Args:
        mass: float64 (C,), pixels of each class.
    """
    share = mass / mass.sum().clamp(min=1e-12)
    weights = torch.where(share > 0, share.clamp(min=1e-12).rsqrt(), torch.zeros_like(share))
    return (weights / (weights * share).sum().clamp(min=1e-12)).float()
