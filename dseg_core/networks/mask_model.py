"""From a camera's image to a mask, in one torch module: what is exported, and what evaluation scores."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own habit)
from torch import Tensor, nn

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.networks.checkpoint import TrainedNetwork


class MaskModel(nn.Module):
    """A trained network with everything around it: resizing, normalisation, decoding.

    Decoding full-size logits costs more than the network on a CPU, so soft-max and arg-max run at `decode_stride`
    pixels of the network's input and only the mask is enlarged, each pixel taking the cell that it begins in
    (floor(y * cells / pixels), as ONNX's nearest with asymmetric coordinates and floor). Probabilities of clusters
    that share a name are added before the arg-max: three weak clusters of one thing outvote one strong other cluster.

    Args:
        trained: The network, and what its input is.
        classes: Names its outputs, as many as it has; None takes `trained.classes`. Equal names become one class.
        decode_stride: Pixels of the network's input per decoded cell, along each side.

    Attributes:
        classes: the mask's own classes, one per distinct name.

    Raises:
        DsegError: `classes` has another length than the network has outputs, or the stride is not positive.
    """

    merge: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, trained: TrainedNetwork, classes: ClassTable | None = None, decode_stride: int = 4) -> None:
        super().__init__()
        named = trained.classes if classes is None else classes
        if len(named) != len(trained.classes):
            raise DsegError(
                f"{len(named)} classes name a network of {len(trained.classes)} outputs",
                fix="Give classes the same name to merge them, but keep every id",
            )
        if decode_stride < 1:
            raise DsegError(f"decode stride {decode_stride} must be at least 1")
        self.network = trained.network
        self.classes = named.merged()
        self.size = (trained.height, trained.width)
        self.cells = (-(-trained.height // decode_stride), -(-trained.width // decode_stride))
        self.register_buffer("mean", 255 * torch.tensor(trained.mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(trained.std).view(1, 3, 1, 1))
        # (names, outputs): which outputs make up each name.
        merge = np.arange(len(self.classes))[:, None] == named.name_ids()[None, :]
        self.register_buffer("merge", torch.from_numpy(merge.astype(np.float32)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Segment images.

        Args:
            image: RGB, uint8 (B, H, W, 3), any size.

        Returns:
            mask uint8 (B, H, W), ids of `classes`; confidence uint8 (B, H, W), the mask's probability times 255.
        """
        height, width = image.shape[1:3]
        pixels = image.to(torch.float32).permute(0, 3, 1, 2)  # (B, 3, H, W); TensorRT wants the cast first
        if (height, width) != self.size:
            pixels = F.interpolate(pixels, size=self.size, mode="bilinear", align_corners=False)
        logits = self.network((pixels - self.mean) / self.std)  # (B, C, h/4, w/4)
        if logits.shape[-2:] != self.cells:
            logits = F.interpolate(logits, size=self.cells, mode="bilinear", align_corners=False)
        probabilities = logits.float().softmax(dim=1)
        if self.merge.shape[0] != self.merge.shape[1]:
            merged = torch.matmul(self.merge, probabilities.flatten(2))  # (B, names, cells)
            probabilities = merged.reshape(merged.shape[0], merged.shape[1], *self.cells)
        ids = probabilities.argmax(dim=1)
        confidence = (probabilities.amax(dim=1) * 255 + 0.5).clamp(0, 255)
        # Enlarged as 32-bit numbers and cast last, since TensorRT computes on no 8-bit unsigned ones.
        return (
            _enlarge(ids.to(torch.int32), height, width).to(torch.uint8),
            _enlarge(confidence.to(torch.int32), height, width).to(torch.uint8),
        )


def _enlarge(cells: Tensor, height: int, width: int) -> Tensor:
    """Nearest, (B, h, w) to (B, height, width). By whole numbers, so that every runtime picks the same cells."""
    rows = torch.from_numpy(np.arange(height) * cells.shape[1] // height).to(cells.device)
    columns = torch.from_numpy(np.arange(width) * cells.shape[2] // width).to(cells.device)
    # Columns first: while there are few rows. Copying whole rows is cheap.
    return cells.index_select(2, columns).index_select(1, rows)
