"""Segmenter (Strudel et al., ICCV 2021): a plain vision transformer, then a mask transformer or a linear head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own habit)
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models.vision_transformer import Block, checkpoint_filter_fn
from torch import Tensor, nn

from dseg_core.errors import DsegError
from dseg_core.stage_options import NetworkOptions
from dseg_core.words import one_line


class Segmenter(nn.Module):
    """ViT encoder on the whole image, decoder on its patch tokens, logits enlarged to stride 4.

    The input is filled up with the mean colour to whole patches at the right and bottom, so any multiple of 4 works.
    Position embeddings of pretrained weights (224x224) are resampled to the input's grid by timm.
    """

    def __init__(self, options: NetworkOptions, classes: int) -> None:
        super().__init__()
        patch = _patch_size(options.backbone)
        self.grid = (-(-options.height // patch), -(-options.width // patch))
        self.patch = patch
        self.encoder = _encoder(options, (self.grid[0] * patch, self.grid[1] * patch))
        dimension = int(self.encoder.embed_dim)
        self.decoder: nn.Module
        if options.head == "linear":
            self.decoder = nn.Linear(dimension, classes)
            nn.init.trunc_normal_(self.decoder.weight, std=0.02)
            nn.init.zeros_(self.decoder.bias)
        else:
            self.decoder = MaskTransformer(dimension, classes, options.head_layers)

    def forward(self, image: Tensor) -> Tensor:
        """Float32 (B, 3, height, width) to logits (B, C, height / 4, width / 4)."""
        height, width = image.shape[-2:]
        rows, columns = self.grid
        padded = F.pad(image, (0, columns * self.patch - width, 0, rows * self.patch - height))
        tokens = self.encoder.forward_features(padded)[:, self.encoder.num_prefix_tokens :]  # (B, rows*columns, D)
        scores = self.decoder(tokens).float()  # (B, rows*columns, C)
        scores = scores.transpose(1, 2).reshape(scores.shape[0], scores.shape[2], rows, columns)
        size = (rows * self.patch // 4, columns * self.patch // 4)
        scores = F.interpolate(scores, size=size, mode="bilinear", align_corners=False)
        return scores[:, :, : height // 4, : width // 4]


class MaskTransformer(nn.Module):
    """Class tokens run through `layers` transformer layers with the patches; scores are their scalar products.

    Strudel et al. 2021, section 3.2: patches and class embeddings are L2-normalised, multiplied, and the C scores of a
    patch go through a layer norm. Drive&Segment uses one layer.
    """

    def __init__(self, dimension: int, classes: int, layers: int) -> None:
        super().__init__()
        self.classes = classes
        self.project = nn.Linear(dimension, dimension)
        self.class_tokens = nn.Parameter(torch.empty(1, classes, dimension))
        self.blocks = nn.ModuleList(Block(dimension, max(1, dimension // 64), qkv_bias=True) for _ in range(layers))
        self.norm = nn.LayerNorm(dimension)
        self.to_patch = nn.Linear(dimension, dimension, bias=False)
        self.to_class = nn.Linear(dimension, dimension, bias=False)
        self.score_norm = nn.LayerNorm(classes)
        for weight in (self.class_tokens, self.project.weight):
            nn.init.trunc_normal_(weight, std=0.02)
        for layer in (self.to_patch, self.to_class):
            nn.init.normal_(layer.weight, std=dimension**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Patch tokens (B, N, D) to scores (B, N, C)."""
        x = torch.cat((self.project(tokens), self.class_tokens.expand(tokens.shape[0], -1, -1)), dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        # In 32 bits whatever the network's: sums of squares, and the scores themselves.
        patches = F.normalize(self.to_patch(x[:, : -self.classes]).float(), dim=-1)
        classes = F.normalize(self.to_class(x[:, -self.classes :]).float(), dim=-1)
        scores: Tensor = self.score_norm(patches @ classes.transpose(1, 2))
        return scores


def _patch_size(backbone: str) -> int:
    """The patch's side, read from timm's name of the backbone. Raises DsegError for what is no plain ViT of timm."""
    if not timm.is_model(backbone) or not backbone.startswith("vit_") or "_patch" not in backbone:
        raise DsegError(
            f"network.backbone = {backbone!r} is no plain vision transformer of timm",
            fix="Choose one such as vit_small_patch16_224.dino (timm.list_models('vit_*_patch*'))",
        )
    digits = backbone.split("_patch")[1]
    return int(digits[: next((i for i, c in enumerate(digits) if not c.isdigit()), len(digits))])


def _encoder(options: NetworkOptions, size: tuple[int, int]) -> Any:
    """Timm's ViT for inputs of `size` (height, width), with weights as `options.pretrained` says."""
    from_hub = options.pretrained == "hub"
    try:
        encoder = timm.create_model(options.backbone, img_size=size, num_classes=0, pretrained=from_hub)
    except (OSError, RuntimeError) as error:
        raise DsegError(
            f"{options.backbone} cannot be made: {one_line(error)}",
            where=f"network.pretrained = {options.pretrained}",
            fix="Is the hub reachable, and has it such weights? Else give a local .safetensors file, or none",
        ) from error
    if options.pretrained not in ("none", "hub"):
        _load_backbone(encoder, Path(options.pretrained))
    return encoder


def _load_backbone(encoder: Any, path: Path) -> None:
    """Load timm's or DINO's own ViT weights, position embeddings resampled; a classifier in the file is left out."""
    if path.suffix != ".safetensors" or not path.is_file():
        raise DsegError("is no safetensors file", where=path, fix="Give none, hub or a .safetensors file")
    try:
        state = checkpoint_filter_fn(load_file(path), encoder)
        missing, unknown = encoder.load_state_dict(state, strict=False)
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise DsegError(f"does not fit network.backbone: {one_line(error)}", where=path) from None
    unknown = [name for name in unknown if not name.startswith("head")]
    if missing or unknown:
        raise DsegError(
            f"does not fit network.backbone: {len(missing)} weights are missing, {len(unknown)} unknown "
            f"(first: {(missing + unknown)[0]})",
            where=path,
        )
