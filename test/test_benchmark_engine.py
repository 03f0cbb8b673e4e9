"""The GPU benchmark's parts that need no GPU."""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dseg_core.stage_options import NetworkOptions

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def benchmark() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_engine", ROOT / "benchmarks" / "engine.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_it_runs_without_a_gpu(benchmark: types.ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "engine.json"
    benchmark.main(["--cpu", "--rounds", "3", "--classes", "5", "--cache", str(tmp_path / "cache"), "--out", str(out)])
    told = json.loads(out.read_text())
    ways = {row["way"]: row for row in told["ways"]}
    assert {"dseg, onnxruntime (CPU)", "torch eager"} <= set(ways)
    assert all(row["pixels_as_torch"] > 0.999 and row["p50_ms"] <= row["p99_ms"] for row in ways.values())
    assert "| torch eager |" in capsys.readouterr().out


def test_torch_in_16_bits_is_the_same_network(benchmark: types.ModuleType) -> None:
    """With its fused attention: the masks are those of 32 bits, but for near ties."""
    options = NetworkOptions(kind="segmenter", height=64, width=96, backbone="vit_tiny_patch16_224")
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), "uint8"))
    with torch.inference_mode():
        models = [benchmark.mask_model(options, 5, kind) for kind in ("full", "torch")]
        models[1].fix((64, 96), torch.device("cpu"))
        full, half = (model(image)[0] for model in models)
    assert (full == half).float().mean() > 0.97


def test_torchs_model_brings_nothing_to_the_device_when_it_runs(benchmark: types.ModuleType) -> None:
    """Copies from the machine's memory are not allowed in a CUDA graph; another device stands for the GPU here."""
    options = NetworkOptions(kind="segmenter", height=64, width=96, backbone="vit_tiny_patch16_224")
    model, meta = benchmark.mask_model(options, 5, "torch", half=False), torch.device("meta")
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), "uint8"))
    model.fix((64, 96), torch.device("cpu"))
    with torch.inference_mode():
        assert torch.equal(model(image)[0], benchmark.mask_model(options, 5, "full")(image)[0])
    found = list[str]()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, call, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            found.extend(str(call) for one in args if isinstance(one, torch.Tensor) and one.device.type == "cpu")
            return call(*args, **(kwargs or {}))

    model.fix((64, 96), meta)
    there = image.to(meta)
    with torch.inference_mode(), Watch():
        model(there)
    assert not found
    with torch.inference_mode(), Watch():  # the exported model, whose sizes become constants in the graph
        benchmark.mask_model(options, 5, "full").to(meta)(there)
    assert found


def test_operations_are_counted(benchmark: types.ModuleType) -> None:
    """One linear layer: a multiplication and a sum for each weight."""

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 7, bias=False)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.layer(image.float())

    assert benchmark.operations(Model(), (4, 5)) == 2 * 4 * 5 * 3 * 7


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(benchmark: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.main([])
    assert "torch finds no CUDA device; --cpu tries the benchmark itself" in capsys.readouterr().err
