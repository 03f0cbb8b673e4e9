"""Whether a file can be a model at all, told without loading it."""

from __future__ import annotations

from pathlib import Path

from dseg_core.errors import DsegError
from dseg_core.runtime.engine_file import read_engine_file
from dseg_core.runtime.onnx_header import header_of, read_onnx
from dseg_core.stage_options.engine import BACKENDS, ENGINE_SUFFIXES


def check_there(path: Path, backend: str) -> None:
    """Raise DsegError where there is no such file, or no such backend."""
    if backend not in BACKENDS:
        raise DsegError(f"there is no backend {backend!r}", fix=f"Choose one of {', '.join(BACKENDS)}")
    try:
        found = path.exists()
    except OSError as error:  # a name too long, or a folder that may not be looked into
        raise DsegError(f"cannot be read: {error.strerror}", where=path) from None
    if not found:
        raise DsegError("does not exist", where=path, fix="`dseg export RUN` makes RUN/model.onnx")


_FIX = "Give an exported .onnx model, or the folder that `dseg train` wrote"


def check_run(path: Path) -> None:
    """Raise DsegError where a folder is no training run's."""
    if not (path / "run.json").is_file():
        raise DsegError("is a folder without run.json, so no training run", where=path, fix=_FIX)


def check_model(path: Path, backend: str, trust: bool) -> None:
    """Look at what can be known in milliseconds: that it is there, and tells what a model of dseg takes and gives.

    Neither library nor GPU is asked, so that what passes may still be refused when it is opened.

    Args:
        path: As for `open_model`.
        backend: One of `BACKENDS`.
        trust: Whether an engine may be loaded.

    Raises:
        DsegError: It cannot be used.
    """
    check_there(path, backend)
    if path.is_dir():
        check_run(path)
    elif path.suffix in ENGINE_SUFFIXES:
        read_engine_file(path, trust).description.contract(path)
    else:
        header_of(read_onnx(path), path).contract(path)
