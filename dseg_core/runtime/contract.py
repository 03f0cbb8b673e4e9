"""What a model file promises: its input, its outputs, its classes. Written by `dseg export`, checked by every backend.

The promise is in ONNX's metadata, so anyone's graph that keeps it runs too:

- one input, uint8 (1, H, W, 3), RGB, H and W fixed;
- outputs `mask` and `confidence`, uint8 (1, H, W): class ids, and their probability times 255;
- metadata `dseg_contract` (this revision) and `dseg_classes` (JSON list of {id, name, color}).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError

REVISION = 1
"""Counted up when a model of before cannot be run as it was any more."""

INPUT, MASK, CONFIDENCE = "image", "mask", "confidence"
_PREFIX, _REVISION, _CLASSES = "dseg_", "dseg_contract", "dseg_classes"
_FIX = "Export the run again with `dseg export`"


@dataclass(frozen=True)
class Port:
    """An input or output as the runtime tells it. `shape`: whole numbers where fixed, else names."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Contract:
    """What a model takes and gives.

    `classes`: of the mask, one per name. `size`: (height, width) of its input, or None where it takes any. `origin`:
    how it came about (version, run, network, digests of the data), words by name.
    """

    classes: ClassTable
    size: tuple[int, int] | None
    origin: Mapping[str, str] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, str]:
        """Metadata for the model file."""
        height, width = self.size or ("any", "any")
        promise = f"uint8 (1, {height}, {width}, 3) RGB; stretched to the network's input inside"
        own = {_REVISION: str(REVISION), _CLASSES: json.dumps(self.classes.to_list()), f"{_PREFIX}input": promise}
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
        if metadata[_REVISION] != str(REVISION):
            raise DsegError(f"keeps contract {metadata[_REVISION]!r}, not {REVISION}", where=where, fix=_FIX)
        try:
            classes = ClassTable.from_list(json.loads(metadata[_CLASSES]), where)
        except KeyError:
            raise DsegError(f"has no classes: its metadata lacks {_CLASSES}", where=where, fix=_FIX) from None
        except (ValueError, TypeError):
            raise DsegError(f"has broken classes: its {_CLASSES} is no JSON list", where=where, fix=_FIX) from None
        if not len(classes) or [entry.id for entry in classes.entries] != list(range(len(classes))):
            raise DsegError("has class ids that are not 0, 1, ... without gaps", where=where, fix=_FIX)
        size = _input_size(inputs, where)
        _check_outputs({port.name: port for port in outputs}, size, where)
        origin = {k.removeprefix(_PREFIX): v for k, v in metadata.items() if k.startswith(_PREFIX)}
        return cls(classes, size, {k: v for k, v in origin.items() if k not in ("contract", "classes", "input")})


def _input_size(inputs: Sequence[Port], where: str | Path) -> tuple[int, int]:
    if len(inputs) != 1:
        raise DsegError(f"has {len(inputs)} inputs, not one", where=where, fix=_FIX)
    port = inputs[0]
    if port.dtype != "uint8":
        raise DsegError(f"input {port.name} is {port.dtype}, not uint8", where=where, fix=_FIX)
    shape = port.shape
    if len(shape) != 4 or shape[0] != 1 or shape[3] != 3:
        raise DsegError(f"input {port.name} has the shape {_shown(shape)}, not (1, H, W, 3)", where=where, fix=_FIX)
    height, width = shape[1:3]
    if not isinstance(height, int) or not isinstance(width, int) or height < 1 or width < 1:
        raise DsegError(f"input {port.name} has no fixed size: {_shown(shape)}", where=where, fix=_FIX)
    return height, width


def _check_outputs(outputs: Mapping[str, Port], size: tuple[int, int], where: str | Path) -> None:
    for name in (MASK, CONFIDENCE):
        if name not in outputs:
            raise DsegError(f"has no output {name}; there are: {', '.join(outputs)}", where=where, fix=_FIX)
        port = outputs[name]
        if port.dtype != "uint8" or port.shape != (1, *size):
            found = f"{port.dtype} {_shown(port.shape)}"
            raise DsegError(f"output {name} is {found}, not uint8 {_shown((1, *size))}", where=where, fix=_FIX)


def _shown(shape: Sequence[int | str]) -> str:
    return f"({', '.join(map(str, shape))})"
