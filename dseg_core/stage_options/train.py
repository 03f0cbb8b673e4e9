"""Options of `dseg train`: networks and how they learn."""

from __future__ import annotations

from dataclasses import dataclass

from dseg_core.errors import OptionError
from dseg_core.options import Options, option


@dataclass(frozen=True)
class NetworkOptions(Options):
    """Which network, and the size of its input."""

    kind: str = option(
        "small",
        "small: convolutional, learns in minutes on a CPU; segmenter: a vision transformer",
        choices=("small", "segmenter"),
    )
    height: int = option(
        0,
        "height that images are resized to, a multiple of 4; 0: from the frames' aspect, with about 123 000 pixels",
        unit="px",
        minimum=0,
        maximum=4096,
    )
    width: int = option(0, "width that images are resized to, likewise", unit="px", minimum=0, maximum=8192)
    channels: int = option(32, "small: channels at stride 4; deeper stages have 2, 4 and 6 times as many", minimum=8)
    backbone: str = option("vit_small_patch16_224.dino", "segmenter: timm's name of a plain vision transformer")
    pretrained: str = option("none", "segmenter: weights of the backbone: none, hub, or a .safetensors file")
    head: str = option("mask", "segmenter: mask transformer or linear layer", choices=("mask", "linear"))
    head_layers: int = option(1, "segmenter: layers of the mask transformer", minimum=1, maximum=12)

    def __post_init__(self) -> None:
        """Check the size. Raises OptionError."""
        super().__post_init__()
        for name in ("height", "width"):
            size = getattr(self, name)
            if size and (size < 32 or size % 4):
                near = max(32, round(size / 4) * 4)
                raise OptionError(f"{name} = {size} must be a multiple of 4 from 32 on, such as {near}, or 0")


@dataclass(frozen=True)
class AugmentationOptions(Options):
    """How images are varied while training; targets are moved with them."""

    flip: float = option(0.5, "how often an image is mirrored left to right", minimum=0, maximum=1)
    smallest: float = option(0.8, "smallest random scale; the margin is unlabelled", minimum=0.2, maximum=1)
    largest: float = option(1.5, "largest random scale; what sticks out is cropped", minimum=1, maximum=5)
    colour: float = option(0.3, "strength of changes of brightness, contrast and saturation", minimum=0, maximum=1)


@dataclass(frozen=True)
class FitOptions(Options):
    """One training: steps, optimiser, loss."""

    steps: int = option(1000, "optimiser steps", minimum=1)
    batch: int = option(2, "images per step", minimum=1)
    learning_rate: float | None = option(
        None,
        "highest learning rate, reached after the warm-up; none: 0.002 for small, 0.0001 for segmenter",
        minimum=0,
    )
    warmup: int = option(40, "steps in which the learning rate rises", minimum=0)
    weight_decay: float = option(0.01, "decay of matrices and kernels (AdamW)", minimum=0)
    clip: float = option(1.0, "largest norm of the gradient; 0 for no limit", minimum=0)
    balance: str = option(
        "region",
        "what weighs alike in the loss: none (pixels), class (classes by square root of their share), "
        "region (regions by square root of their size)",
        choices=("none", "class", "region"),
    )
    ema: float = option(
        0.0, "decay per step of averaged weights, kept instead of the last ones; 0: none", minimum=0, maximum=0.99999
    )
    log_every: int = option(20, "steps between points of the curves", minimum=1)
    checkpoint_every: int = option(200, "steps between checkpoints", minimum=1)
    augmentation: AugmentationOptions = AugmentationOptions()


@dataclass(frozen=True)
class TargetOptions(Options):
    """What the student learns from the teacher."""

    targets: str = option("soft", "soft: probabilities; hard: the likeliest class", choices=("soft", "hard"))
    constraint: str = option(
        "mean",
        "how predictions become one inside each LiDAR proposal: mean of probabilities, majority of classes, or none",
        choices=("mean", "majority", "none"),
    )
    support: int = option(4, "cells of 4x4 pixels that a proposal needs for that", minimum=1)
    ground: bool = option(False, "treat ground as one proposal too")
    flip: bool = option(True, "average the teacher over the image and its mirror image")
    temperature: float = option(1.0, "divides the teacher's logits before the soft-max", minimum=0.01, maximum=100)


@dataclass(frozen=True)
class DeviceOptions(Options):
    """Where to compute."""

    accelerator: str = option("auto", "hardware, by Lightning's names", choices=("auto", "cpu", "gpu", "cuda", "mps"))
    precision: str = option("32-true", "arithmetic, by Lightning's names", choices=("32-true", "bf16-mixed"))
    threads: int = option(0, "threads of the CPU; 0 leaves it to torch", minimum=0)
    cache: float = option(
        4.0, "memory for decoded images; what does not fit is decoded again each time", unit="GB", minimum=0
    )


@dataclass(frozen=True)
class TrainOptions(Options):
    """`dseg train`: teacher, then student."""

    labels: str = option("default", "which labels under FRAMES/labels/ to learn from")
    seed: int = option(0, "seed of initialisation, sampling and augmentation", minimum=0)
    network: NetworkOptions = NetworkOptions()
    teacher: FitOptions = FitOptions()
    targets: TargetOptions = TargetOptions()
    student: FitOptions = FitOptions()
    student_from: str = option(
        "scratch", "the student's first weights: new ones, or the teacher's", choices=("scratch", "teacher")
    )
    device: DeviceOptions = DeviceOptions()
