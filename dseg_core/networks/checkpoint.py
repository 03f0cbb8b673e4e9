"""A run's folder: weights as safetensors, everything else as JSON. Nothing is pickled."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.label_store import LabelStore
from dseg_core.networks.build import MEAN, STD, build_network
from dseg_core.networks.image_axes import FITS
from dseg_core.progress import write_whole
from dseg_core.records import ViewKey
from dseg_core.stage_options import NetworkOptions


@dataclass(frozen=True)
class RunDescription:
    """`run.json`: what is needed to build the run's networks again, and what they were trained on.

    `mean`, `std`: of R, G, B in 0..1, taken out of the input. `fit`: how images were brought to the network's size (see
    `image_axes.axes_of`); runs from before it was recorded stretched them, as training still does. `inputs`: digests of
    the labels and frames trained on, by name. `options`: all training options, as plain types. `frames`: where those
    frames are, as a path from the run's folder, or nothing where there were none.
    """

    network: NetworkOptions
    classes: ClassTable
    inputs: dict[str, str]
    options: dict[str, Any]
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    frames: str = ""
    fit: str = FITS[0]

    def write(self, run: Path) -> None:
        """Write `run/run.json`, and `run/classes.yaml` where there is none (names in it may be edited by hand)."""
        content = {
            "network": self.network.to_dict(),
            "classes": self.classes.to_list(),
            "height": self.network.height,
            "width": self.network.width,
            "mean": list(self.mean),
            "std": list(self.std),
            "fit": self.fit,
            "inputs": self.inputs,
            "options": self.options,
            "frames": self.frames,
        }
        run.mkdir(parents=True, exist_ok=True)
        if not (run / "classes.yaml").exists():
            self.classes.write(run / "classes.yaml")
        write_whole(run / "run.json", (json.dumps(content, indent=2) + "\n").encode())

    @classmethod
    def read(cls, run: Path) -> RunDescription:
        """Read `run/run.json`. Raises DsegError when it is missing or broken."""
        path = run / "run.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                network=NetworkOptions.from_mapping(content["network"], where=path),
                classes=ClassTable.from_list(content["classes"], path),
                inputs=content["inputs"],
                options=content["options"],
                mean=_three(content["mean"]),
                std=_three(content["std"]),
                frames=_text(content.get("frames", "")),
                fit=_fit(content.get("fit", FITS[0])),
            )
        except OSError as error:
            raise DsegError(
                f"cannot be read: {error.strerror}", where=path, fix="Is it a folder that `dseg train` wrote?"
            ) from None
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DsegError(f"is broken: {type(error).__name__} {error}", where=path, fix="Train anew") from None


def _three(values: Any) -> tuple[float, float, float]:
    if not isinstance(values, list) or len(values) != 3 or not all(isinstance(v, int | float) for v in values):
        raise ValueError(f"{values!r} is not three numbers")
    return float(values[0]), float(values[1]), float(values[2])


def _fit(value: Any) -> str:
    if value not in FITS:
        raise ValueError(f"fit {value!r} is not one of {', '.join(FITS)}")
    return str(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network in eval mode on the CPU, and what its input and outputs are.

    `network`: float32 (B, 3, height, width), RGB / 255 minus `mean` over `std`, to logits (B, len(classes), height / 4,
    width / 4). `classes`: its outputs; names as in the run's `classes.yaml`. `fit`: how images are brought to its size.
    """

    network: nn.Module
    classes: ClassTable
    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fit: str = FITS[0]


def load_network(run: Path, which: str = "student") -> TrainedNetwork:
    """Load `run/WHICH.safetensors` into the network that `run.json` describes.

    Args:
        run: A folder written by `dseg train`.
        which: "student", "teacher" or another name that was trained there.

    Raises:
        DsegError: Missing or broken files, weights of another network, `classes.yaml` with another number of classes.
    """
    described = RunDescription.read(run)
    classes = described.classes
    if (run / "classes.yaml").exists():
        named = ClassTable.read(run / "classes.yaml")
        if len(named) != len(classes):
            raise DsegError(
                f"has {len(named)} classes, the network {len(classes)}",
                where=run / "classes.yaml",
                fix="Give classes the same name to merge them, but keep every id",
            )
        classes = named
    # Weights come from the file; a pretrained backbone need not be fetched for that.
    network = build_network(dataclasses.replace(described.network, pretrained="none"), len(classes))
    path = run / f"{which}.safetensors"
    try:
        network.load_state_dict(read_tensors(path))
    except RuntimeError as error:
        raise DsegError(f"does not fit run.json: {' '.join(str(error).split())[:300]}", where=path) from None
    network.eval().requires_grad_(False)
    height, width = described.network.height, described.network.width
    return TrainedNetwork(network, classes, height, width, described.mean, described.std, described.fit)


def save_network(run: Path, which: str, state: dict[str, Tensor]) -> None:
    """Write `run/WHICH.safetensors`, whole or not at all."""
    write_tensors(run / f"{which}.safetensors", state)


def write_tensors(path: Path, tensors: dict[str, Tensor], note: dict[str, str] | None = None) -> None:
    """Write tensors and a note as safetensors, whole or not at all; the same content gives the same bytes."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # One entry, since safetensors writes several in random order.
    write_whole(path, save(plain, {"note": json.dumps(note or {}, sort_keys=True)}))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU. Raises DsegError when it is missing or broken."""
    try:
        tensors: dict[str, Tensor] = load(path.read_bytes())
    except OSError as error:
        raise DsegError(f"cannot be read: {error.strerror}", where=path, fix="Run `dseg train` to the end") from None
    except SafetensorError as error:
        raise DsegError(f"is no safetensors file: {error}", where=path, fix="Train anew") from None
    return tensors


def read_note(path: Path) -> dict[str, str]:
    """The note written with a safetensors file. Raises DsegError when it is missing or broken."""
    try:
        with safe_open(path, framework="pt") as file:
            note: dict[str, str] = json.loads((file.metadata() or {}).get("note", "{}"))
    except OSError as error:
        raise DsegError(f"cannot be read: {error.strerror or error}", where=path) from None
    except SafetensorError as error:
        raise DsegError(f"is no safetensors file: {error}", where=path, fix="Remove it and train anew") from None
    return note


def labels_digest(labels: LabelStore, keys: Sequence[ViewKey]) -> str:
    """Digest of the masks of some views. Raises DsegError when one is missing or broken."""
    masks = hashlib.sha256()
    for key in keys:
        mask = labels.mask(key)
        # Compared after decoding, so that another PNG compressor does not look like other labels.
        masks.update(digest(str(key).encode(), str(mask.shape).encode(), mask.tobytes()).encode())
    return masks.hexdigest()


def digest(*parts: bytes) -> str:
    """SHA-256 of the parts, each with its length, as hex."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()
