"""Models whose engines are built in a second, without a GPU."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from dseg_core.class_table import ClassTable
from dseg_core.runtime.contract import Contract
from dseg_core.runtime.size_range import SizeRange

CLASSES = ClassTable.of_names(["dark", "bright"], [(0, 0, 0), (255, 255, 255)])


def write_model(
    path: Path, limit: float = 127.0, sizes: SizeRange | None = None, classes: ClassTable = CLASSES
) -> Path:
    """Mask: red over `limit`; confidence: red. 6x8 pixels, or a range of sizes."""
    size = None if sizes else (6, 8)
    shape = (1, *(size or ("height", "width")))
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["x", "red"], ["r"], axis=3),
        helper.make_node("Greater", ["r", "limit"], ["g"]),
        helper.make_node("Cast", ["g"], ["mask"], to=TensorProto.UINT8),
        helper.make_node("Cast", ["r"], ["confidence"], to=TensorProto.UINT8),
    ]
    constants = [
        helper.make_tensor("red", TensorProto.INT64, [], [0]),
        helper.make_tensor("limit", TensorProto.FLOAT, [], [limit]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in ("mask", "confidence")]
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.UINT8, (*shape, 3))]
    graph = helper.make_graph(nodes, "bright", inputs, ports, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, Contract(classes, size, sizes).to_metadata())
    onnx.save(model, path)
    return path
