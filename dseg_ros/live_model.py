"""The model that a node runs: opened, tried and swapped for another while it runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from dseg_core.errors import DsegError
from dseg_core.runtime.predictor import Predictor, open_model

_TRIED = (64, 64)  # image for a model that takes any size


class LiveModel:
    """`predictor` always is one that works. `name`: for people. `refused`: why the last other one was not taken.

    Args:
        path: An .onnx file of `dseg export`, or None.
        backend: See `open_model`.
        threads: See `open_model`.

    Raises:
        DsegError: None is given, or it cannot be used.
    """

    def __init__(self, path: Path | None, backend: str, threads: int) -> None:
        self.refused = ""
        self.predictor, self.name = _opened(path, backend, threads)

    def swap(self, path: Path | None, backend: str, threads: int) -> None:
        """Take another model, or the same file anew. Raises DsegError, with the old one still in place."""
        try:
            self.predictor, self.name = _opened(path, backend, threads)
        except DsegError as error:
            self.refused = str(error)
            raise
        self.refused = ""


def _opened(path: Path | None, backend: str, threads: int) -> tuple[Predictor, str]:
    if path is None:
        raise DsegError("no model is given", fix="Set the parameter model to an .onnx file that `dseg export` made")
    predictor = open_model(path, backend, threads)
    # The first image takes longer than any other, and shows whether the model runs at all.
    predictor.predict(np.zeros((*(predictor.size or _TRIED), 3), np.uint8))
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12] if path.is_file() else "a run's folder"
    except OSError as error:
        raise DsegError(f"cannot be read: {error.strerror}", where=path) from None
    return predictor, f"{path.name} ({digest})"
