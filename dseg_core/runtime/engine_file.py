"""Engines as files that the user carries about: FILE.engine and what it is in FILE.engine.json beside it."""

from __future__ import annotations

from pathlib import Path

from dseg_core.errors import DsegError
from dseg_core.progress import write_whole
from dseg_core.runtime.engine_cache import Engine
from dseg_core.runtime.engine_description import EngineDescription


def write_engine_file(engine: Engine, path: Path) -> None:
    """Write an engine and its description, each whole or not at all. Raises OSError."""
    write_whole(path, engine.content)
    write_whole(_description(path), engine.description.to_json())


def read_engine_file(path: Path, trust: bool) -> Engine:
    """Read an engine that the user gave.

    Args:
        path: Of the engine.
        trust: Whether the user said that it may be loaded: it is code.

    Raises:
        DsegError: It may not; or it has no description, or another one.
    """
    if not trust:
        raise DsegError(
            "is an engine, which is code that runs as it is",
            where=path,
            fix="If it is your own, say so with engine.trust; or give the .onnx model",
        )
    beside = _description(path)
    try:
        content, text = path.read_bytes(), beside.read_bytes()
        description = EngineDescription.of_json(text)
    except FileNotFoundError as error:
        raise DsegError("is missing", where=str(error.filename), fix=_FIX) from None
    except OSError as error:
        raise DsegError(f"cannot be read: {error.strerror}", where=str(error.filename)) from None
    except ValueError:
        raise DsegError("does not describe an engine", where=beside, fix=_FIX) from None
    if fault := description.fault(content):
        raise DsegError(f"{fault} as {beside.name} tells", where=path, fix=_FIX)
    return Engine(content, description, path)


_FIX = "`dseg export RUN --engine-out FILE` writes an engine and its FILE.json"


def _description(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
