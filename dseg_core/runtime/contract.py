"""What a model file promises: its input, its outputs, its classes. Written by `dseg export`, checked by every backend.

Anyone's ONNX model runs that keeps to this (README has an example):

- One input of any name, uint8 (N, H, W, 3), RGB. N, the images at once, is a fixed number, 1 for one camera. H and W
  are fixed too, or both have names; then `dseg_sizes` tells their range.
- An output `mask`, uint8 (N, H, W): ids of classes; 255 is unlabelled.
- If it has one, an output `confidence`, uint8 (N, H, W): the probability of the mask's class times 255. Further outputs
  are not looked at.
- Metadata (`metadata_props`), all of it text:
  `dseg_contract`, the revision, "2";
  `dseg_classes`, a JSON list with an entry per class of the mask, at most 255, ids 0, 1, ... and no name twice:
  `[{"id": 0, "name": "road", "color": [128, 64, 128]}, ...]`, colours R, G, B;
  `dseg_sizes`, only where H and W are not fixed: `{"min": [H, W], "opt": [H, W], "max": [H, W]}`.

What else is in the metadata under `dseg_` is for people: `dseg export` tells the training run, digests of the weights,
frames and labels it comes from, the precision, and how its masks compared with torch's (`dseg_check`).

TensorRT takes such a graph if its first node casts the input to float, the last ones cast from float to uint8, and
nothing is computed in uint8 between.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.records import UNLABELLED
from dseg_core.runtime.size_range import Size, SizeRange

REVISION = 2
"""Counted up when programs of before cannot run what is written from now on."""

_READABLE = ("1", "2")
"""Revision 1 is a part of 2: one image at once, of fixed size, always with a confidence."""

INPUT, MASK, CONFIDENCE = "image", "mask", "confidence"
HEIGHT, WIDTH = "height", "width"
"""What exported graphs call sides that are not fixed."""

_PREFIX, _REVISION, _CLASSES, _SIZES, _INPUT = "dseg_", "dseg_contract", "dseg_classes", "dseg_sizes", "dseg_input"
_FIX = "Export the run again with `dseg export`; what others' models need is in dseg_core/runtime/contract.py"


@dataclass(frozen=True)
class Port:
    """An input or output as the runtime tells it. `shape`: whole numbers where fixed, else names."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Contract:
    """What a model takes and gives.

    `classes`: of the mask, one per name. `size`: (height, width) of its input where that is fixed. `sizes`: their range
    where it is not; None as well where any will do. `batch`: images at once. `confidence`: whether there is one.
    `origin`: how it came about (version, run, network, digests of the data), words by name.
    """

    classes: ClassTable
    size: Size | None
    sizes: SizeRange | None = None
    batch: int = 1
    confidence: bool = True
    origin: Mapping[str, str] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, str]:
        """Metadata for the model file."""
        height, width = self.size or (HEIGHT, WIDTH)
        own = {
            _REVISION: str(REVISION),
            _CLASSES: json.dumps(self.classes.to_list()),
            _INPUT: f"uint8 ({self.batch}, {height}, {width}, 3) RGB",
        }
        if self.sizes is not None:
            own[_SIZES] = self.sizes.to_json()
        return own | {f"{_PREFIX}{name}": words for name, words in self.origin.items()}

    @classmethod
    def of_model(
        cls, metadata: Mapping[str, str], inputs: Sequence[Port], outputs: Sequence[Port], where: str | Path
    ) -> Contract:
        """Read what a model file promises, and refuse it where it does not hold.

        Raises:
            DsegError: Naming the first part that does not fit.
        """
        if _REVISION not in metadata:
            raise DsegError(f"is no model of dseg: its metadata has no {_REVISION}", where=where, fix=_FIX)
        if metadata[_REVISION] not in _READABLE:
            raise DsegError(
                f"keeps contract {metadata[_REVISION]!r}, and this dseg knows {' and '.join(_READABLE)}",
                where=where,
                fix="Export the run again with this version's `dseg export`",
            )
        classes = _classes(metadata, where)
        batch, size = _input(inputs, where)
        sizes = _sizes(metadata, inputs[0], size, where)
        named = {port.name: port for port in outputs}
        if MASK not in named:
            raise DsegError(f"has no output {MASK}; there are: {', '.join(named)}", where=where, fix=_FIX)
        for name in (MASK, CONFIDENCE):
            if name in named:
                _check_output(named[name], batch, size, where)
        origin = {key.removeprefix(_PREFIX): words for key, words in metadata.items() if key.startswith(_PREFIX)}
        kept = {name: words for name, words in origin.items() if name not in ("contract", "classes", "input", "sizes")}
        return cls(classes, size, sizes, batch, CONFIDENCE in named, kept)


def _classes(metadata: Mapping[str, str], where: str | Path) -> ClassTable:
    try:
        classes = ClassTable.from_list(json.loads(metadata[_CLASSES]), where)
    except KeyError:
        raise DsegError(f"has no classes: its metadata lacks {_CLASSES}", where=where, fix=_FIX) from None
    except (ValueError, TypeError, RecursionError):
        raise DsegError(f"has broken classes: its {_CLASSES} is no JSON list", where=where, fix=_FIX) from None
    if not len(classes) or [entry.id for entry in classes.entries] != list(range(len(classes))):
        raise DsegError("has class ids that are not 0, 1, ... without gaps", where=where, fix=_FIX)
    if len(classes) > UNLABELLED:
        raise DsegError(f"has {len(classes)} classes; masks have at most {UNLABELLED}", where=where, fix=_FIX)
    if len(classes.names) < len(classes):
        raise DsegError("has two classes of one name", where=where, fix="Make them one class in the graph")
    return classes


def _input(inputs: Sequence[Port], where: str | Path) -> tuple[int, Size | None]:
    """Images at once, and (height, width) where that is fixed."""
    if len(inputs) != 1:
        raise DsegError(f"has {len(inputs)} inputs, not one", where=where, fix=_FIX)
    port = inputs[0]
    if port.dtype != "uint8":
        raise DsegError(f"input {port.name} is {port.dtype}, not uint8", where=where, fix=_FIX)
    shape = port.shape
    if len(shape) != 4 or shape[3] != 3:
        raise DsegError(f"input {port.name} has the shape {_shown(shape)}, not (N, H, W, 3)", where=where, fix=_FIX)
    batch, height, width = shape[:3]
    if not isinstance(batch, int) or batch < 1:
        raise DsegError(
            f"input {port.name} takes no fixed number of images: its shape is {_shown(shape)}",
            where=where,
            fix="Export it for one image, (1, H, W, 3), or as many as there are cameras",
        )
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        return batch, (height, width)
    if isinstance(height, str) and isinstance(width, str):
        return batch, None
    raise DsegError(
        f"input {port.name} has the shape {_shown(shape)}; height and width must both be fixed, or both not",
        where=where,
        fix=_FIX,
    )


def _sizes(metadata: Mapping[str, str], port: Port, size: Size | None, where: str | Path) -> SizeRange | None:
    if size is None:
        if _SIZES not in metadata:
            raise DsegError(
                f"input {port.name} has no fixed size, {_shown(port.shape)}, and the metadata no {_SIZES}",
                where=where,
                fix=_FIX,
            )
        return SizeRange.from_json(metadata[_SIZES], where)
    if _SIZES in metadata:
        raise DsegError(
            f"has {_SIZES}, but input {port.name} has a fixed size: {_shown(port.shape)}", where=where, fix=_FIX
        )
    return None


def _check_output(port: Port, batch: int, size: Size | None, where: str | Path) -> None:
    wanted = (batch, *(size or (HEIGHT, WIDTH)))
    found = tuple(
        own if isinstance(side, str) and isinstance(own, str) else side
        for side, own in zip(port.shape, wanted, strict=False)
    )
    if port.dtype != "uint8" or len(port.shape) != 3 or found != wanted:
        told = f"{port.dtype} {_shown(port.shape)}"
        raise DsegError(f"output {port.name} is {told}, not uint8 {_shown(wanted)}", where=where, fix=_FIX)


def _shown(shape: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, shape))})"
