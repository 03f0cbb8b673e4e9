"""How the masks of an exported graph compare with torch's on recorded images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dseg_core.evaluation.metrics import count_pixels, score
from dseg_core.networks.mask_model import MaskModel
from dseg_core.progress import progress
from dseg_core.records import UNLABELLED
from dseg_core.runtime.backend import Backend


@dataclass(frozen=True)
class Agreement:
    """How exported masks compare with torch's in 32 bits, on recorded images.

    `pixels`: share with the same class, over all images; `worst`: of the worst image. `confidence`: largest difference
    of a confidence, of 255; `confidence_mean`: the mean one; None without one. `miou_loss`: 1 minus the mIoU with
    torch's masks taken for the truth, over the classes in them. `clear_margin`: what counts as clear: a best class so
    much more probable than the second; `clear`: share of such pixels; `clear_wrong`: share of them with another class.
    `labels_miou`, `labels_miou_torch`: mIoU against the labels, of the graph and of torch, where there are labels.
    """

    images: int
    pixels: float
    worst: float
    confidence: int | None
    miou_loss: float
    clear_margin: float
    clear: float
    clear_wrong: float
    labels_miou: float | None = None
    labels_miou_torch: float | None = None
    confidence_mean: float | None = None


@dataclass(frozen=True, eq=False)
class CheckImage:
    """One image and what it shows.

    `rgb`: uint8 (H, W, 3), of a size that the graph takes. `labels`: ids of the mask's classes, uint8 (H, W), 255 where
    there is none; or None.
    """

    rgb: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None = None


def compare(model: MaskModel, backend: Backend, images: Sequence[CheckImage], clear_margin: float = 0.2) -> Agreement:
    """Run torch and the exported graph on images.

    Args:
        model: In 32 bits, on the CPU.
        backend: Runs the graph. Where images of a size fill no whole batch of it, they come again.
        images: One or more.
        clear_margin: See `Agreement`.
    """
    classes, batch = len(model.classes), backend.contract.batch
    shares, differences, difference, clear, clear_wrong = [], list[float](), None, 0.0, 0.0
    alike, by_graph, by_torch = (np.zeros((classes + 1, classes), dtype=np.int64) for _ in range(3))
    for together in progress(_batches(images, batch), "comparing with torch", unit="batch"):
        filled = [together[i % len(together)].rgb for i in range(batch)]
        masks, confidences = backend.run(np.stack(filled))
        for number, image in enumerate(together):
            mask, pixels = masks[number], torch.from_numpy(image.rgb)[None]
            with torch.inference_mode():
                expected, *sure = (out[0].numpy() for out in model(pixels))
                certain = model.margin(pixels)[0].numpy() > clear_margin
            wrong = mask != expected
            shares.append(1 - float(wrong.mean()))
            clear += float(certain.mean())
            clear_wrong += float((wrong & certain).mean())
            alike += count_pixels(mask, expected, classes, classes)
            if sure and confidences is not None:
                apart = np.abs(confidences[number].astype(np.int16) - sure[0].astype(np.int16))
                difference = max(difference or 0, int(apart.max()))
                differences.append(float(apart.mean()))
            if image.labels is not None:
                by_graph += count_pixels(mask, image.labels, classes, classes)
                by_torch += count_pixels(expected, image.labels, classes, classes)
    labelled = any(image.labels is not None and (image.labels != UNLABELLED).any() for image in images)
    return Agreement(
        images=len(images),
        # Images of one size weigh by pixels, those of several each alike.
        pixels=float(np.mean(shares)),
        worst=min(shares),
        confidence=difference,
        miou_loss=1 - _miou(alike),
        clear_margin=clear_margin,
        clear=clear / len(images),
        clear_wrong=clear_wrong / clear if clear else 0.0,
        labels_miou=_miou(by_graph) if labelled else None,
        labels_miou_torch=_miou(by_torch) if labelled else None,
        confidence_mean=float(np.mean(differences)) if differences else None,
    )


def _batches(images: Sequence[CheckImage], batch: int) -> list[list[CheckImage]]:
    """Images of one size each, at most `batch` together."""
    by_size: dict[tuple[int, ...], list[CheckImage]] = {}
    for image in images:
        by_size.setdefault(image.rgb.shape, []).append(image)
    return [group[i : i + batch] for group in by_size.values() for i in range(0, len(group), batch)]


def _miou(counts: NDArray[np.int64]) -> float:
    classes = counts.shape[1]
    return score(counts, np.arange(classes), tuple(map(str, range(classes)))).miou
