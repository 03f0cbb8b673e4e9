"""Which backend runs a model, why, and what is said when one cannot."""

from __future__ import annotations

import builtins
import hashlib
import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from engines import write_model
from fake_cuda import FakeCuda, FakeLibrary
from onnxruntime.capi import onnxruntime_pybind11_state

from dseg_core.errors import DsegError
from dseg_core.runtime import backends, cuda_memory, engine_from_onnx
from dseg_core.runtime.engine_builder import EngineStoppedError
from dseg_core.runtime.engine_cache import Engine
from dseg_core.runtime.engine_description import EngineDescription, EngineKey
from dseg_core.runtime.engine_file import read_engine_file, write_engine_file
from dseg_core.runtime.engine_from_onnx import engine_of as real_engine_of
from dseg_core.runtime.onnx_header import header_of
from dseg_core.runtime.onnxruntime_backend import OnnxRuntimeBackend
from dseg_core.runtime.predictor import open_model
from dseg_core.runtime.tensorrt_backend import EngineRefusedError
from dseg_core.stage_options.engine import EngineOptions

SHAPES = {"pixels": (1, 6, 8, 3), "mask": (1, 6, 8), "confidence": (1, 6, 8)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx")


def have(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(backends, "installed", lambda name: name in names)


def no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_memory, "runtime", lambda: FakeCuda(devices=0))


def engine_for(model: Path, version: str = "10.3.0", capability: str = "8.9", library: str = "tensorrt") -> Engine:
    header = header_of(model.read_bytes(), model)
    key = EngineKey(header.sha256, library, version, "Fake GPU", capability, "", "", "")
    content = b"engine"
    sha256 = hashlib.sha256(content).hexdigest()
    described = EngineDescription(key, model.name, sha256, len(content), header.metadata, header.inputs, header.outputs)
    return Engine(content, described, model.with_suffix(".plan"))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A GPU of numpy, TensorRT for it, and engines that need no building."""
    cuda = FakeCuda()
    have(monkeypatch, "tensorrt")
    monkeypatch.setattr(cuda_memory, "runtime", lambda: cuda)
    library = FakeLibrary(cuda, SHAPES)
    library.capabilities = lambda: ()  # type: ignore[attr-defined]
    monkeypatch.setattr(backends, "TensorRt", lambda name, verbose: library)
    monkeypatch.setattr(engine_from_onnx, "engine_of", lambda source, *_: engine_for(source.model))
    return cuda


def test_auto_takes_onnx_runtime_where_nothing_else_is(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch)
    predictor = open_model(model)
    assert predictor.backend.name == "onnxruntime"
    assert (
        predictor.reason == "ONNX Runtime on the CPU, since tensorrt is not installed and tensorrt_rtx is not installed"
    )


def test_auto_without_a_gpu_says_so_quietly(
    model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    have(monkeypatch, "tensorrt", "tensorrt_rtx")
    no_device(monkeypatch)
    caplog.set_level(logging.WARNING)
    predictor = open_model(model)
    assert predictor.reason.startswith(
        "ONNX Runtime on the CPU, since tensorrt finds no CUDA device: the driver sees none"
    )
    assert not caplog.records and not predictor.problems
    caplog.set_level(logging.INFO)
    open_model(model)
    assert predictor.reason in caplog.text


def test_auto_takes_tensorrt_where_there_is_a_gpu(model: Path, gpu: FakeCuda) -> None:
    predictor = open_model(model)
    assert predictor.backend.name == "tensorrt" and predictor.reason == "tensorrt, the first choice"
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    np.testing.assert_array_equal(predictor.predict(image).mask, open_model(model, "onnxruntime").predict(image).mask)


def test_auto_passes_what_is_installed_but_broken_and_says_so(
    model: Path, gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(name: str, verbose: bool) -> object:
        raise DsegError("does not load: libnvinfer.so.10", where=name)

    monkeypatch.setattr(backends, "TensorRt", broken)
    predictor = open_model(model)
    assert predictor.backend.name == "onnxruntime"
    assert "tensorrt cannot run it (tensorrt: does not load: libnvinfer.so.10)" in predictor.reason
    assert "tensorrt is installed but cannot run model.onnx: tensorrt: does not load: libnvinfer.so.10" in caplog.text
    assert predictor.problems == (
        "tensorrt is installed but cannot run model.onnx: tensorrt: does not load: libnvinfer.so.10",
    )
    with pytest.raises(DsegError, match="tensorrt: does not load"):
        open_model(model, "tensorrt")


def test_auto_says_that_the_engines_folder_is_not_safe(
    model: Path, gpu: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    monkeypatch.setattr(engine_from_onnx, "engine_of", real_engine_of)
    predictor = open_model(model, engine=EngineOptions(cache=tmp_path / "open"))
    assert predictor.backend.name == "onnxruntime"
    told = (
        r"tensorrt is installed but cannot run model\.onnx: .*open: is open to others \(mode 777\).* `chmod 700 .*open`"
    )
    assert len(predictor.problems) == 1 and re.fullmatch(told, predictor.problems[0])


def test_stopping_is_no_reason_to_take_another(model: Path, gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise EngineStoppedError("building the engine was stopped")

    monkeypatch.setattr(engine_from_onnx, "engine_of", stopped)
    with pytest.raises(EngineStoppedError):
        open_model(model)


def test_an_engine_that_does_not_load_is_built_once_more(
    model: Path, gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def engine_of(source: object, options: object, building: object, stop: object, refused: object = None) -> Engine:
        asked.append(refused)
        found = engine_for(model)
        return found if refused else Engine(b"", found.description, found.path)

    monkeypatch.setattr(engine_from_onnx, "engine_of", engine_of)
    assert open_model(model).backend.name == "tensorrt"
    assert asked[0] is None and asked[1].why == "tensorrt cannot load it: its words"
    monkeypatch.setattr(engine_from_onnx, "engine_of", lambda *_: Engine(b"", engine_for(model).description, model))
    with pytest.raises(EngineRefusedError, match="tensorrt cannot load it: its words"):
        open_model(model, "tensorrt")


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt_rtx"])
def test_a_backend_that_was_asked_for_is_never_another(
    model: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    have(monkeypatch, backend)
    no_device(monkeypatch)
    with pytest.raises(DsegError, match=r"^no CUDA device: the driver sees none"):
        open_model(model, backend)
    assert open_model(model, "onnxruntime").reason == "onnxruntime, as asked for"


def test_a_library_that_is_missing_is_named(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("tensorrt") is None:
        with pytest.raises(DsegError, match=r"tensorrt: is not installed. `pip install 'dseg_ros\[tensorrt\]'`"):
            open_model(model, "tensorrt")
    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name.startswith(("dseg_core.runtime.onnxruntime_backend", "dseg_core.runtime.torch_backend")):
            raise ModuleNotFoundError("No module", name=name.rpartition(".")[2].removesuffix("_backend"))
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    have(monkeypatch)
    with pytest.raises(DsegError, match="onnxruntime: is not installed"):
        open_model(model)
    with pytest.raises(DsegError, match=r"is a folder without run\.json, so no training run"):
        open_model(tmp_path)
    (tmp_path / "run.json").touch()
    with pytest.raises(DsegError, match="torch: is not installed"):
        open_model(tmp_path)


def test_what_is_no_model_is_refused_before_any_library(gpu: FakeCuda, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(DsegError, match=r"text\.onnx: is no ONNX model"):
        open_model(tmp_path / "text.onnx")
    with pytest.raises(DsegError, match=r"is not an .onnx file, which the backend tensorrt wants"):
        open_model(tmp_path, "tensorrt")


def test_engine_files_want_trust_and_what_they_were_built_for(model: Path, gpu: FakeCuda, tmp_path: Path) -> None:
    path, trusted = tmp_path / "car.engine", EngineOptions(trust=True)
    write_engine_file(engine_for(model), path)
    with pytest.raises(
        DsegError, match=r"car.engine: is an engine, which is code that runs as it is\. .*engine\.trust"
    ):
        open_model(path)
    predictor = open_model(path, engine=trusted)
    assert predictor.backend.name == "tensorrt" and predictor.reason == "tensorrt, which built the engine"
    with pytest.raises(DsegError, match="was built by tensorrt, which the backend onnxruntime does not run"):
        open_model(path, "onnxruntime", engine=trusted)
    write_engine_file(engine_for(model, version="8.6.1"), path)
    with pytest.raises(DsegError, match=r"was built by tensorrt 8.6.1, and this is 10.3.0"):
        open_model(path, engine=trusted)
    write_engine_file(engine_for(model, capability="8.7"), path)
    with pytest.raises(DsegError, match=r"for compute capability 8.7; the Fake GPU has 8.9"):
        open_model(path, engine=trusted)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda path: path.write_bytes(b"eng"),
            "car.engine: is cut off: 3 of 6 bytes are there as car.engine.json tells",
        ),
        (lambda path: path.write_bytes(b"enginf"), "car.engine: is broken"),
        (lambda path: Path(f"{path}.json").write_text("{}"), "car.engine.json: does not describe an engine"),
        (lambda path: Path(f"{path}.json").unlink(), "car.engine.json: is missing"),
    ],
)
def test_engine_files_that_are_broken(
    model: Path, tmp_path: Path, harm: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / "car.engine"
    write_engine_file(engine_for(model), path)
    assert read_engine_file(path, True).description == engine_for(model).description
    harm(path)
    with pytest.raises(DsegError, match=message):
        read_engine_file(path, True)


def test_onnx_runtime_takes_the_first_provider_that_is_there(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = OnnxRuntimeBackend(model, 1, ("cuda", "cpu"))
    assert (backend.provider, backend.notes) == ("CPU", [])
    with pytest.raises(DsegError, match="this ONNX Runtime has no tensorrt and no cuda"):
        OnnxRuntimeBackend(model, 1, ("tensorrt", "cuda"))
    asked = []
    real = onnxruntime.InferenceSession

    def session(source: str, settings: object, providers: list[str]) -> object:
        asked.append(providers)
        return real(source, settings, providers=["CPUExecutionProvider"])  # as it does where a GPU is missing

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    there = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    backend = OnnxRuntimeBackend(model, 1, ("cuda", "cpu"))
    assert asked == [["CUDAExecutionProvider", "CPUExecutionProvider"]]
    assert backend.notes == ["ONNX Runtime cannot use CUDAExecutionProvider here"] and backend.provider == "CPU"


@pytest.mark.parametrize("kind", ["EPFail", "Fail", "RuntimeException", "EngineError"])
def test_onnx_runtime_that_fails_on_an_image_says_so_in_a_line(
    model: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """EPFail is what its providers for GPUs raise."""
    backend = OnnxRuntimeBackend(model, 1)

    def failing(binding: object) -> None:
        raise getattr(onnxruntime_pybind11_state, kind)("CUBLAS failure 13:\nat gemm")

    image = np.zeros((1, 6, 8, 3), np.uint8)
    with monkeypatch.context() as patched:
        patched.setattr(backend, "_session", SimpleNamespace(run_with_iobinding=failing))
        with pytest.raises(DsegError, match=r"the model failed: CUBLAS failure 13: at gemm"):
            backend.run(image)
    assert not backend.run(image)[0].any()


def test_descriptions_are_json_for_others(model: Path, tmp_path: Path) -> None:
    write_engine_file(engine_for(model), tmp_path / "car.engine")
    told = json.loads((tmp_path / "car.engine.json").read_text())
    assert told["key"]["library"] == "tensorrt" and told["inputs"][0]["shape"] == [1, 6, 8, 3]


def test_onnxruntime_keeps_no_statistics(tiny_run: Path, tmp_path: Path) -> None:
    """It would keep a device's id and a queue of events in the user's cache, and send them."""
    code = (
        "from pathlib import Path; from dseg_core.runtime.predictor import open_model\n"
        f"open_model(Path({str(tiny_run / 'model.onnx')!r}), 'onnxruntime')"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    subprocess.run([sys.executable, "-c", code], env=environment | {"HOME": str(tmp_path)}, check=True, timeout=120)
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name.lower()]
