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
        full, half = (benchmark.mask_model(options, 5, kind)(image)[0] for kind in ("full", "torch"))
    assert (full == half).float().mean() > 0.97


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
