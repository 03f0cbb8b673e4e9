"""The process that builds one engine; it is told what by a line of JSON on its standard input.

A process of its own, since a build takes minutes and gigabytes, can only be stopped by a kill, and brings the whole
process down where the library fails badly. It writes the engine to a file and tells of itself in lines of JSON on its
standard output: `{"share": 0.4}`, `{"log": "..."}`, then `{"done": SECONDS}` or `{"failed": WHAT, "fix": HOW}`. It ends
when its standard input does, so that it never outlives who asked for the engine.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from dseg_core.errors import DsegError
from dseg_core.runtime.build_share import BuildShare, monitor_of
from dseg_core.runtime.onnx_header import read_onnx
from dseg_core.runtime.tensorrt_library import LOG, TensorRt

Shape = tuple[int, ...]
BUILDER = 2
"""Counted up when the same job gives another engine, so that those built before are not taken for it."""

_ALLOCATES_NOTHING = "REQUIRE_USER_ALLOCATION"
"""TensorRT-RTX's flag without which no CUDA graph can be made of what an engine queues."""

_DELICATE = ("NORMALIZATION", "SOFTMAX", "REDUCE", "UNARY", "ELEMENTWISE")
"""Layers whose sums, squares and exponentials overflow in 16 bits, or of which soft-max and layer norms are made up."""


@dataclass(frozen=True)
class BuildJob:
    """What is built.

    `library`: one of LIBRARIES. `model`: an .onnx file with the digest `sha256`. `out`: file to write. `input` and
    `shapes`: its input's name, and the least, usual and largest shape where it is not fixed. `capability`: "8.9" for
    GPUs of that kind, "" for the one that is there. `workspace`: MiB, 0 for all. `level`: -1 for the library's own.
    """

    library: str
    model: str
    sha256: str
    out: str
    input: str
    shapes: tuple[Shape, Shape, Shape] | None
    capability: str
    workspace: int
    level: int
    verbose: bool

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))


def build(job: BuildJob, tell: Callable[[float], None]) -> None:
    """Write the engine of `job` to `job.out`. Raises DsegError, OSError."""
    library = TensorRt(job.library, job.verbose)
    where = Path(job.model)
    content = read_onnx(where)
    if hashlib.sha256(content).hexdigest() != job.sha256:
        raise DsegError("was changed while its engine was to be built", where=where, fix="Run it again")
    trt = library.module
    builder = trt.Builder(library.logger)
    network = builder.create_network(library.network_flags())
    parser = trt.OnnxParser(network, library.logger)
    if not parser.parse(content):
        why = "; ".join(_words(parser.get_error(i)) for i in range(min(parser.num_errors, 2))) or library.words()
        raise DsegError(f"{job.library} {library.version} does not take it: {why}", where=where)
    config = builder.create_builder_config()
    _configure(library, builder, network, config, job)
    monitor = monitor_of(trt, BuildShare(tell))
    if monitor is not None:
        config.progress_monitor = monitor
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise DsegError(f"{job.library} {library.version} built no engine: {library.words()}", where=where)
    _check(library, engine, where)
    with Path(job.out).open("wb") as file:
        file.write(engine)
        file.flush()
        os.fsync(file.fileno())


def _words(error: Any) -> str:
    """A parser's error in one line."""
    place = f"{error.node_operator()}: " if hasattr(error, "node_operator") else ""  # since TensorRT 10
    return place + " ".join(str(error.desc()).split())


def _configure(library: TensorRt, builder: Any, network: Any, config: Any, job: BuildJob) -> None:
    trt = library.module
    if job.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job.workspace << 20)
    if job.level >= 0:
        config.builder_optimization_level = job.level
    if hasattr(trt.BuilderFlag, _ALLOCATES_NOTHING):
        config.set_flag(getattr(trt.BuilderFlag, _ALLOCATES_NOTHING))
    if not library.strongly_typed:
        kinds = _kinds(network)
        for flag, kind in (("FP16", "HALF"), ("INT8", "INT8")):
            if kind in kinds:
                config.set_flag(getattr(trt.BuilderFlag, flag))
        if "HALF" in kinds:
            _keep_32_bits(trt, network, config)
    if job.capability:
        known = library.capabilities()
        if job.capability not in known:
            fix = f"It builds for {', '.join(known)}" if known else "It builds for the GPU that is there only"
            raise DsegError(f"does not build for compute capability {job.capability}", where=job.library, fix=fix)
        config.num_compute_capabilities = 1
        kind = getattr(trt.ComputeCapability, f"SM{job.capability.replace('.', '')}")
        if not config.set_compute_capability(kind, 0):
            raise DsegError(f"refuses compute capability {job.capability}: {library.words()}", where=job.library)
    if job.shapes is not None:
        profile = builder.create_optimization_profile()
        profile.set_shape(job.input, *job.shapes)
        if config.add_optimization_profile(profile) < 0:
            raise DsegError(f"refuses the sizes {job.shapes}: {library.words()}", where=job.library)


def _check(library: TensorRt, engine: Any, where: Path) -> None:
    """Read back what was built, as far as that goes without the GPU it is for (TensorRT-RTX). Raises DsegError."""
    runtime = library.module.Runtime(library.logger)
    if hasattr(runtime, "get_engine_validity"):
        _, found = runtime.get_engine_validity(engine)
        if int(found) & int(library.module.EngineInvalidityDiagnostics.MALFORMED_ENGINE):
            raise DsegError(f"{library.name} does not read what it built: {library.words()}", where=where)


def _kinds(network: Any) -> set[str]:
    """The types that a parsed network computes in; those of TensorRT 8.6 are allowed by flags, not by the model."""
    layers = (network.get_layer(i) for i in range(network.num_layers))
    return {layer.get_output(i).dtype.name for layer in layers for i in range(layer.num_outputs)}


def _keep_32_bits(trt: Any, network: Any, config: Any) -> None:
    """Hold layers to 32 bits that the model has in 32 and that 16 are not enough for: a flag allows 16 everywhere."""
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    for layer in (network.get_layer(i) for i in range(network.num_layers)):
        outputs = range(layer.num_outputs)
        if layer.type.name in _DELICATE and all(layer.get_output(i).dtype.name == "FLOAT" for i in outputs):
            layer.precision = trt.DataType.FLOAT
            for i in outputs:
                layer.set_output_type(i, trt.DataType.FLOAT)


class _Lines(logging.Handler):
    def __init__(self, tell: Callable[..., None]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(log=record.getMessage())


def main() -> int:
    """Build what the first line of the standard input asks for. Returns the exit status."""
    # The library may print; what it prints must not come between the lines.
    out: IO[str] = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    lock = threading.Lock()

    def tell(**what: object) -> None:
        with lock:
            out.write(json.dumps(what) + "\n")

    content = json.loads(sys.stdin.readline())
    shapes = content["shapes"]
    job = BuildJob(**{**content, "shapes": shapes and tuple(tuple(shape) for shape in shapes)})
    threading.Thread(target=_end_with_input, daemon=True).start()
    LOG.addHandler(_Lines(tell))
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    begun = time.monotonic()
    try:
        build(job, lambda share: tell(share=round(share, 3)))
    except DsegError as error:
        tell(failed=f"{error.where}: {error.what}" if error.where else error.what, fix=error.fix)
        return 1
    except OSError as error:
        tell(failed=f"{error.filename or job.out}: {error.strerror or error}", fix="")
        return 1
    tell(done=time.monotonic() - begun)
    return 0


def _end_with_input() -> None:
    while os.read(0, 4096):  # not by sys.stdin, which a thread may not hold when the process ends
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
