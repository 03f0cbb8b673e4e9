"""A mask model as one ONNX graph."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import onnx
import torch
from onnx import version_converter

from dseg_core.networks.mask_model import MaskModel
from dseg_core.runtime.contract import CONFIDENCE, HEIGHT, INPUT, MASK, WIDTH
from dseg_core.runtime.size_range import Size, SizeRange

OPSET, IR_VERSION = 17, 8
"""What ONNX Runtime 1.14 and TensorRT 8.6 take; the exporter's own IR version is too new even for ONNX Runtime 1.17."""

FLOAT8_OPSET = 19
"""The first with 8-bit floats, which TensorRT 10 takes."""

_LEAST_EXPORTED = 18
"""What torch writes; what is older is made of it."""


def graph_from_model(model: MaskModel, size: Size | SizeRange, batch: int = 1, opset: int = OPSET) -> onnx.ModelProto:
    """Export for images of one size, or of a range of sizes; weights are inside.

    Args:
        model: In eval mode.
        size: (height, width) of the images, or their range.
        batch: Images at once.
        opset: Of ONNX.

    Returns:
        A checked graph: `image` uint8 (batch, H, W, 3) to `mask` and, if the model gives one, `confidence`, uint8
        (batch, H, W). Sides that are not fixed are called `height` and `width`. No metadata yet.
    """
    usual, free = (size.usual, _free(size)) if isinstance(size, SizeRange) else (size, None)
    example = torch.zeros((batch, *usual, 3), dtype=torch.uint8)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it tells its own steps, which say nothing to who exports a model
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model, (example,), dynamo=True, verbose=False, external_data=False,
                opset_version=max(opset, _LEAST_EXPORTED),
                input_names=[INPUT], output_names=[MASK, CONFIDENCE] if model.confidence else [MASK],
                dynamic_shapes=free,
            )  # fmt: skip
    finally:
        logger.setLevel(level)
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    proto: onnx.ModelProto = program.model_proto
    _strip(proto)
    if opset < _LEAST_EXPORTED:
        proto = _older(proto, opset)
    proto.ir_version = IR_VERSION
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _free(sizes: SizeRange) -> dict[str, dict[int, Any]]:
    """The sides that are known only when the graph runs, as torch takes them."""
    sides = zip((HEIGHT, WIDTH), sizes.smallest, sizes.largest, strict=True)
    return {"image": {i: torch.export.Dim(name, min=low, max=high) for i, (name, low, high) in enumerate(sides, 1)}}


def _older(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """A graph of an older opset; every tensor is what it was."""
    for node in proto.graph.node:
        for attribute in list(node.attribute):
            # Says something of reductions without axes, which there are none of, and onnx's converter leaves it in.
            if attribute.name == "noop_with_empty_axes":
                node.attribute.remove(attribute)
    return version_converter.convert_version(proto, opset)


def _strip(proto: onnx.ModelProto) -> None:
    """Take out where in which file each node was made: paths of the machine that exported."""
    for part in (*proto.graph.node, *proto.graph.value_info, *proto.graph.initializer, *proto.graph.input,
                 *proto.graph.output, proto.graph):  # fmt: skip
        del part.metadata_props[:]
        part.doc_string = ""
