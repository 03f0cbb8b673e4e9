"""The graph that is exported, run live and scored: an image in, a mask and its confidence out."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own habit)
from torch import Tensor, nn

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.networks.checkpoint import TrainedNetwork


class MaskModel(nn.Module):
    """A trained network with everything around it, so that every runtime computes the same.

    The image is resized to the network's input (bilinear, stretched), normalised and put through the network; class
    probabilities (soft-max) of clusters with the same name are summed; the largest sum is the mask's class. That is
    decided at `decode_stride` of the network's input and spread to the image's size by nearest neighbour: logits at full
    size would cost more than the network.

    Args:
        trained: The network and its input contract.
        classes: Names of the network's outputs; None takes the run's. A mask's ids are indices of `classes.names`.
        decode_stride: Network input pixels per decision; the logits' own stride of 4 costs nothing more.

    Raises:
        DsegError: `classes` has another number of classes than the network.
    """

    def __init__(self, trained: TrainedNetwork, classes: ClassTable | None = None, decode_stride: int = 4) -> None:
        super().__init__()
        self.classes = classes or trained.classes
        if len(self.classes) != len(trained.classes):
            raise DsegError(
                f"{len(self.classes)} classes do not name the network's {len(trained.classes)} outputs",
                fix="Keep every id; give classes the same name to merge them",
            )
        self.network = trained.network
        self.input_size = (trained.height, trained.width)
        self.decode_size = (-(-trained.height // decode_stride), -(-trained.width // decode_stride))
        name_ids = self.classes.name_ids()
        merge = np.zeros((len(self.classes.names), len(self.classes)), dtype=np.float32)
        merge[name_ids, np.arange(len(name_ids))] = 1.0
        self.register_buffer("merge", torch.from_numpy(merge)[:, :, None, None])
        self.register_buffer("mean", torch.tensor(trained.mean).view(1, 3, 1, 1) * 255.0)
        self.register_buffer("std", torch.tensor(trained.std).view(1, 3, 1, 1) * 255.0)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Segment images.

        Args:
            image: uint8 (B, H, W, 3), RGB.

        Returns:
            mask uint8 (B, H, W), indices of `classes.names`; confidence uint8 (B, H, W), the class's probability
            times 255.
        """
        height, width = image.shape[1:3]
        x = image.to(torch.float32).permute(0, 3, 1, 2)  # (B, 3, H, W); TensorRT wants the cast first
        x = F.interpolate(x, size=self.input_size, mode="bilinear", align_corners=False)
        logits = self.network((x - self.mean) / self.std)  # (B, C, h/4, w/4)
        probabilities = F.conv2d(torch.softmax(logits, dim=1), self.merge)  # (B, names, h/4, w/4)
        if tuple(probabilities.shape[-2:]) != self.decode_size:
            probabilities = F.interpolate(probabilities, size=self.decode_size, mode="bilinear", align_corners=False)
        best, mask = probabilities.max(dim=1, keepdim=True)  # (B, 1, h/4, w/4)
        confidence = F.interpolate((best * 255.0).round(), size=(height, width), mode="nearest")
        spread = F.interpolate(mask.to(torch.float32), size=(height, width), mode="nearest")
        return spread[:, 0].to(torch.uint8), confidence[:, 0].clamp(0, 255).to(torch.uint8)
