"""A tiny run with frames, made without training, for tests of export, runtime and segmentation."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from dseg_core.cameras import Camera
from dseg_core.class_table import ClassTable
from dseg_core.frame_writer import FrameWriter
from dseg_core.label_store import LabelStore
from dseg_core.networks.build import build_network
from dseg_core.networks.checkpoint import RunDescription, labels_digest, save_network
from dseg_core.records import EncodedImage, Frame, Sweep, View, ViewKey
from dseg_core.stage_options import NetworkOptions

NETWORK = NetworkOptions(height=64, width=96, channels=8)
HEIGHT, WIDTH = 75, 122
"""Of the frames' images: no multiple of anything in the network."""


def picture(seed: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """Coloured blobs, uint8 (height, width, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def write_frames(folder: Path) -> None:
    """Four frames of one camera and labels `default` for them, under `folder`."""
    camera = Camera.pinhole("optical", WIDTH, HEIGHT, 60.0, 60.0, 60.5, 37.0)
    with FrameWriter(folder, "drive") as writer:
        for stamp in range(1, 5):
            png = cv2.imencode(".png", picture(stamp)[..., ::-1])[1].tobytes()
            image = EncodedImage(stamp, "optical", "png", png)
            view = View("front", image, np.zeros((HEIGHT, WIDTH), np.uint16), camera, np.eye(4))
            sweep = Sweep(stamp, "lidar", np.ones((3, 3), np.float32))
            writer.write(Frame("drive", sweep, np.zeros(3, np.uint16), (view,)))
    labels = LabelStore(folder, "default")
    for stamp in range(1, 5):
        labels.write_mask(ViewKey("drive", stamp, "front"), np.full((HEIGHT, WIDTH), stamp, np.uint8))
    ClassTable.of_clusters(5).write(labels.path / "classes.yaml")


def write_run(run: Path, frames: Path | None = None) -> None:
    """A run whose student tells many classes apart, though it learned nothing."""
    torch.manual_seed(0)
    network = build_network(NETWORK, 6)
    with torch.no_grad():
        for _ in range(20):  # so that batch normalisation has statistics
            network(torch.randn(2, 3, NETWORK.height, NETWORK.width))
        network.head.weight.mul_(20.0)
    inputs, where = {}, ""
    if frames is not None:
        labels = LabelStore(frames, "default")
        inputs, where = {"labels": labels_digest(labels, labels.keys()), "frames": "f" * 64}, f"../{frames.name}"
    described = RunDescription(NETWORK, ClassTable.of_clusters(5), inputs, {"labels": "default"}, frames=where)
    described.write(run)
    save_network(run, "student", network.state_dict())
