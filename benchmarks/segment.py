"""How long a camera's uint8 image takes to become a uint8 mask, beside the same network run the usual way.

"dseg": the exported graph, which resizes, normalises and decides at stride 4 by itself; "no confidence": the same
exported with `--confidence false`. "usual": OpenCV resizes, numpy normalises, ONNX Runtime gives logits, OpenCV
enlarges them to the image's size, numpy takes the arg-max. "usual, small": the same with numpy's arg-max at stride 4
and the mask enlarged, also without a confidence: the difference of both is what full-size decoding costs. All in one
process, in turns, so that a busy machine slows each alike; where it is busy, take the processor's time with one thread
(several spin while they wait for one another).

    python benchmarks/segment.py [--threads N] [--rounds N] [--classes N] [--out segment.json]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from dseg_core.class_table import ClassTable
from dseg_core.networks.build import MEAN, STD, build_network
from dseg_core.networks.checkpoint import TrainedNetwork
from dseg_core.networks.mask_graph import OPSET, graph_from_model
from dseg_core.networks.mask_model import MaskModel
from dseg_core.networks.precision import folded
from dseg_core.runtime.contract import Contract
from dseg_core.runtime.onnxruntime_backend import OnnxRuntimeBackend
from dseg_core.runtime.predictor import Predictor
from dseg_core.stage_options import NetworkOptions

SIZES = {"1242x375": (375, 1242), "1920x1080": (1080, 1920)}
Run = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
_ASLEEP = 0.2  # s


def cpu() -> str:
    """The processor's name and cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def dseg_ways(trained: TrainedNetwork, size: tuple[int, int], threads: int) -> dict[str, Run]:
    """The exported graph behind the predictor, with a confidence and without."""
    ways = {}
    for name, confidence in (("dseg", True), ("dseg, no confidence", False)):
        exported = dataclasses.replace(trained, network=folded(trained.network))
        model = MaskModel(exported, confidence=confidence).eval()
        proto = graph_from_model(model, size)
        onnx.helper.set_model_props(proto, Contract(model.classes, size, confidence=confidence).to_metadata())
        predictor = Predictor(OnnxRuntimeBackend(proto.SerializeToString(), threads))
        ways[name] = lambda image, run=predictor: run.predict(image).mask
    return ways


def usual_ways(trained: TrainedNetwork, threads: int) -> dict[str, Run]:
    """The network alone in ONNX Runtime, the rest by OpenCV and numpy."""
    example = torch.zeros((1, 3, trained.height, trained.width))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            trained.network, (example,), dynamo=True, verbose=False, external_data=False, opset_version=OPSET
        )
    assert program is not None
    program.model_proto.ir_version = 8
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    content = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    mean, std = (np.array(v, np.float32) for v in (trained.mean, trained.std))

    def logits(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        resized = cv2.resize(image, (trained.width, trained.height)).astype(np.float32) / 255
        batch = np.ascontiguousarray(((resized - mean) / std).transpose(2, 0, 1)[None])
        return np.asarray(session.run(None, {name: batch})[0][0])

    def usual(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        full = np.stack([cv2.resize(one, image.shape[1::-1]) for one in logits(image)])
        return full.argmax(0).astype(np.uint8)

    def small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        cells = logits(image).argmax(0).astype(np.uint8)
        return np.asarray(cv2.resize(cells, image.shape[1::-1], interpolation=cv2.INTER_NEAREST))

    return {"usual": usual, "usual, small": small}


def measure(ways: dict[str, Run], image: NDArray[np.uint8], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Milliseconds and those of the processor of every round of every way, (rounds, 2), after two to warm up.

    Each begins when the threads of the way before, which spin for a while, are asleep, and is timed the second time.
    """
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds + 2):
        for name, way in ways.items():
            time.sleep(_ASLEEP)
            way(image)
            begun, cpu_begun = time.perf_counter(), time.process_time()
            way(image)
            if number >= 2:
                taken[name].append((1000 * (time.perf_counter() - begun), 1000 * (time.process_time() - cpu_begun)))
    return {name: np.array(times) for name, times in taken.items()}


def main() -> None:
    """Measure, print a table, and keep it as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--classes", type=int, default=31)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    cv2.setNumThreads(arguments.threads)
    torch.manual_seed(0)
    options = NetworkOptions(height=192, width=640)
    network = build_network(options, arguments.classes).eval().requires_grad_(False)
    table = ClassTable.of_clusters(arguments.classes - 1)
    trained = TrainedNetwork(network, table, options.height, options.width, MEAN, STD)
    about = f"{options.kind} network at {options.width}x{options.height}, {arguments.classes} classes"
    print(f"{cpu()}; {arguments.threads} threads; ONNX Runtime {onnxruntime.__version__}; {about}\n")
    print(
        "| image | way | median ms | p99 ms | times dseg | processor ms | times dseg |\n|---|---|---|---|---|---|---|"
    )
    results = []
    usual = usual_ways(trained, arguments.threads)
    for label, size in SIZES.items():
        ways = dseg_ways(trained, size, arguments.threads) | usual
        image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
        taken = measure(ways, image, arguments.rounds)
        for name, times in taken.items():
            (median, cpu_median), p99 = np.median(times, axis=0), np.percentile(times[:, 0], 99)
            ratio, cpu_ratio = np.median(times, axis=0) / np.median(taken["dseg"], axis=0)
            print(f"| {label} | {name} | {median:.1f} | {p99:.1f} | {ratio:.2f} | {cpu_median:.1f} | {cpu_ratio:.2f} |")
            row = {"median_ms": median, "p99_ms": p99, "times_dseg": ratio, "processor_ms": cpu_median}
            results.append({"image": label, "way": name, **{key: float(value) for key, value in row.items()}})
    if arguments.out is not None:
        content = {"machine": cpu(), "threads": arguments.threads, "network": about, "results": results}
        arguments.out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
