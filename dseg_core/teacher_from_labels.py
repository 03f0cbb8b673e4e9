"""The teacher: a network trained on pseudo-labels, which cover only what the LiDAR saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.errors import DsegError
from dseg_core.image_codecs import decode
from dseg_core.label_store import LabelStore
from dseg_core.networks.checkpoint import digest, labels_digest
from dseg_core.networks.training import Fit, FitResult, fit
from dseg_core.records import UNLABELLED, View, ViewKey
from dseg_core.stage_options import TrainOptions
from dseg_core.store import FrameStore


class LabelledViews:
    """The views of a folder of frames that have a pseudo-label mask, as samples (see `networks.samples.Samples`).

    Attributes:
        keys: the views, sorted.
        classes: their table.

    Raises:
        DsegError: No view has a mask.
    """

    def __init__(self, frames: Path, labels: str) -> None:
        self._frames, self._labels = FrameStore(frames), LabelStore(frames, labels)
        self.classes = self._labels.classes
        self._last: tuple[int, View] | None = None
        masked = set(self._labels.keys())
        self.keys: Sequence[ViewKey] = [key for key in self._frames.view_keys if key in masked]
        if not self.keys:
            raise DsegError(
                "no view of these frames has a pseudo-label mask",
                where=self._labels.path,
                fix=f"Run `dseg label {frames} --name {labels}` first",
            )

    def __len__(self) -> int:
        return len(self.keys)

    def image(self, index: int) -> NDArray[np.uint8]:
        """RGB, uint8 (H, W, 3)."""
        return decode(self._view(index).image)

    def target(self, index: int) -> NDArray[np.uint8]:
        """Pseudo-classes, uint8 (H, W), 255 unlabelled."""
        mask = self._labels.mask(self.keys[index])
        known = mask[mask != UNLABELLED]
        if known.size and known.max() >= len(self.classes):
            raise DsegError(
                f"mask of {self.keys[index]} has class {known.max()}, classes.yaml only {len(self.classes)}",
                where=self._labels.path,
                fix="Run `dseg label` again",
            )
        return mask

    def regions(self, index: int) -> NDArray[np.uint16]:
        """Regions, uint16 (H, W): 0 none, 1 ground, 2.. objects."""
        return self._view(index).regions

    def _view(self, index: int) -> View:
        """The last view is kept, since its image and regions are asked for one after the other."""
        if self._last is None or self._last[0] != index:
            self._last = (index, self._frames.view(self.keys[index]))
        return self._last[1]

    def digests(self) -> dict[str, str]:
        """Digests of the labels (every mask) and of the frames (names of the views): what a run was trained on."""
        names = digest(*(str(key).encode() for key in self.keys))
        return {"labels": labels_digest(self._labels, self.keys), "frames": names, "classes": str(len(self.classes))}


def train_teacher(views: LabelledViews, out: Path, options: TrainOptions, inputs: str) -> FitResult:
    """Train `out/teacher.safetensors` by cross-entropy on labelled pixels only (Drive&Segment's first step).

    Args:
        views: Images and pseudo-labels.
        out: The run's folder.
        options: Of the whole run; `network`, `teacher`, `device` and `seed` count.
        inputs: Digest of the data.

    Raises:
        DsegError: See `networks.training.fit`.
    """
    what = Fit("teacher", options.network, len(views.classes), options.teacher, options.device, options.seed, inputs)
    return fit(what, views, out)


def regions_at(regions: NDArray[np.uint16], height: int, width: int) -> NDArray[np.uint16]:
    """Regions by nearest pixel centre at another size; uint16 (height, width)."""
    resized: NDArray[np.uint16] = cv2.resize(regions, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return resized
