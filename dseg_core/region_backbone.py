"""Features of regions from a pretrained image backbone: a tight crop of each region, pooled over the region itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from dseg_core.errors import DsegError
from dseg_core.stage_options import FeatureOptions
from dseg_core.words import one_line

_FIX = "Give a file, --features.backbone-weights W.safetensors, or leave image out: --features.blocks shape,color"


@dataclass(frozen=True, eq=False)
class RegionBackbone:
    """A frozen backbone with the normalisation it was trained with. `mean`, `std`: float32 (3,), of RGB in 0..1."""

    network: Any
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    device: torch.device
    options: FeatureOptions

    def __call__(
        self,
        rgb: NDArray[np.uint8],
        regions: NDArray[np.integer],
        ids: NDArray[np.integer],
        boxes: NDArray[np.integer],
    ) -> NDArray[np.float32]:
        """Describe regions of one image.

        Args:
            rgb: uint8 (H, W, 3).
            regions: (H, W) region ids.
            ids: (M,) the regions wanted.
            boxes: (M, 4) their x0, y0, x1, y1 in pixels, ends exclusive.

        Returns:
            float32 (M, C), L2-normalised.
        """
        found = []
        for start in range(0, len(ids), self.options.batch):
            chosen = range(start, min(start + self.options.batch, len(ids)))
            windows = [crop_window(boxes[i], rgb.shape[:2], self.options.crop_margin) for i in chosen]
            crops = np.stack([self._crop(rgb[y0:y1, x0:x1]) for x0, y0, x1, y1 in windows])
            maps = self._maps(crops)  # (b, C, g, g)
            cells = maps.shape[-2:]
            covered = np.stack(
                [
                    coverage(regions[y0:y1, x0:x1] == ids[i], cells)
                    for i, (x0, y0, x1, y1) in zip(chosen, windows, strict=True)
                ]
            )
            found.append(pool(maps, covered))
        return np.concatenate(found) if found else np.zeros((0, self.channels), dtype=np.float32)

    @property
    def channels(self) -> int:
        """Length of a feature."""
        return int(self.network.num_features)

    def _crop(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        size = self.options.crop_size
        resized = cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA if min(rgb.shape[:2]) > size else 1)
        return np.asarray((resized.astype(np.float32) / 255.0 - self.mean) / self.std, dtype=np.float32)

    def _maps(self, crops: NDArray[np.float32]) -> NDArray[np.float32]:
        """Feature maps of crops (b, size, size, 3); float32 (b, C, g, g)."""
        batch = torch.from_numpy(crops).permute(0, 3, 1, 2).to(self.device)
        with torch.inference_mode():
            out = self.network.forward_features(batch)
        if out.ndim == 3:  # tokens (b, prefix + g * g, C)
            tokens = out[:, self.network.num_prefix_tokens :]
            side = round(tokens.shape[1] ** 0.5)
            out = tokens.transpose(1, 2).reshape(len(crops), -1, side, side)
        return np.asarray(out.float().cpu().numpy())


def load_backbone(options: FeatureOptions) -> RegionBackbone:
    """Load the backbone, never with random weights.

    Raises:
        DsegError: timm does not know it, or its weights cannot be had or do not fit.
    """
    name, weights = options.backbone, options.backbone_weights
    if name.split(".")[0] not in timm.list_models():
        raise DsegError(f"timm has no backbone {name}", where="features.backbone", fix="timm.list_models() lists them")
    try:
        network = timm.create_model(name, pretrained=weights is None, num_classes=0)
    except (OSError, RuntimeError, ValueError) as error:
        what = f"the weights of {name} cannot be loaded: {one_line(error)}"
        raise DsegError(what, where="features", fix=_FIX) from None
    if weights is not None:
        _fill(network, name, weights)
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if hasattr(network, "set_input_size"):
        network.set_input_size(options.crop_size)  # also fits position embeddings to another size
    config = timm.data.resolve_model_data_config(network)
    mean, std = (np.asarray(config[key], dtype=np.float32) for key in ("mean", "std"))
    network = network.eval().requires_grad_(False).to(device)
    return RegionBackbone(network, mean, std, torch.device(device), options)


def crop_window(box: NDArray[np.integer], shape: tuple[int, ...], margin: float) -> tuple[int, int, int, int]:
    """The square around a region, moved (and, where too large, cut) to lie in the image: x0, y0, x1, y1.

    A square keeps proportions: a pole must not become a wall.
    """
    height, width = shape
    x0, y0, x1, y1 = (float(v) for v in box)
    side = max(x1 - x0, y1 - y0) * (1 + 2 * margin)
    bounds = []
    for low, high, limit in ((x0, x1, width), (y0, y1, height)):
        length = min(max(round(side), 2), limit)
        start = int(np.clip(round((low + high - length) / 2), 0, limit - length))
        bounds.append((start, start + length))
    return bounds[0][0], bounds[1][0], bounds[0][1], bounds[1][1]


def coverage(mask: NDArray[np.bool_], cells: tuple[int, ...]) -> NDArray[np.float32]:
    """Share of each cell that a mask (h, w) covers; float32 `cells`, which are rows, columns."""
    return np.asarray(
        cv2.resize(mask.astype(np.float32), (cells[1], cells[0]), interpolation=cv2.INTER_AREA), dtype=np.float32
    )


def pool(maps: NDArray[np.float32], covered: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of maps (b, C, g, g) weighted by coverage (b, g, g), L2-normalised; float32 (b, C)."""
    total = np.maximum(covered.sum(axis=(1, 2)), 1e-9)[:, None]
    mean = np.einsum("bcij,bij->bc", maps, covered) / total
    return np.asarray(mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9), dtype=np.float32)


def _fill(network: torch.nn.Module, name: str, path: Path) -> None:
    """Load a local file; a classifier's head in it is left out, anything else must fit. Raises DsegError."""
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DsegError(f"cannot be read: {error}", where=path, fix=_FIX) from None
    state = {key: value for key, value in state.items() if not key.startswith(("head.", "fc."))}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise DsegError(f"does not fit {name}: {one_line(error)}", where=path, fix=_FIX) from None
