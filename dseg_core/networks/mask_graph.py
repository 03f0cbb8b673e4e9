"""A mask model as one ONNX graph, and how it is compared with torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from dseg_core.networks.mask_model import MaskModel
from dseg_core.progress import progress
from dseg_core.runtime.contract import CONFIDENCE, INPUT, MASK
from dseg_core.runtime.predictor import Backend

OPSET, IR_VERSION = 18, 8
"""What ONNX Runtime from 1.14 and TensorRT 10 take; the exporter's own IR version is too new for ONNX Runtime 1.17."""


@dataclass(frozen=True)
class Agreement:
    """How exported masks compare with torch's, on recorded images.

    `pixels`: share with the same class, over all images; `worst`: of the worst image; `confidence`: largest difference
    of a confidence, of 255.
    """

    images: int
    pixels: float
    worst: float
    confidence: int


def graph_from_model(model: MaskModel, size: tuple[int, int]) -> onnx.ModelProto:
    """Export for images of one size; weights are inside.

    Args:
        model: In eval mode.
        size: (height, width) of the images.

    Returns:
        A checked graph: `image` uint8 (1, H, W, 3) to `mask` and `confidence`, uint8 (1, H, W). No metadata yet.
    """
    example = torch.zeros((1, *size, 3), dtype=torch.uint8)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it tells its own steps, which say nothing to who exports a model
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model, (example,), dynamo=True, verbose=False, external_data=False, opset_version=OPSET,
                input_names=[INPUT], output_names=[MASK, CONFIDENCE],
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


def compare(model: MaskModel, backend: Backend, images: Sequence[NDArray[np.uint8]]) -> Agreement:
    """Run torch and the exported graph on images, uint8 (H, W, 3) of the exported size."""
    shares, difference = [], 0
    for image in progress(images, "comparing with torch", unit="image"):
        mask, confidence = backend.run(image[None])
        with torch.inference_mode():
            expected, sure = (out[0].numpy() for out in model(torch.from_numpy(image)[None]))
        shares.append(float((mask == expected).mean()))
        difference = max(difference, int(np.abs(confidence.astype(np.int16) - sure.astype(np.int16)).max()))
    # Images have one size, so the mean over images is the share over all pixels.
    return Agreement(len(images), float(np.mean(shares)), min(shares), difference)


def _strip(proto: onnx.ModelProto) -> None:
    """Take out where in which file each node was made: paths of the machine that exported."""
    for part in (*proto.graph.node, *proto.graph.value_info, *proto.graph.initializer, *proto.graph.input,
                 *proto.graph.output, proto.graph):  # fmt: skip
        del part.metadata_props[:]
        part.doc_string = ""
