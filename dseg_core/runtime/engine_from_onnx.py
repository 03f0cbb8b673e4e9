"""The engine of a model for one GPU: from the cache, or built while whoever else wants it waits."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dseg_core.errors import DsegError
from dseg_core.runtime.contract import Contract
from dseg_core.runtime.cuda_memory import current_device
from dseg_core.runtime.engine_builder import EngineStoppedError, built
from dseg_core.runtime.engine_cache import TEMPORARY, Engine, EngineCache
from dseg_core.runtime.engine_description import ANY_GPU, EngineDescription, EngineKey
from dseg_core.runtime.engine_process import BUILDER, BuildJob, Shape
from dseg_core.runtime.onnx_header import OnnxHeader, header_of, read_onnx
from dseg_core.runtime.tensorrt_library import LOG, TensorRt
from dseg_core.stage_options.engine import EngineOptions

_FLOAT8 = (8, 9)
"""The first GPUs that compute in fp8, Ada's."""


@dataclass(frozen=True)
class EngineSource:
    """What an engine is made of and for.

    `model`: an .onnx file. `library`: builds and runs it. `gpu` and `capability`: of the GPU; ANY_GPU for every one of
    that capability.
    """

    model: Path
    library: TensorRt
    gpu: str
    capability: str


@dataclass(frozen=True)
class Refused:
    """An engine that the library could not load: its digest, and why, in words."""

    sha256: str
    why: str


def source_for_this_gpu(model: Path, library: TensorRt) -> EngineSource:
    """For the GPU that is there. Raises DsegError where there is none, or one that the library does not know."""
    device = current_device()
    known = library.capabilities()
    if known and device.capability not in known:
        what = f"does not know the {device.name}, of compute capability {device.capability}"
        raise DsegError(what, where=library.name, fix=f"It knows {', '.join(known)}")
    return EngineSource(model, library, device.name, device.capability)


def source_for_capability(model: Path, library: TensorRt, capability: str) -> EngineSource:
    """For every GPU of a capability, such as "8.9"; none need be there. Raises DsegError where that cannot be."""
    known = library.capabilities()
    if not known:
        raise DsegError(
            "builds for the GPU that is there only",
            where=library.name,
            fix="Leave out --capability, or use tensorrt_rtx",
        )
    if capability not in known:
        what = f"does not know the compute capability {capability!r}"
        raise DsegError(what, where=library.name, fix=f"It knows {', '.join(known)}")
    return EngineSource(model, library, ANY_GPU, capability)


def check_float8(source: EngineSource) -> None:
    """Raise DsegError unless library and GPU compute in fp8."""
    fix = "Export it with --precision int8 or fp16"
    if tuple(map(int, source.capability.split("."))) < _FLOAT8:
        gpu = f"compute capability {source.capability}" if source.gpu == ANY_GPU else f"the {source.gpu}"
        what = f"fp8 needs a GPU of compute capability {'.'.join(map(str, _FLOAT8))} or later, and {gpu} is older"
        raise DsegError(what, where=source.model, fix=fix)
    if not source.library.strongly_typed:
        what = f"fp8 needs TensorRT 10, and this is {source.library.version}"
        raise DsegError(what, where=source.model, fix=fix)


def engine_of(
    source: EngineSource,
    options: EngineOptions,
    building: Callable[[float], None] | None = None,
    stop: Callable[[], bool] | None = None,
    refused: Refused | None = None,
) -> Engine:
    """The engine of a model: read from the cache, else built and kept there.

    Args:
        source: Model, library and GPU.
        options: Where engines are kept and how they are built.
        building: See `open_model`.
        stop: See `open_model`.
        refused: What was read before and is not wanted any more.

    Raises:
        DsegError: The model is none of dseg's or cannot be built; the cache is not safe or cannot be written.
        EngineStoppedError: `stop` said so.
    """
    header = header_of(read_onnx(source.model), source.model)
    if header.float8:
        check_float8(source)
    shapes = _shapes(header.contract(source.model))
    keys = _keys(source, header, shapes, options)
    cache = EngineCache(options.cache)
    unwanted = refused.sha256 if refused else ""
    found = cache.find(keys, unwanted)
    if isinstance(found, Engine):
        return found
    told = False

    def waiting() -> None:
        nonlocal told
        if not told:
            LOG.warning("%s: its engine is being built by another process; waiting for it", source.model)
            told = True
            if building is not None:
                building(0.0)
        if stop is not None and stop():
            raise EngineStoppedError("waiting for the engine was stopped", where=source.model)

    key = keys[0]
    with cache.hold(key, waiting):
        found = cache.find(keys, unwanted)
        if isinstance(found, Engine):
            return found
        why = refused.why if refused else found
        again = f", since the one that is there {why}" if why else ""
        gpu = f"GPUs of compute capability {key.capability}" if key.gpu == ANY_GPU else key.gpu
        LOG.warning("%s: %s %s builds an engine for %s%s", source.model, key.library, key.version, gpu, again)
        begun = time.monotonic()
        temporary = cache.place(key) / TEMPORARY
        try:
            with closing(built(_job(source, header, shapes, temporary, options), stop)) as shares:
                for share in shares:
                    if building is not None:
                        building(share)
            engine = cache.keep(_described(key, source, header, temporary), options.keep)
        finally:
            temporary.unlink(missing_ok=True)
    LOG.info("%s: the engine was built in %.1f s", source.model, time.monotonic() - begun)
    return engine


def _shapes(contract: Contract) -> tuple[Shape, Shape, Shape] | None:
    """The least, usual and largest shape of the input; None where it is fixed."""
    sizes = contract.sizes
    if sizes is None:
        return None
    least, usual, largest = ((contract.batch, *size, 3) for size in (sizes.smallest, sizes.usual, sizes.largest))
    return least, usual, largest


def _keys(
    source: EngineSource, header: OnnxHeader, shapes: tuple[Shape, Shape, Shape] | None, options: EngineOptions
) -> list[EngineKey]:
    """What will do, best first: what was built for a capability by name runs on all its GPUs."""
    library = source.library
    precision = "the model's types" if library.strongly_typed else "FP16 and INT8 where the model has them"
    sizes = " to ".join("x".join(map(str, shape)) for shape in shapes or [header.inputs[0].shape])
    how = f"workspace {options.workspace} MiB, level {options.level}, builder {BUILDER}"
    gpus = [source.gpu] if source.gpu == ANY_GPU or not library.capabilities() else [source.gpu, ANY_GPU]
    return [
        EngineKey(header.sha256, library.name, library.version, gpu, source.capability, precision, sizes, how)
        for gpu in gpus
    ]


def _job(
    source: EngineSource,
    header: OnnxHeader,
    shapes: tuple[Shape, Shape, Shape] | None,
    out: Path,
    options: EngineOptions,
) -> BuildJob:
    return BuildJob(
        library=source.library.name,
        model=str(source.model),
        sha256=header.sha256,
        out=str(out),
        input=header.inputs[0].name,
        shapes=shapes,
        capability=source.capability if source.library.capabilities() else "",
        workspace=options.workspace,
        level=options.level,
        verbose=options.verbose,
    )


def _described(key: EngineKey, source: EngineSource, header: OnnxHeader, file: Path) -> EngineDescription:
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return EngineDescription(
        key, source.model.name, digest, len(content), header.metadata, header.inputs, header.outputs
    )
