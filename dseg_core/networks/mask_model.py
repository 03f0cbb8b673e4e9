"""From a camera's image to a mask, in one torch module: what is exported, and what evaluation scores."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own habit)
from torch import Tensor, nn

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.networks.checkpoint import TrainedNetwork
from dseg_core.networks.image_axes import Axis, axes_of


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
        fit: How images are brought to the network's size, see `axes_of`; None as it was trained.
        confidence: Whether `forward` gives one.

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
        fit: str | None = None,
        confidence: bool = True,
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
        self.fit = fit or trained.fit
        self.confidence = confidence
        self.cells = (-(-trained.height // decode_stride), -(-trained.width // decode_stride))
        self.register_buffer("mean", 255 * torch.tensor(trained.mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(trained.std).view(1, 3, 1, 1))
        # (names, outputs): which outputs make up each name; and the name of each output.
        name_of = named.name_ids()
        members = np.arange(len(self.classes))[:, None] == name_of[None, :]
        self.register_buffer("members", torch.from_numpy(members.astype(np.float32)))
        self.register_buffer("name_of", torch.from_numpy(name_of.astype(np.int64)))
        self._sum = merge == "sum"

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Segment images.

        Args:
            image: RGB, uint8 (B, H, W, 3), any size.

        Returns:
            mask uint8 (B, H, W), ids of `classes`; then, where `confidence` is on, confidence uint8 (B, H, W), 255
            times the probability of the mask's class, which is that of all its clusters together.
        """
        axes = self._axes(image)
        logits = self._logits(image, axes)
        ids, probability = self._named(logits)
        # Enlarged as floats, cast last: TensorRT computes in no 8-bit unsigned numbers, and makes them of floats only.
        mask = self._enlarge(ids.to(torch.float32), axes).to(torch.uint8)
        if not self.confidence:
            return (mask,)
        confidence = (probability * 255 + 0.5).clamp(0, 255)
        return mask, self._enlarge(confidence, axes).to(torch.uint8)

    def margin(self, image: Tensor) -> Tensor:
        """How clear the decision is: the best class's probability minus the second one's.

        Args:
            image: See `forward`.

        Returns:
            float32 (B, H, W). Of what the decision is by: a class's likeliest cluster, or all its clusters together.
        """
        axes = self._axes(image)
        probabilities = self._logits(image, axes).softmax(dim=1)
        if self._sum:
            names = torch.einsum("nc,bchw->bnhw", self.members, probabilities)
        else:
            names = torch.stack([probabilities[:, own > 0].amax(dim=1) for own in self.members], dim=1)
        if names.shape[1] == 1:
            return self._enlarge(names[:, 0], axes)
        best = names.topk(2, dim=1).values
        return self._enlarge(best[:, 0] - best[:, 1], axes)

    def _axes(self, image: Tensor) -> tuple[Axis, Axis]:
        return axes_of((image.shape[1], image.shape[2]), self.size, self.fit)

    def _logits(self, image: Tensor, axes: tuple[Axis, Axis]) -> Tensor:
        """The network's view of images, float32 (B, C, *cells)."""
        pixels = image.to(torch.float32)  # (B, H, W, 3); TensorRT wants the cast first
        # Rows are picked, then columns, then turned to planes: what nothing is made of need not be touched.
        for dimension, axis in enumerate(axes, 1):
            if not axis.same:
                first, second, weight = axis.samples(image.device)
                low, high = pixels.index_select(dimension, first), pixels.index_select(dimension, second)
                # Spread over the colours beforehand: broadcasting along three numbers each is what would take time.
                share = weight.view(-1, 1, 1) if dimension == 1 else weight.view(-1, 1).expand(-1, 3)
                pixels = low + (high - low) * share
        planes = (pixels.permute(0, 3, 1, 2) - self.mean) / self.std  # (B, 3, height, width)
        for dimension, axis in enumerate(axes, 2):
            if axis.margins:
                planes = planes * axis.image_inside(image.device).view(-1, *[1] * (3 - dimension))
        logits: Tensor = self.network(planes).float()  # (B, C, height / 4, width / 4)
        if logits.shape[-2:] != self.cells:
            logits = F.interpolate(logits, size=self.cells, mode="bilinear", align_corners=False)
        return logits

    def _named(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Ids of names and their probabilities, (B, h, w) each."""
        # The soft-max, but divided last and where needed: ONNX Runtime's own takes longer over dimension 1 than layers.
        highest = logits.amax(dim=1, keepdim=True)
        powers = (logits - highest).exp()
        total = powers.sum(dim=1)
        likeliest = logits.argmax(dim=1)
        if self.members.shape[0] == self.members.shape[1]:
            return likeliest, 1 / total
        if not (self._sum or self.confidence):
            return self.name_of[likeliest], 1 / total
        flat = torch.matmul(self.members, powers.flatten(2))  # (B, names, cells)
        names = flat.reshape(flat.shape[0], flat.shape[1], *self.cells)
        if self._sum:
            return names.argmax(dim=1), names.amax(dim=1) / total
        ids = self.name_of[likeliest]
        return ids, names.gather(1, ids[:, None])[:, 0] / total

    def _enlarge(self, cells: Tensor, axes: tuple[Axis, Axis]) -> Tensor:
        """Nearest, (B, h, w) to the image's size."""
        rows, columns = (axis.cells(count, cells.device) for axis, count in zip(axes, self.cells, strict=True))
        # Columns first: while there are few rows. Copying whole rows is cheap.
        return cells.index_select(2, columns).index_select(1, rows)
