"""How long a camera's image takes on the vehicle's GPU to become a mask, beside torch's ways, in the same run.

One image at a time, from numpy to numpy: "latency" waits for each mask, "images/s" lets the next one begin. Ways: the
engine by TensorRT or TensorRT-RTX behind `open_model`; ONNX Runtime, on the GPU where it has a provider for it; torch
eager; torch.compile; torch with a CUDA graph. All compute the same network, Segmenter ViT-S/16 at 1024x512 in fp16
(torch with its fused attention) and everything around it, in turns, so that a GPU that slows down slows each alike. "of
peak" is the share of the operations that the chip was measured to do in the same run, on large matrices in fp16.

    python benchmarks/engine.py [--rounds N] [--classes N] [--cache FOLDER] [--out engine.json]
    python benchmarks/engine.py --cpu      # a small network without a GPU: whether the benchmark itself works
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import Attention
from torch.utils.flop_counter import FlopCounterMode

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.networks.build import MEAN, STD, build_network
from dseg_core.networks.checkpoint import TrainedNetwork
from dseg_core.networks.mask_graph import graph_from_model
from dseg_core.networks.mask_model import MaskModel
from dseg_core.networks.precision import HalfNetwork, folded
from dseg_core.progress import share_bar
from dseg_core.runtime.contract import Contract
from dseg_core.runtime.predictor import Predictor, open_model
from dseg_core.stage_options import EngineOptions, NetworkOptions
from dseg_core.words import one_line

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Way:
    """One way to run the model. `one`: an image to its mask; `many`: images to masks, the next may begin early."""

    name: str
    one: Callable[[Image], Image]
    many: Callable[[Iterable[Image]], list[Image]]


def torch_half(network: torch.nn.Module) -> torch.nn.Module:
    """In 16 bits as it is exported, but with torch's fused attention."""
    half = HalfNetwork(network)
    for name, module in network.named_modules():
        if isinstance(module, Attention):
            half.inner.set_submodule(name, copy.deepcopy(module).half())
    return half


class FixedSize(MaskModel):
    """For images of one size: what an export works out beforehand is on the device, not brought there each time.

    That would take time, and no CUDA graph may hold it.
    """

    def fix(self, size: tuple[int, int], device: torch.device) -> None:
        """Work it out for images of (height, width)."""
        self.to(device)
        axes = self._axes(torch.empty((1, *size, 3), device="meta"))
        self._rows, self._columns = (axis.cells(count, device) for axis, count in zip(axes, self.cells, strict=True))

    def _enlarge(self, cells: torch.Tensor, axes: object) -> torch.Tensor:
        return cells.index_select(2, self._columns).index_select(1, self._rows)


def mask_model(options: NetworkOptions, classes: int, kind: str, half: bool = True) -> Any:
    """An untrained student with everything around it; the time does not depend on the weights.

    `kind`: full, in 32 bits; exported, in 16 as by `dseg export --precision fp16`; torch, see `torch_half` and
    `FixedSize`. `half`: False keeps 32 bits.
    """
    torch.manual_seed(0)
    network = build_network(options, classes).eval().requires_grad_(False)
    table = ClassTable.of_clusters(classes - 1)
    made = FixedSize if kind == "torch" else MaskModel
    model = made(TrainedNetwork(network, table, options.height, options.width, MEAN, STD))
    inner = folded(network)
    if half and kind != "full":
        inner = {"exported": HalfNetwork, "torch": torch_half}[kind](inner)
    model.network = inner
    return model.eval()


def write_onnx(model: MaskModel, size: tuple[int, int], path: Path) -> None:
    """Export as `dseg export` does."""
    proto = graph_from_model(model, size)
    onnx.helper.set_model_props(proto, Contract(model.classes, size).to_metadata())
    onnx.save(proto, path)


def predictor_way(name: str, predictor: Predictor) -> Way:
    """Ours, by any backend."""
    return Way(
        name,
        lambda image: predictor.predict(image).mask,
        lambda images: [found.mask for found in predictor.predict_all(images)],
    )


def torch_way(name: str, run: Callable[[torch.Tensor], Any], size: tuple[int, int], device: torch.device) -> Way:
    """Torch, with pinned memory and copies that do not wait, as its users write it."""
    pinned = device.type == "cuda"
    here = torch.zeros((1, *size, 3), dtype=torch.uint8, pin_memory=pinned)
    copied = torch.cuda.Event() if pinned else None

    def queued(image: Image) -> torch.Tensor:
        if copied is not None:
            copied.synchronize()  # else the pinned image is overwritten while it is copied
        here.copy_(torch.from_numpy(image)[None])
        there = here.to(device, non_blocking=True)
        if copied is not None:
            copied.record()
        mask: torch.Tensor = run(there)[0]
        return mask

    def one(image: Image) -> Image:
        with torch.inference_mode():
            return np.asarray(queued(image).cpu().numpy()[0], dtype=np.uint8)

    def many(images: Iterable[Image]) -> list[Image]:
        with torch.inference_mode():
            masks = [queued(image).clone() for image in images]
            return [np.asarray(mask.cpu().numpy()[0], dtype=np.uint8) for mask in masks]

    return Way(name, one, many)


def torch_graph(model: MaskModel, size: tuple[int, int], device: torch.device) -> Callable[[torch.Tensor], Any]:
    """The model as one CUDA graph of torch's."""
    taken = torch.zeros((1, *size, 3), dtype=torch.uint8, device=device)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(side):
        for _ in range(3):
            model(taken)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        made = model(taken)

    def run(image: torch.Tensor) -> Any:
        taken.copy_(image)
        graph.replay()
        return made

    return run


def ways_here(model: FixedSize, path: Path, size: tuple[int, int], cpu: bool, engine: EngineOptions) -> list[Way]:
    """Every way that can run here; the others are said."""
    ways = []
    for backend in ("tensorrt", "tensorrt_rtx", "onnxruntime"):
        try:
            with share_bar(f"{backend} builds an engine") as building:
                predictor = open_model(path, backend, engine=engine, building=building)
        except DsegError as error:
            print(f"{backend}: left out: {error}")
            continue
        where = f" ({provider})" if (provider := getattr(predictor.backend, "provider", None)) else ""
        print("".join(f"{backend}: {note}\n" for note in predictor.notes), end="")
        ways.append(predictor_way(f"dseg, {backend}{where}", predictor))
    device = torch.device("cpu" if cpu else "cuda")
    model.fix(size, device)
    ways.append(torch_way("torch eager", model, size, device))
    if not cpu:
        compiled = torch_way("torch.compile", torch.compile(model, mode="max-autotune-no-cudagraphs"), size, device)
        try:
            compiled.one(np.zeros((*size, 3), np.uint8))
            ways.append(compiled)
        except RuntimeError as error:  # without a compiler or Triton, as on aarch64
            print(f"torch.compile: left out: {one_line(error)}")
        ways.append(torch_way("torch, CUDA graph", torch_graph(model, size, device), size, device))
    return ways


def latencies(ways: Sequence[Way], images: Sequence[Image], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Milliseconds of every image by every way, in turns, after ten to warm up."""
    taken: dict[str, list[float]] = {way.name: [] for way in ways}
    for number in range(rounds + 10):
        for way in ways:
            begun = time.perf_counter()
            way.one(images[number % len(images)])
            if number >= 10:
                taken[way.name].append(1000 * (time.perf_counter() - begun))
    return {name: np.array(times) for name, times in taken.items()}


def rates(ways: Sequence[Way], images: Sequence[Image], rounds: int) -> dict[str, float]:
    """Images per second of every way, the best of three runs, in turns."""
    best = dict.fromkeys((way.name for way in ways), 0.0)
    many = [images[number % len(images)] for number in range(rounds)]
    for _ in range(3):
        for way in ways:
            begun = time.perf_counter()
            way.many(many)
            best[way.name] = max(best[way.name], rounds / (time.perf_counter() - begun))
    return best


def measured_peak(device: torch.device, side: int) -> float:
    """Floating-point operations per second on square matrices: fp16 on a GPU, fp32 on a CPU; the best of many."""
    kind = torch.float16 if device.type == "cuda" else torch.float32
    one, two = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    best = 0.0
    for _ in range(5):
        wait(device)
        begun = time.perf_counter()
        for _ in range(10):
            one @ two
        wait(device)
        best = max(best, 10 * 2 * side**3 / (time.perf_counter() - begun))
    return best


def wait(device: torch.device) -> None:
    """Until a GPU has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def operations(model: MaskModel, size: tuple[int, int]) -> int:
    """Floating-point operations of one image: of matrix products and convolutions, a multiplication and a sum each."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros((1, *size, 3), dtype=torch.uint8))
    return int(counter.get_total_flops())


def main(given: Sequence[str] | None = None) -> None:
    """Measure, print a table, and keep it as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--classes", type=int, default=31)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args(given)
    if not arguments.cpu and not torch.cuda.is_available():
        parser.exit(1, "benchmarks/engine.py: torch finds no CUDA device; --cpu tries the benchmark itself\n")
    device = torch.device("cpu" if arguments.cpu else "cuda")
    size = (64, 96) if arguments.cpu else (512, 1024)
    kind = "small" if arguments.cpu else "segmenter"
    options = NetworkOptions(kind=kind, height=size[0], width=size[1], backbone="vit_small_patch16_224", channels=8)
    name = platform.processor() or "CPU" if arguments.cpu else torch.cuda.get_device_name()
    print(f"{name}; torch {torch.__version__}; {kind} network at {size[1]}x{size[0]}, {arguments.classes} classes")
    full = mask_model(options, arguments.classes, "full")
    per_image = operations(full, size)
    ours = full if arguments.cpu else mask_model(options, arguments.classes, "exported")
    torchs = mask_model(options, arguments.classes, "torch", half=not arguments.cpu)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for _ in range(8)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(ours, size, path)
        ways = ways_here(torchs, path, size, arguments.cpu, EngineOptions(cache=arguments.cache))
        expected = next(way for way in ways if way.name == "torch eager")
        alike = {way.name: np.mean([(way.one(i) == expected.one(i)).mean() for i in images]) for way in ways}
        times, speeds = latencies(ways, images, arguments.rounds), rates(ways, images, arguments.rounds)
        peak = measured_peak(device, 512 if arguments.cpu else 8192)
    print(
        f"{per_image / 1e9:.3g} GFLOP an image; measured peak {peak / 1e12:.2f} TFLOP/s; {os.cpu_count()} CPU cores\n"
    )
    print("| way | p50 ms | p99 ms | images/s | of peak | pixels as torch eager |\n|---|---|---|---|---|---|")
    rows = []
    for way in ways:
        p50, p99 = np.percentile(times[way.name], [50, 99])
        share = speeds[way.name] * per_image / peak
        rows.append({"way": way.name, "p50_ms": float(p50), "p99_ms": float(p99), "images_per_s": speeds[way.name],
                     "of_peak": share, "pixels_as_torch": float(alike[way.name])})  # fmt: skip
        cells = f"{p50:.2f} | {p99:.2f} | {speeds[way.name]:.1f} | {share:.1%} | {alike[way.name]:.3%}"
        print(f"| {way.name} | {cells} |")
    if arguments.out is not None:
        told = {
            "gpu": name,
            "gflop": per_image / 1e9,
            "peak_tflops": peak / 1e12,
            "rounds": arguments.rounds,
            "ways": rows,
        }
        arguments.out.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
