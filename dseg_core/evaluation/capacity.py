"""The capacity row: what the same network reaches in the same steps when it learns from the truth."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.evaluation.ladder import CAPACITY, Predictor, network_predictor
from dseg_core.evaluation.truth import TruthData, TruthView
from dseg_core.networks.checkpoint import RunDescription, digest, load_network
from dseg_core.networks.training import train_on_masks
from dseg_core.progress import progress
from dseg_core.stage_options import TrainOptions

_WEIGHTS = "capacity"


class TruthSamples:
    """Truth as training samples, held in memory at the network's size. Implements `networks.samples.Samples`."""

    def __init__(self, views: Iterable[TruthView], height: int, width: int) -> None:
        size = (width, height)  # OpenCV's order
        self._images: list[NDArray[np.uint8]] = []
        self._targets: list[NDArray[np.uint8]] = []
        for view in views:
            self._images.append(cv2.resize(view.rgb, size, interpolation=cv2.INTER_LINEAR))
            self._targets.append(cv2.resize(view.truth, size, interpolation=cv2.INTER_NEAREST_EXACT))

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int) -> NDArray[np.uint8]:
        """RGB, uint8 (height, width, 3)."""
        return self._images[index]

    def target(self, index: int) -> NDArray[np.uint8]:
        """Truth classes, uint8 (height, width), 255 not scored."""
        return self._targets[index]

    def regions(self, index: int) -> None:
        """No regions: each class of an image counts as one."""


def capacity_predictor(run: Path, data: TruthData, drives: tuple[str, ...], out: Path) -> Predictor:
    """Train the run's student network on the truth of some drives, with the student's options, and load it.

    Args:
        run: The run whose network and student options are taken.
        data: Images with truth.
        drives: Those to learn from; never those that are scored.
        out: Folder of this training; an interrupted one goes on, a finished one is taken as it is.

    Raises:
        DsegError: See `train_on_masks`.
    """
    described = RunDescription.read(run)
    views = progress(
        (view for drive in drives for view in data.views(drive)),
        "capacity: reading truth",
        total=sum(map(data.count, drives)),
        unit="image",
    )
    samples = TruthSamples(views, described.network.height, described.network.width)
    inputs = digest(*(samples.image(i).tobytes() + samples.target(i).tobytes() for i in range(len(samples))))
    options = TrainOptions.from_mapping(described.options, where=run / "run.json")
    train_on_masks(samples, data.classes, out, options, name=_WEIGHTS, inputs=inputs)
    return network_predictor(CAPACITY, load_network(out, _WEIGHTS), supervised=True)
