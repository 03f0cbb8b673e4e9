"""How a network's input lies over an image along each side, stretched or with margins: for resizing and for enlarging.

Everything is worked out in whole numbers, so that every runtime takes the same pixels and the same cells. For sides
that are known when a graph is made, the results are constants in it; else the same sums are part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

FITS = ("stretch", "letterbox")
"""See `axes_of`; the first is what training does."""

Side = Any
"""A whole number: an int, or torch's symbol for one that is known only when the graph runs (torch.SymInt)."""


@dataclass(frozen=True)
class Axis:
    """One side: all `pixels` of the image lie on `inside` of the network's `length` pixels, from pixel `start` on."""

    pixels: Side
    length: int
    inside: Side
    start: Side

    @property
    def fixed(self) -> bool:
        """Whether all is known beforehand."""
        return isinstance(self.pixels, int) and isinstance(self.inside, int)

    @property
    def same(self) -> bool:
        """Whether the image's pixels are the network's."""
        return self.fixed and self.pixels == self.length == self.inside

    @property
    def margins(self) -> bool:
        """Whether there are margins, or may be."""
        return not isinstance(self.inside, int) or self.inside != self.length

    def samples(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """The image's pixels that make the network's, bilinear between pixel centres.

        Returns:
            Index of the first and of the second, int64 (length,); weight of the second, float32 (length,). In margins
            the nearest pixels.
        """
        at = (np.arange if self.fixed else torch.arange)(self.length) - self.start
        # How far the place is from the first pixel's centre, in units of 1 / (2 inside) pixels.
        place = ((2 * at + 1) * self.pixels - self.inside).clip(0, 2 * self.inside * (self.pixels - 1))
        first = place // (2 * self.inside)
        weight = (place - 2 * self.inside * first) / (2 * self.inside)
        second = (first + 1).clip(0, self.pixels - 1)
        return _indices(first, device), _indices(second, device), torch.as_tensor(weight).float().to(device)

    def image_inside(self, device: torch.device) -> Tensor:
        """1.0 where the image is, 0.0 in the margins; float32 (length,)."""
        at = (np.arange if self.fixed else torch.arange)(self.length) - self.start
        return torch.as_tensor((at >= 0) & (at < self.inside)).float().to(device)

    def cells(self, count: int, device: torch.device) -> Tensor:
        """For each of the image's pixels, which of `count` cells over the network's length it begins in.

        As ONNX's nearest with asymmetric coordinates and floor. int64 (pixels,).
        """
        at = (np.arange if self.fixed else torch.arange)(self.pixels)
        begins = (self.start * self.pixels + at * self.inside) * count
        return _indices(begins // (self.pixels * self.length), device)


def axes_of(image: tuple[Side, Side], network: tuple[int, int], fit: str) -> tuple[Axis, Axis]:
    """How a network's input lies over an image, rows and columns.

    Args:
        image: (height, width) of the image.
        network: (height, width) of the network's input.
        fit: stretch, where the input is the whole image; letterbox, where the image keeps its aspect (to a pixel) in
            the middle of the input, with margins on two sides.
    """
    (height, width), (rows, columns) = image, network
    if fit == "stretch":
        return Axis(height, rows, rows, 0), Axis(width, columns, columns, 0)
    inside_rows = _clipped(_quotient(columns * height, width), rows)
    inside_columns = _clipped(_quotient(rows * width, height), columns)
    return (
        Axis(height, rows, inside_rows, (rows - inside_rows) // 2),
        Axis(width, columns, inside_columns, (columns - inside_columns) // 2),
    )


def _quotient(a: Side, b: Side) -> Side:
    """The quotient, rounded."""
    return (2 * a + b) // (2 * b)


def _clipped(side: Side, most: int) -> Side:
    return torch.sym_max(1, torch.sym_min(side, most))


def _indices(found: Any, device: torch.device) -> Tensor:
    return torch.as_tensor(found).to(torch.int64).to(device)
