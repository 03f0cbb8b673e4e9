"""A small convolutional network that learns in minutes on a CPU: residual encoder, context by row, top-down decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own habit)
from torch import Tensor, nn


class SmallNetwork(nn.Module):
    """Encoder to stride 32, image and row context there, top-down path back to stride 4 (Lin et al. 2017, FPN).

    Two things that a street asks for and deep networks buy with depth are given outright: the row (what is low in the
    image is road, what is high is sky) as two input channels at stride 4, and the mean over each row and over the whole
    image at stride 32. Batch normalisation, because it folds into the convolutions of an exported graph; at 30 720
    pixels an image even a batch of two has statistics enough.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        c1, c2, c3, c4 = channels, 2 * channels, 4 * channels, 6 * channels
        self.stem = nn.Sequential(_unit(3, channels // 2, 5, 2), _unit(channels // 2, c1, 3, 2))
        self.stage1 = _Residual(c1 + 2, c1, 1)
        self.stage2 = nn.Sequential(_Residual(c1, c2, 2), _Residual(c2, c2, 1))
        self.stage3 = nn.Sequential(_Residual(c2, c3, 2), _Residual(c3, c3, 1))
        self.stage4 = nn.Sequential(_Residual(c3, c4, 2), _Residual(c4, c4, 1))
        self.row_context = nn.Conv2d(c4, c4, 1)
        self.image_context = nn.Conv2d(c4, c4, 1)
        self.lateral = nn.ModuleList(nn.Conv2d(c, c2, 1) for c in (c1, c2, c3, c4))
        self.fuse = nn.ModuleList((_unit(c2, c2, 3, 1), _unit(c2, c2, 3, 1)))
        self.smooth = _unit(c2, channels, 3, 1)
        self.head = nn.Conv2d(channels, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Float32 (B, 3, h, w) to logits (B, C, ceil(h / 4), ceil(w / 4))."""
        f1 = self.stem(image)
        f1 = self.stage1(torch.cat((f1, _rows(f1)), dim=1))  # (B, c1, h/4, w/4)
        f2 = self.stage2(f1)
        f3 = self.stage3(f2)
        f4 = self.stage4(f3)  # (B, c4, h/32, w/32)
        f4 = f4 + self.row_context(f4.mean(dim=3, keepdim=True)) + self.image_context(f4.mean(dim=(2, 3), keepdim=True))
        x = _up(self.lateral[3](f4), f3) + self.lateral[2](f3)
        x = _up(self.fuse[0](x), f2) + self.lateral[1](f2)
        x = _up(self.fuse[1](x), f1) + self.lateral[0](f1)
        logits: Tensor = self.head(self.smooth(x))
        return logits


class _Residual(nn.Module):
    """Two 3x3 convolutions and a short cut (He et al. 2016, section 3.3)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _unit(inputs, outputs, 3, stride)
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        self.short: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.short = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.short(x))


def _unit(inputs: int, outputs: int, size: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _rows(features: Tensor) -> Tensor:
    """Height in the image as two channels, y in -1..1 and its square; (B, 2, h, w)."""
    batch, _, height, width = features.shape
    y = torch.linspace(-1.0, 1.0, height, dtype=features.dtype, device=features.device)
    return torch.stack((y, y * y))[None, :, :, None].expand(batch, 2, height, width)


def _up(coarse: Tensor, fine: Tensor) -> Tensor:
    return F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
