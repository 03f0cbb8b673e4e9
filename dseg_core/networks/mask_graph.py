"""A mask model as one ONNX graph."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import onnx
import torch

from dseg_core.networks.mask_model import MaskModel
from dseg_core.runtime.contract import CONFIDENCE, HEIGHT, INPUT, MASK, WIDTH
from dseg_core.runtime.size_range import Size, SizeRange

OPSET, IR_VERSION = 18, 8
"""What ONNX Runtime from 1.14 and TensorRT 10 take; the exporter's own IR version is too new for ONNX Runtime 1.17."""


def graph_from_model(model: MaskModel, size: Size | SizeRange, batch: int = 1) -> onnx.ModelProto:
    """Export for images of one size, or of a range of sizes; weights are inside.

    Args:
        model: In eval mode.
        size: (height, width) of the images, or their range.
        batch: Images at once.

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
                model, (example,), dynamo=True, verbose=False, external_data=False, opset_version=OPSET,
                input_names=[INPUT], output_names=[MASK, CONFIDENCE] if model.confidence else [MASK],
                dynamic_shapes=free,
            )  # fmt: skip
    finally:
        logger.setLevel(level)
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    proto: onnx.ModelProto = program.model_proto
    _strip(proto)
    proto.ir_version = IR_VERSION
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _free(sizes: SizeRange) -> dict[str, dict[int, Any]]:
    """The sides that are known only when the graph runs, as torch takes them."""
    sides = zip((HEIGHT, WIDTH), sizes.smallest, sizes.largest, strict=True)
    return {"image": {i: torch.export.Dim(name, min=low, max=high) for i, (name, low, high) in enumerate(sides, 1)}}


def _strip(proto: onnx.ModelProto) -> None:
    """Take out where in which file each node was made: paths of the machine that exported."""
    for part in (*proto.graph.node, *proto.graph.value_info, *proto.graph.initializer, *proto.graph.input,
                 *proto.graph.output, proto.graph):  # fmt: skip
        del part.metadata_props[:]
        part.doc_string = ""
