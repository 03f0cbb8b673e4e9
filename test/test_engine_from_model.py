"""`dseg export --engine`, as it is typed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from dseg_core import engine_from_model
from dseg_core.cli import main
from dseg_core.errors import DsegError, OptionError
from dseg_core.runtime import cuda_memory, engine_from_onnx
from dseg_core.runtime.engine_file import read_engine_file
from dseg_core.runtime.onnxruntime_backend import OnnxRuntimeBackend
from dseg_core.stage_options import EngineOptions, ExportOptions

pytestmark = pytest.mark.xdist_group("engines")


@pytest.fixture(scope="module")
def run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the exported run, to write to."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(tiny_run.parent, folder / "tiny")
    return folder / "tiny" / "run"


def typed(run: Path, cache: Path, *more: str) -> list[str]:
    return ["export", str(run), "--engine", "tensorrt_rtx", "--build.cache", str(cache), *more]


def test_an_engine_for_gpus_that_are_not_here(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "car.engine"
    command = typed(run, tmp_path / "cache", "--capability", "8.9", "--build-only", "--engine-out", str(out))
    assert main(command) == 0
    told = capsys.readouterr()
    assert "Its engine for all GPUs of compute capability 8.9, by tensorrt_rtx" in told.out
    assert "building the engine" in told.err
    found = json.loads((run / "export" / "summary.json").read_text())["results"]
    assert Path(found["engine"]["path"]).read_bytes() == out.read_bytes()
    assert found["engine"]["capability"] == "8.9" and found["model"] == str(run / "model.onnx")
    assert read_engine_file(out, True).description.contract(out).classes.names[0] == "ground"
    # Again: neither the model nor the engine is made anew.
    written = (run / "model.onnx").stat().st_mtime_ns
    assert main(command) == 0
    told = capsys.readouterr()
    assert "was exported before" in told.out and "building the engine" not in told.err
    assert (run / "model.onnx").stat().st_mtime_ns == written


def test_without_a_gpu_it_says_so_before_the_model_is_made(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> None:
        raise cuda_memory.NoDeviceError("no CUDA device: the driver sees none")

    monkeypatch.setattr(engine_from_onnx, "current_device", none)
    monkeypatch.setattr(engine_from_model, "export_model", lambda *_: 1 // 0)
    assert main(typed(run, tmp_path / "cache")) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith("dseg export: no CUDA device: the driver sees none. Build for GPUs that are not here with")
    for more, words in (
        (("--capability", "9.0", "--build-only"), "tensorrt_rtx: does not know the compute capability '9.0'. It knows"),
        (("--capability", "8.9"), "an engine for other GPUs cannot be run here. Add --build-only"),
    ):
        assert main(typed(run, tmp_path / "cache", *more)) in (1, 2)
        assert words in capsys.readouterr().err
    (tmp_path / "cache").mkdir(mode=0o755)
    assert main(typed(run, tmp_path / "cache", "--capability", "8.9", "--build-only")) == 1
    assert "is open to others" in capsys.readouterr().err


@pytest.mark.parametrize("right", [True, False])
def test_an_engine_is_compared_with_its_model(
    run: Path, tmp_path: Path, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend stands for a GPU's: one gives what the model does, one swaps two classes and is half as sure."""

    class Gpu(OnnxRuntimeBackend):
        def __init__(self, library: object, engine: object) -> None:
            super().__init__(run / "model.onnx", 1)

        def run(self, images):  # type: ignore[no-untyped-def]
            masks, confidences = super().run(images)
            return (masks, confidences) if right else (masks ^ (masks < 2), confidences // 2)

    monkeypatch.setattr(engine_from_model, "TensorRtBackend", Gpu)
    monkeypatch.setattr(engine_from_onnx, "current_device", lambda: cuda_memory.Device("RTX 4090", "8.9"))
    options = ExportOptions(engine="tensorrt_rtx", build=EngineOptions(cache=tmp_path / "cache"))
    done = engine_from_model.export(run, options)
    assert "Its engine for the RTX 4090" in done.text
    assert done.results["engine"]["gpu"] == "RTX 4090"
    assert (done.results["engine"]["agreement"] == 1) == right
    assert bool(done.problems) != right
    if not right:
        assert done.problems[0].startswith("the engine gives another class than the model in ")
        assert re.fullmatch(r"the engine's confidence is 0\.[34]\d\d from the model's in the mean", done.problems[1])
    else:
        assert done.results["engine"]["confidence_error"] == 0


def test_options_that_belong_together() -> None:
    with pytest.raises(OptionError, match="capability is about an engine"):
        ExportOptions(capability="8.9", build_only=True)
    with pytest.raises(OptionError, match=r"capability = 'sm89' must be like 8\.9"):
        ExportOptions(engine="tensorrt_rtx", capability="sm89", build_only=True)
    with pytest.raises(OptionError, match=r"must end in \.engine"):
        ExportOptions(engine="tensorrt_rtx", engine_out=Path("car.onnx"))
    for more in ({}, {"build_only": True}):
        with pytest.raises(OptionError, match=r"tensorrt builds only for the GPU .* Run it without --capability"):
            ExportOptions(engine="tensorrt", capability="8.7", **more)  # type: ignore[arg-type]
    options = ExportOptions(engine="tensorrt_rtx", capability="8.9", build_only=True, height=40)
    assert options.without_engine() == ExportOptions(height=40)


def test_a_library_that_builds_for_its_own_gpu_only(tmp_path: Path) -> None:
    class Library:
        name = "tensorrt"

        def capabilities(self) -> tuple[str, ...]:
            return ()

    with pytest.raises(DsegError, match="tensorrt: builds for the GPU that is there only"):
        engine_from_onnx.source_for_capability(tmp_path, Library(), "8.9")  # type: ignore[arg-type]
