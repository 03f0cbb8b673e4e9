"""A training run as it is, by torch: at the desk, to compare the exported model with."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dseg_core.networks.checkpoint import load_network
from dseg_core.networks.mask_model import MaskModel
from dseg_core.runtime.contract import Contract


class TorchBackend:
    """A run's student on the CPU; takes images of any size. Raises DsegError when the run is broken."""

    name = "torch"

    def __init__(self, run: Path, threads: int = 0) -> None:
        self._model = MaskModel(load_network(run)).eval()
        self._threads = threads or len(os.sched_getaffinity(0))
        self.contract = Contract(self._model.classes, None, origin={"run": run.resolve().name})

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Images uint8 (N, H, W, 3) to masks and confidences, uint8 (N, H, W)."""
        torch.set_num_threads(self._threads)
        with torch.inference_mode():
            mask, confidence = self._model(torch.from_numpy(images if images.flags.writeable else images.copy()))
        return np.asarray(mask.numpy(), dtype=np.uint8), np.asarray(confidence.numpy(), dtype=np.uint8)
