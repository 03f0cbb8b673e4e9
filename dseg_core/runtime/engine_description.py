"""What an engine is: of which model, by which library, for which GPU. Kept beside it as JSON."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dseg_core.runtime.contract import Contract, Port

ANY_GPU = "any"
"""In place of a GPU's name where an engine is for every GPU of its compute capability."""

_LABELS = {
    "model": "another model (sha256)",
    "library": "another library",
    "version": "another version of the library",
    "gpu": "another GPU",
    "capability": "another compute capability",
    "precision": "another precision",
    "shapes": "other shapes",
    "options": "other options",
}


@dataclass(frozen=True)
class EngineKey:
    """All that decides what an engine is; another value of any of it is another engine.

    `model`: SHA-256 of the ONNX file. `precision`: whose types the network computes in. `shapes`: of its input.
    `options`: how it was built.
    """

    model: str
    library: str
    version: str
    gpu: str
    capability: str
    precision: str
    shapes: str
    options: str

    def digest(self) -> str:
        """Of all of it, hexadecimal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:24]

    def differs_from(self, other: EngineKey) -> list[str]:
        """What is another thing there, a few words each."""
        mine, theirs = asdict(self), asdict(other)
        return [
            f"{_LABELS[name]} ({_short(theirs[name])}, not {_short(mine[name])})"
            for name in mine
            if mine[name] != theirs[name]
        ]


@dataclass(frozen=True)
class EngineDescription:
    """What is known of an engine. `source`: the model file's name; `sha256` and `size` (bytes): of the engine."""

    key: EngineKey
    source: str
    sha256: str
    size: int
    metadata: Mapping[str, str]
    inputs: Sequence[Port]
    outputs: Sequence[Port]

    def contract(self, where: str | Path) -> Contract:
        """What the model promises. Raises DsegError."""
        return Contract.of_model(self.metadata, self.inputs, self.outputs, where)

    def fault(self, content: bytes) -> str:
        """What is wrong with an engine's content, in words; "" where it is the one described."""
        if len(content) < self.size:
            return f"is cut off: {len(content)} of {self.size} bytes are there"
        same = hashlib.sha256(content).hexdigest() == self.sha256
        return "" if same else "is broken: its content is not what was built"

    def to_json(self) -> bytes:
        """For `of_json`."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()

    @classmethod
    def of_json(cls, content: bytes) -> EngineDescription:
        """Read one. Raises ValueError where it is none."""
        try:
            found = json.loads(content)
            ports = {
                side: tuple(Port(p["name"], p["dtype"], tuple(p["shape"])) for p in found[side])
                for side in ("inputs", "outputs")
            }
            key = EngineKey(**found["key"])
            made = cls(key, found["source"], found["sha256"], int(found["size"]), found["metadata"], **ports)
            texts = [*asdict(made.key).values(), made.source, made.sha256, *made.metadata, *made.metadata.values()]
        except (AttributeError, KeyError, RecursionError, TypeError, UnicodeDecodeError) as error:
            raise ValueError(str(error)) from None
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("text is expected")
        return made


def _short(text: str) -> str:
    """A digest by its beginning; other words as they are."""
    return text[:12] if re.fullmatch("[0-9a-f]{64}", text) else text
