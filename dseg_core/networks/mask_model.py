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
    (floor(y * cells / pixels), as ONNX's nearest with asymmetric coordinates and floor).

    Where clusters share a name, the mask is the name of the likeliest cluster, so that naming recolours a mask and
    moves nothing in it. With `merge` "sum" the probabilities of a name's clusters are added first; then names with many
    clusters win wherever the network is unsure: with names by truth, five simulated runs lost 1 to 3 points of mIoU.

    Args:
        trained: The network, and what its input is.
        classes: Names its outputs, as many as it has; None takes `trained.classes`. Equal names become one class.
        decode_stride: Pixels of the network's input per decoded cell, along each side.
        merge: How clusters of one name decide, "likeliest" or "sum".

    Attributes:
        classes: the mask's own classes, one per distinct name.

    Raises:
        DsegError: `classes` has another length than the network has outputs, or the stride is not positive.
    """

    members: Tensor
    name_of: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trained: TrainedNetwork,
        classes: ClassTable | None = None,
        decode_stride: int = 4,
        merge: str = "likeliest",
    ) -> None:
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
        # (names, outputs): which outputs make up each name; and the name of each output.
        name_of = named.name_ids()
        members = np.arange(len(self.classes))[:, None] == name_of[None, :]
        self.register_buffer("members", torch.from_numpy(members.astype(np.float32)))
        self.register_buffer("name_of", torch.from_numpy(name_of.astype(np.int64)))
        self._sum = merge == "sum"

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Segment images.

        Args:
            image: RGB, uint8 (B, H, W, 3), any size.

        Returns:
            mask uint8 (B, H, W), ids of `classes`; confidence uint8 (B, H, W), 255 times the probability of the mask's
            class, which is that of all its clusters together.
        """
        height, width = image.shape[1:3]
        pixels = image.to(torch.float32).permute(0, 3, 1, 2)  # (B, 3, H, W); TensorRT wants the cast first
        if (height, width) != self.size:
            pixels = F.interpolate(pixels, size=self.size, mode="bilinear", align_corners=False)
        logits = self.network((pixels - self.mean) / self.std)  # (B, C, h/4, w/4)
        if logits.shape[-2:] != self.cells:
            logits = F.interpolate(logits, size=self.cells, mode="bilinear", align_corners=False)
        probabilities = logits.float().softmax(dim=1)
        ids, probability = self._named(probabilities)
        confidence = (probability * 255 + 0.5).clamp(0, 255)
        # Enlarged as 32-bit numbers and cast last, since TensorRT computes on no 8-bit unsigned ones.
        return (
            _enlarge(ids.to(torch.int32), height, width).to(torch.uint8),
            _enlarge(confidence.to(torch.int32), height, width).to(torch.uint8),
        )

    def _named(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Ids of names and their probabilities, (B, h, w) each, from those of the outputs, (B, C, h, w)."""
        likeliest = probabilities.argmax(dim=1)
        if self.members.shape[0] == self.members.shape[1]:
            return likeliest, probabilities.amax(dim=1)
        flat = torch.matmul(self.members, probabilities.flatten(2))  # (B, names, cells)
        names = flat.reshape(flat.shape[0], flat.shape[1], *self.cells)
        if self._sum:
            return names.argmax(dim=1), names.amax(dim=1)
        ids = self.name_of[likeliest]
        return ids, names.gather(1, ids[:, None])[:, 0]


def _enlarge(cells: Tensor, height: int, width: int) -> Tensor:
    """Nearest, (B, h, w) to (B, height, width). By whole numbers, so that every runtime picks the same cells."""
    rows = torch.from_numpy(np.arange(height) * cells.shape[1] // height).to(cells.device)
    columns = torch.from_numpy(np.arange(width) * cells.shape[2] // width).to(cells.device)
    # Columns first: while there are few rows. Copying whole rows is cheap.
    return cells.index_select(2, columns).index_select(1, rows)
