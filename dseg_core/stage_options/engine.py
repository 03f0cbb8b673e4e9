"""Options of running models: which backend, and how TensorRT's engines are built and kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dseg_core.options import Options, option

BACKENDS = ("auto", "tensorrt", "tensorrt_rtx", "onnxruntime", "torch")
"""What runs a model; auto takes the first of the others that can, but for torch."""

ENGINE_SUFFIXES = (".engine", ".plan", ".trt")
"""What names of engine files end in."""


@dataclass(frozen=True)
class EngineOptions(Options):
    """Engines, which TensorRT or TensorRT-RTX builds of a model for one GPU, and what ONNX Runtime computes on.

    CUDA_VISIBLE_DEVICES chooses the GPU.
    """

    cache: Path | None = option(
        None, "folder of built engines, the user's own (mode 0700); none: dseg/engines in $XDG_CACHE_HOME or ~/.cache"
    )
    keep: int = option(16, "engines kept there; beyond, the least recently used are removed", minimum=1)
    workspace: int = option(0, "most GPU memory that a layer may use for itself; 0: all", unit="MiB", minimum=0)
    level: int = option(
        -1, "how long to search for a faster engine, 5 longest; -1: the library's default", minimum=-1, maximum=5
    )
    trust: bool = option(False, "load an engine given as a file; an engine is code, so only one of your own")
    providers: tuple[str, ...] = option(
        ("cuda", "cpu"),
        "what ONNX Runtime computes on, best first, of what it has; tensorrt: anew for minutes at each start",
        choices=("tensorrt", "cuda", "cpu"),
    )
    verbose: bool = option(False, "log everything that the library says while it builds")
