"""Networks by option: float32 (B, 3, h, w), RGB with ImageNet's mean and deviation taken out, to logits at stride 4."""

from __future__ import annotations

from torch import nn

from dseg_core.errors import DsegError
from dseg_core.networks.segmenter import Segmenter
from dseg_core.networks.small import SmallNetwork
from dseg_core.stage_options import NetworkOptions

MEAN = (0.485, 0.456, 0.406)
"""Mean of ImageNet's R, G, B in 0..1."""

STD = (0.229, 0.224, 0.225)
"""Deviation of ImageNet's R, G, B in 0..1."""

STRIDE = 4
"""A logit covers a square of so many pixels."""


def usual_learning_rate(options: NetworkOptions) -> float:
    """AdamW's learning rate that suits the kind of network: pretrained transformers bear a twentieth."""
    return 1e-4 if options.kind == "segmenter" else 2e-3


def build_network(options: NetworkOptions, classes: int) -> nn.Module:
    """Make a network with fresh (or, for the Segmenter, pretrained) weights.

    Its `forward` takes float32 (B, 3, options.height, options.width), ImageNet-normalised RGB, and returns logits,
    float32 (B, classes, options.height / 4, options.width / 4). Initial weights follow torch's global random state.

    Args:
        options: Which network, its size and its input size.
        classes: Number of outputs.

    Raises:
        DsegError: No size, an unknown backbone, weights that cannot be had or do not fit.
    """
    if not options.height or not options.width:
        raise DsegError("a network needs a size", fix="Give network.height and network.width")
    if classes < 1:
        raise DsegError(f"a network needs at least one class, not {classes}")
    if options.kind == "segmenter":
        return Segmenter(options, classes)
    return SmallNetwork(options.channels, classes)
