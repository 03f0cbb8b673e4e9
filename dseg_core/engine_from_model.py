"""From an exported model to an engine of TensorRT or TensorRT-RTX, and whether its masks are the model's."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from dseg_core.errors import DsegError
from dseg_core.image_codecs import decode
from dseg_core.model_from_student import export as export_model
from dseg_core.model_from_student import model_place, summary_folder
from dseg_core.networks.checkpoint import RunDescription
from dseg_core.progress import Summary, check_writable, progress, share_bar
from dseg_core.runtime.cuda_memory import NoDeviceError
from dseg_core.runtime.engine_cache import Engine, EngineCache
from dseg_core.runtime.engine_description import ANY_GPU
from dseg_core.runtime.engine_file import write_engine_file
from dseg_core.runtime.engine_from_onnx import (
    EngineSource,
    check_float8,
    engine_of,
    source_for_capability,
    source_for_this_gpu,
)
from dseg_core.runtime.onnxruntime_backend import OnnxRuntimeBackend
from dseg_core.runtime.predictor import Predictor
from dseg_core.runtime.tensorrt_backend import TensorRtBackend
from dseg_core.runtime.tensorrt_library import TensorRt
from dseg_core.stage_options import ExportOptions
from dseg_core.store import FrameStore
from dseg_core.words import count

AGREEMENT = 0.98
"""Smallest share of pixels in which an engine must give the model's class; fewer are told as a problem."""

CONFIDENCE = 0.01
"""Largest mean difference of an engine's confidence from the model's, of 1; more is told as a problem."""


def export(run: Path, options: ExportOptions) -> Summary:
    """Write the model of a run, and build an engine of it where the options ask for one.

    Args:
        run: A folder written by `dseg train`.
        options: Of the model, and of the engine.

    Raises:
        DsegError: As `model_from_student.export`; no GPU, no library, an engine that cannot be built or kept.
    """
    if options.engine == "none":
        return export_model(run, options)
    # All that could be missing is asked for before anything takes long.
    model = model_place(run, options)
    if options.engine_out is not None:
        check_writable(options.engine_out.parent)
    source = _source(model, options)
    EngineCache(options.build.cache)
    if options.precision == "fp8":
        check_float8(source)
    exported = export_model(run, options.without_engine())
    with share_bar("building the engine") as building:
        engine = engine_of(source, options.build, building)
    if options.engine_out is not None:
        write_engine_file(engine, options.engine_out)
    problems: list[str] = []
    results: dict[str, Any] = {
        "path": str(engine.path),
        "bytes": len(engine.content),
        "sha256": engine.description.sha256,
        **dataclasses.asdict(engine.description.key),
    }
    text = f"{exported.text}\n{_told(engine)}"
    if options.engine_out is not None:
        text += f" A copy to carry is {options.engine_out}."
    if not options.build_only:
        shares, apart = _agreement(source, engine, run, options)
        results["agreement"], results["confidence_error"] = share, error = float(np.mean(shares)), float(np.mean(apart))
        text += f" It gives the model's class in {share:.3%} of pixels on {count(len(shares), 'image')}"
        text += f" and a confidence that is {error:.4f} from it in the mean."
        if share < AGREEMENT:
            problems.append(f"the engine gives another class than the model in {1 - share:.2%} of pixels")
        if error > CONFIDENCE:
            problems.append(f"the engine's confidence is {error:.3f} from the model's in the mean")
    summary = Summary(text, {**exported.results, "engine": results}, (*exported.problems, *problems))
    return summary.write(summary_folder(run, source.model), "export", options)


def _source(model: Path, options: ExportOptions) -> EngineSource:
    library = TensorRt(options.engine, options.build.verbose)
    if options.capability:
        return source_for_capability(model, library, options.capability)
    try:
        return source_for_this_gpu(model, library)
    except NoDeviceError as error:
        if not library.capabilities():
            raise
        fix = "Build for GPUs that are not here with --capability, such as 8.9, and --build-only"
        raise NoDeviceError(error.what, fix=fix) from None


def _told(engine: Engine) -> str:
    key = engine.description.key
    gpus = f"all GPUs of compute capability {key.capability}" if key.gpu == ANY_GPU else f"the {key.gpu}"
    return (
        f"Its engine for {gpus}, by {key.library} {key.version}, is {engine.path} ({len(engine.content) / 1e6:.1f} MB)."
    )


def _agreement(
    source: EngineSource, engine: Engine, run: Path, options: ExportOptions
) -> tuple[list[float], list[float]]:
    """Of each of some recorded images: share of pixels with the model's class, mean difference of the confidence."""
    described = RunDescription.read(run)
    frames = options.frames or (run / described.frames).resolve()
    store = FrameStore(frames)
    keys = store.view_keys
    chosen = np.unique(np.linspace(0, len(keys) - 1, min(options.check_frames, len(keys))).round().astype(int))
    if not len(chosen):
        raise DsegError("holds no image", where=frames, fix="Give other frames with --frames")
    ours, theirs = Predictor(TensorRtBackend(source.library, engine)), Predictor(OnnxRuntimeBackend(source.model))
    shares, apart = [], []
    for number in progress(chosen, "comparing with the model", unit="image"):
        images = [decode(store.view(keys[number]).image)] * ours.batch
        found, expected = (predictor.predict_batch(images)[0] for predictor in (ours, theirs))
        shares.append(float((found.mask == expected.mask).mean()))
        both = [np.zeros(1) if one.confidence is None else one.confidence / 255 for one in (found, expected)]
        apart.append(float(np.abs(both[0] - both[1]).mean()))
    return shares, apart
