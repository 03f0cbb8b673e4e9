"""An exported graph with 8-bit convolutions and matrix products, as QuantizeLinear/DequantizeLinear pairs.

For TensorRT, which takes them as they are: whole numbers (int8) or floating point (fp8).
"""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime import quantization

from dseg_core.networks import float8_graph, mask_graph
from dseg_core.progress import progress
from dseg_core.runtime.contract import INPUT

PRECISIONS = ("int8", "fp8")
_LAYERS = ("Conv", "MatMul", "Gemm")
_NAMES = "members"  # the matrix that adds up clusters of one name, after the network


class _Images(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Batches of calibration images, one at a time; what is left over after the last whole batch is filled up."""

    def __init__(self, images: Sequence[NDArray[np.uint8]], batch: int) -> None:
        starts = progress(range(0, len(images), batch), "calibrating", unit="batch")
        self._batches: Iterator[NDArray[np.uint8]] = (
            np.stack([images[(start + i) % len(images)] for i in range(batch)]) for start in starts
        )

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next batch by the input's name, or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def quantised(
    proto: onnx.ModelProto, images: Sequence[NDArray[np.uint8]], batch: int, precision: str
) -> onnx.ModelProto:
    """Quantise the layers inside the network, calibrated on images.

    Weights by channel and activations by tensor, all symmetric and by their largest value, as TensorRT takes them;
    biases, the first and the last layers, layer norms, soft-max, and everything around the network stay in float32.

    Args:
        proto: Of `mask_graph.graph_from_model`, float32.
        images: uint8 (H, W, 3) each, of the graph's size.
        batch: Of the graph.
        precision: One of PRECISIONS; for fp8 the graph is of opset 19 or later.
    """
    names = inner_layers(proto)
    root, silent = logging.getLogger(), logging.NullHandler()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises on steps of its own, which say nothing to who exports a model
    root.addHandler(silent)  # where there is none, logging installs one by itself, and all later lines look different
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "quantised.onnx"
            quantization.quantize_static(
                copy.deepcopy(proto),  # it moves the weights out of what it is given
                path,
                _Images(images, batch),
                quant_format=quantization.QuantFormat.QDQ,
                op_types_to_quantize=list(_LAYERS),
                per_channel=True,
                activation_type=quantization.QuantType.QInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_quantize=names,
                calibrate_method=quantization.CalibrationMethod.MinMax,
                extra_options={
                    "ActivationSymmetric": True,
                    "WeightSymmetric": True,
                    "QuantizeBias": False,  # TensorRT takes biases in float only
                    "OpTypesToExcludeOutputQuantization": list(_LAYERS),
                },
            )
            found = onnx.load(path)
    finally:
        root.setLevel(level)
        root.removeHandler(silent)
    found.ir_version = mask_graph.IR_VERSION
    if precision == "fp8":
        found = float8_graph.as_float8(found, proto)
        found.ir_version = float8_graph.IR_VERSION
    onnx.checker.check_model(found, full_check=True)
    return found


def inner_layers(proto: onnx.ModelProto) -> list[str]:
    """Names of the convolutions and products with weights, without the first and the last ones of the network."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    layers = [
        node
        for node in proto.graph.node
        if node.op_type in _LAYERS and weights.intersection(node.input[1:2]) and _NAMES not in node.input
    ]
    # What a layer's result reaches without passing another layer, and from what it is reached.
    made_by = {name: node for node in proto.graph.node for name in node.output}
    own = {node.name for node in layers}

    def before(names: Sequence[str]) -> Iterator[str]:
        """Layers, and inputs of the graph, that are met first on the way back from some tensors."""
        seen, open_ = set(names), list(names)
        while open_:
            name = open_.pop()
            node = made_by.get(name)
            if node is None:
                yield name
            elif node.name in own:
                yield node.name
            else:
                new = [source for source in node.input if source not in seen]
                seen.update(new)
                open_ += new

    last = set(before([output.name for output in proto.graph.output]))
    first = {node.name for node in layers if INPUT in before([node.input[0]])}
    return [node.name for node in layers if node.name not in first | last]
