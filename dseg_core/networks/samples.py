"""What a network learns from: images with targets, brought to the network's size and kept in memory while they fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dseg_core.progress import progress


class Samples(Protocol):
    """Images and targets by index. Must give the same arrays for the same index each time it is asked."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def image(self, index: int) -> NDArray[np.uint8]:
        """RGB, uint8 (H, W, 3), of any size."""
        ...

    def target(self, index: int) -> NDArray[Any]:
        """Classes, uint8 (H, W), 255 unlabelled, of any size; or probabilities, float16 (C, h, w).

        Both cover the same field of view as the image.
        """
        ...

    def regions(self, index: int) -> NDArray[np.uint16] | None:
        """Region ids, uint16 (H, W), of any size, or None: then each class of an image counts as one region."""
        ...


@dataclass(frozen=True, eq=False)
class Sample:
    """One sample in memory. `image`: uint8 (3, h, w). `target`: uint8 (h', w') or float16 (C, h', w').

    `regions`: int32 (h', w'). All cover the same field of view.
    """

    image: Tensor
    target: Tensor
    regions: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(t.numel() * t.element_size() for t in (self.image, self.target, self.regions))


class SampleCache:
    """Samples at the network's size. Those beyond `limit` bytes are made again at every call.

    Images are resized by plain bilinear interpolation, as the exported graph does it, so that training and use see the
    same pixels; classes and regions by nearest pixel centre.
    """

    def __init__(self, samples: Samples, height: int, width: int, limit: float) -> None:
        self._samples, self._height, self._width = samples, height, width
        self._kept: dict[int, Sample] = {}
        self._room = limit

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        if index in self._kept:
            return self._kept[index]
        sample = self._make(index)
        if sample.nbytes <= self._room:
            self._room -= sample.nbytes
            self._kept[index] = sample
        return sample

    def preload(self, what: str) -> None:
        """Fill the memory, so that the training's rate is even; `what` names the bar."""
        for index in progress(range(len(self)), f"{what}: reading", unit="image"):
            self[index]
            if index not in self._kept:
                break

    def class_mass(self, classes: int) -> NDArray[np.float64]:
        """Pixels (or summed probability) of each class over all samples, as shares of an image; float64 (classes,)."""
        total = np.zeros(classes)
        for index in range(len(self)):
            target = self[index].target
            if target.ndim == 2:
                total += np.bincount(target.flatten().numpy(), minlength=256)[:classes] / target.numel()
            else:
                total += target.float().mean(dim=(1, 2)).double().numpy()
        return total

    def _make(self, index: int) -> Sample:
        size = (self._width, self._height)  # OpenCV's order
        image = cv2.resize(self._samples.image(index), size, interpolation=cv2.INTER_LINEAR)
        target = self._samples.target(index)
        if target.ndim == 2 and target.size > self._height * self._width:
            target = cv2.resize(target, size, interpolation=cv2.INTER_NEAREST_EXACT)
        regions = self._samples.regions(index)
        if regions is None:
            regions = (target if target.ndim == 2 else target.argmax(axis=0)).astype(np.uint16)
        shape = target.shape[-2:]
        if regions.shape != shape:
            regions = cv2.resize(regions, (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST_EXACT)
        return Sample(
            torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            torch.from_numpy(np.ascontiguousarray(target)),
            torch.from_numpy(regions.astype(np.int32)),
        )
