"""Networks made ready for export: folded, in 16 bits, in 8 bits."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter

import models
import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.networks.build import MEAN, STD, build_network
from dseg_core.networks.checkpoint import TrainedNetwork
from dseg_core.networks.float8_graph import as_float8
from dseg_core.networks.mask_agreement import CheckImage, compare
from dseg_core.networks.mask_graph import graph_from_model
from dseg_core.networks.mask_model import MaskModel
from dseg_core.networks.precision import HalfNetwork, folded
from dseg_core.networks.quantised_graph import inner_layers, quantised
from dseg_core.runtime.contract import Contract
from dseg_core.runtime.onnxruntime_backend import OnnxRuntimeBackend
from dseg_core.stage_options import NetworkOptions

CAMERA = (375, 1242)
"""Of KITTI's images; the Segmenter below has a real size too, but two layers."""


@pytest.fixture(scope="module")
def segmenter() -> TrainedNetwork:
    torch.manual_seed(0)
    options = NetworkOptions(kind="segmenter", backbone="vit_tiny_patch16_224", height=192, width=640)
    network = build_network(options, 7).eval().requires_grad_(False)
    network.encoder.blocks = network.encoder.blocks[:2]
    network.decoder.score_norm.weight.mul_(5)
    return TrainedNetwork(network, ClassTable.of_clusters(6), 192, 640, MEAN, STD)


@pytest.fixture(scope="module")
def small() -> TrainedNetwork:
    torch.manual_seed(0)
    network = build_network(models.NETWORK, 6)
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(2, 3, 64, 96))
        network.head.weight.mul_(20.0)
    network.eval().requires_grad_(False)
    return TrainedNetwork(network, ClassTable.of_clusters(5), 64, 96, MEAN, STD)


def backend(proto: onnx.ModelProto, classes: ClassTable, size: tuple[int, int]) -> OnnxRuntimeBackend:
    onnx.helper.set_model_props(proto, Contract(classes, size).to_metadata())
    return OnnxRuntimeBackend(proto.SerializeToString(), threads=1)


def types(proto: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor in a graph."""
    inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True).graph
    found = {info.name: info.type.tensor_type.elem_type for info in (*inferred.value_info, *inferred.input)}
    return found | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def test_folding_changes_no_number_and_leaves_no_batch_normalisation(small: TrainedNetwork) -> None:
    image = torch.randn(1, 3, 64, 96)
    network = folded(small.network)
    torch.testing.assert_close(network(image), small.network(image), rtol=1e-4, atol=1e-3)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in small.network.modules()), "the original is left alone"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_segmenter_of_a_real_size(segmenter: TrainedNetwork, precision: str) -> None:
    """Position embeddings are those of the grid, with nothing left to resize; norms and soft-max are in 32 bits."""
    network = HalfNetwork(segmenter.network) if precision == "fp16" else segmenter.network
    model = MaskModel(segmenter).eval()
    proto = graph_from_model(MaskModel(dataclasses.replace(segmenter, network=network)).eval(), CAMERA)
    images = [CheckImage(models.picture(seed, *CAMERA)) for seed in (1, 2)]
    agreement = compare(model, backend(proto, model.classes, CAMERA), images)
    assert agreement.pixels >= (0.999 if precision == "fp32" else 0.995) and agreement.clear > 0.1
    assert agreement.clear_wrong == 0 and agreement.miou_loss < 0.02
    count = Counter(node.op_type for node in proto.graph.node)
    assert count["Resize"] == 1 and not {"If", "Loop", "Shape"} & count.keys()
    shapes = {tuple(tensor.dims) for tensor in proto.graph.initializer}
    assert (1, 12 * 40 + 1, 192) in shapes or (1, 12 * 40, 192) in shapes
    of = types(proto)
    norms = [node for node in proto.graph.node if node.op_type in ("LayerNormalization", "Softmax")]
    assert count["LayerNormalization"] == 2 * 2 + 1 + 2 + 1 + 1 and count["Softmax"] == 3
    assert {of[name] for node in norms for name in node.input} == {TensorProto.FLOAT}
    products = [node for node in proto.graph.node if node.op_type in ("MatMul", "Gemm", "Conv")]
    halves = [node for node in products if {of[name] for name in node.input if name} == {TensorProto.FLOAT16}]
    assert len(halves) == (0 if precision == "fp32" else len(products) - 1), "all but the scores' product"


def test_attention_with_its_soft_max_apart_is_timms() -> None:
    torch.manual_seed(1)
    network = timm.create_model("vit_tiny_patch16_224", img_size=(32, 32), num_classes=0).eval()
    tokens = torch.randn(2, 5, 192)
    half = HalfNetwork(network).inner
    expected = network.blocks[0](tokens)
    torch.testing.assert_close(half.blocks[0](tokens.half()).float(), expected, rtol=0.01, atol=0.01)
    assert half.norm(tokens.half()).dtype == torch.float16 and half.norm.norm.weight.dtype == torch.float32


def test_other_attention_is_refused() -> None:
    class Other(nn.Module):
        fused_attn = True

    with pytest.raises(DsegError, match=r"the network's Other cannot be exported in 16 bits\. Use --precision fp32"):
        HalfNetwork(nn.Sequential(Other()))


def test_half_small_network_has_16_bit_weights_and_32_bit_logits(small: TrainedNetwork) -> None:
    network = HalfNetwork(folded(small.network))
    model = MaskModel(small).eval()
    size = (models.HEIGHT, models.WIDTH)
    proto = graph_from_model(MaskModel(dataclasses.replace(small, network=network)).eval(), size)
    agreement = compare(model, backend(proto, model.classes, size), [CheckImage(models.picture(s)) for s in range(4)])
    assert agreement.pixels > 0.99 and agreement.clear_wrong == 0
    of = types(proto)
    for node in proto.graph.node:
        if node.op_type == "Conv":
            assert {of[name] for name in node.input} == {TensorProto.FLOAT16}
        if node.op_type in ("Exp", "ArgMax", "ReduceMax"):
            assert {of[name] for name in node.input[:1]} == {TensorProto.FLOAT}


def test_quantised_layers_are_the_inner_ones(small: TrainedNetwork, segmenter: TrainedNetwork) -> None:
    named = ClassTable.of_names(["a", "b", "a", "c", "d", "e"], [(i, i, i) for i in range(6)])
    proto = graph_from_model(
        MaskModel(dataclasses.replace(small, network=folded(small.network)), named).eval(), (50, 70)
    )
    weights = [node.input[1] for node in proto.graph.node if node.op_type == "Conv"]
    inner = {node.input[1] for node in proto.graph.node if node.name in set(inner_layers(proto))}
    assert inner == set(weights) - {"network.stem.0.0.weight", "network.head.weight"}
    proto = graph_from_model(MaskModel(segmenter).eval(), CAMERA)
    constants = {tensor.name for tensor in proto.graph.initializer}
    layers = [n for n in proto.graph.node if n.op_type in ("Conv", "MatMul", "Gemm") and n.input[1] in constants]
    # Two blocks and the decoder's, with 4 layers each, and its first projection; without the patches and the scores.
    assert len(inner_layers(proto)) == 3 * 4 + 1 == len(layers) - 3


def test_lines_that_are_logged_after_quantising_look_as_before(small: TrainedNetwork) -> None:
    """In a process without handlers, none is left on logging's root, which would give all lines a prefix."""
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers[:] = []  # pytest's own
    try:
        level = root.level
        plain = graph_from_model(MaskModel(dataclasses.replace(small, network=folded(small.network))).eval(), (48, 64))
        quantised(plain, [np.zeros((48, 64, 3), np.uint8)], 1, "int8")
        assert (root.handlers, root.level) == ([], level)
    finally:
        root.handlers[:] = before


def test_scales_are_the_largest_numbers_over_127(small: TrainedNetwork) -> None:
    """Of weights by channel; of activations over the calibration images; all symmetric, biases left in float."""
    size = (models.HEIGHT, models.WIDTH)
    images = [models.picture(seed) for seed in range(3)]
    plain = graph_from_model(MaskModel(dataclasses.replace(small, network=folded(small.network))).eval(), size)
    proto = quantised(plain, images, 1, "int8")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    makes = {name: node for node in proto.graph.node for name in node.output}
    before = {tensor.name: numpy_helper.to_array(tensor) for tensor in plain.graph.initializer}
    convolutions = {node.name: node for node in plain.graph.node if node.op_type == "Conv"}
    wanted = inner_layers(plain)[5]
    for name in inner_layers(plain):
        node = next(n for n in proto.graph.node if n.name == name)
        back_input, back_weight = makes[node.input[0]], makes[node.input[1]]
        assert back_input.op_type == back_weight.op_type == "DequantizeLinear"
        weight = before[convolutions[name].input[1]]
        scale, zero = (constants[part] for part in back_weight.input[1:3])
        np.testing.assert_allclose(scale, np.abs(weight).max(axis=(1, 2, 3)) / 127, rtol=1e-3)
        assert not zero.any() and zero.dtype == constants[back_weight.input[0]].dtype == np.int8
        assert len(node.input) < 3 or constants[node.input[2]].dtype == np.float32
        if name == wanted:
            found_scale, found_zero = (constants[part] for part in back_input.input[1:3])
    assert proto.opset_import[0].version == 17
    tensor = convolutions[wanted].input[0]
    plain.graph.output.append(onnx.helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(plain.SerializeToString(), providers=["CPUExecutionProvider"])
    largest = max(np.abs(session.run([tensor], {"image": image[None]})[0]).max() for image in images)
    np.testing.assert_allclose(found_scale, largest / 127, rtol=1e-3)
    assert found_zero == 0
    # Nothing but the layers' own inputs goes through 8 bits.
    quantised_inputs = {convolutions[name].input[0] for name in inner_layers(plain)}
    assert {n.input[0] for n in proto.graph.node if n.op_type == "QuantizeLinear"} == quantised_inputs


def test_fp8_is_torchs_and_errs_less_than_by_the_largest_weight(small: TrainedNetwork) -> None:
    """Stored bytes against torch's float8_e4m3fn; scales of activations are the largest numbers over 448."""
    size = (models.HEIGHT, models.WIDTH)
    images = [models.picture(seed) for seed in range(3)]
    network = folded(small.network)
    plain = graph_from_model(MaskModel(dataclasses.replace(small, network=network)).eval(), size, opset=19)
    proto, int8 = (quantised(plain, images, 1, precision) for precision in ("fp8", "int8"))
    assert proto.opset_import[0].version == 19 and proto.ir_version == 9
    stored, whole = ({tensor.name: tensor for tensor in graph.graph.initializer} for graph in (proto, int8))
    scales = {name: numpy_helper.to_array(tensor) for name, tensor in stored.items() if name.endswith("_scale")}
    weights = {name for name in stored if name.endswith("_quantized")}
    assert len(weights) == len(inner_layers(plain)) > 5
    better = 0
    for name in weights:
        exact = network.get_parameter(name.removeprefix("network.").removesuffix("_quantized")).detach()
        scale = torch.tensor(scales[name.replace("_quantized", "_scale")]).view(-1, 1, 1, 1)
        assert stored[name].data_type == TensorProto.FLOAT8E4M3FN
        kept = torch.frombuffer(bytearray(stored[name].raw_data), dtype=torch.float8_e4m3fn).view(exact.shape)
        torch.testing.assert_close(kept.float(), (exact / scale).to(torch.float8_e4m3fn).float(), rtol=0, atol=0)
        usual = exact.abs().amax(dim=(1, 2, 3), keepdim=True) / 448
        assert ((scale > 0.999 * usual) & (scale < 2 * usual)).all()
        by_largest = (exact / usual).clamp(-448, 448).to(torch.float8_e4m3fn).float() * usual
        ours, theirs = ((kept.float() * scale - exact) ** 2, (by_largest - exact) ** 2)
        assert (ours.sum(dim=(1, 2, 3)) <= 1.0001 * theirs.sum(dim=(1, 2, 3))).all()
        better += int((ours.sum() < 0.9 * theirs.sum()).item())
    assert better > len(weights) / 2
    activations = [node for node in proto.graph.node if node.op_type == "QuantizeLinear"]
    for node in activations:
        largest = 127 * numpy_helper.to_array(whole[node.input[1]])
        np.testing.assert_allclose(scales[node.input[1]], largest / 448, rtol=1e-5)
        assert stored[node.input[2]].data_type == TensorProto.FLOAT8E4M3FN
    assert [(n.op_type, n.name) for n in proto.graph.node] == [(n.op_type, n.name) for n in int8.graph.node]


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_fp8_of_a_matrix_by_rows_by_columns_and_as_a_whole(axis: int | None) -> None:
    """The product that ONNX Runtime gives, beside torch's float8: columns of very different size keep their digits."""
    rng = np.random.default_rng(0)
    weights = (rng.normal(size=(5, 3)) * [1e-3, 1.0, 50.0]).astype(np.float32)
    x = rng.normal(size=(4, 5)).astype(np.float32)
    others = None if axis is None else 1 - axis
    scale = np.asarray(np.abs(weights).max(axis=others) / 127, dtype=np.float32)
    x_scale = np.float32(np.abs(x).max() / 127)
    helper, count = onnx.helper, scale.shape
    constants = {
        "w_quantized": np.zeros((5, 3), np.int8), "w_scale": scale, "w_zero": np.zeros(count, np.int8),
        "x_scale": np.array(x_scale), "x_zero": np.array(0, np.int8),
    }  # fmt: skip
    along = {} if axis is None else {"axis": axis}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x8"]),
        helper.make_node("DequantizeLinear", ["x8", "x_scale", "x_zero"], ["x32"]),
        helper.make_node("DequantizeLinear", ["w_quantized", "w_scale", "w_zero"], ["w32"], **along),
        helper.make_node("MatMul", ["x32", "w32"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    whole = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    exact = helper.make_graph([], "exact", [], [], [numpy_helper.from_array(weights, "w")])
    opset = [helper.make_opsetid("", 19)]
    int8 = helper.make_model(helper.make_graph(nodes, "int8", ports[:1], ports[1:], whole), opset_imports=opset)
    made = as_float8(int8, helper.make_model(exact))
    made.ir_version = 9
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    by = found["w_scale"] if axis is None else np.expand_dims(found["w_scale"], 1 - axis)
    digits = torch.from_numpy(weights / by).to(torch.float8_e4m3fn).float().numpy()
    kept = torch.from_numpy(x / found["x_scale"]).to(torch.float8_e4m3fn).float().numpy() * found["x_scale"]
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(made.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], kept @ (digits * by), rtol=1e-5, atol=1e-6)
    worst = np.abs(digits * by - weights).max(axis=0) / np.abs(weights).max(axis=0)
    if axis != 0:  # half a step of three binary digits, where each column has a scale of its own
        assert (worst <= 1 / 16).all() == (axis == 1)


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_8_bit_masks_are_nearly_the_same(small: TrainedNetwork, precision: str) -> None:
    model, size = MaskModel(small).eval(), (models.HEIGHT, models.WIDTH)
    network = folded(small.network)
    plain = graph_from_model(MaskModel(dataclasses.replace(small, network=network)).eval(), size, opset=19)
    proto = quantised(plain, [models.picture(seed) for seed in range(8)], 1, precision)
    agreement = compare(model, backend(proto, model.classes, size), [CheckImage(models.picture(s)) for s in (20, 21)])
    assert 0.9 < agreement.pixels < 1 and agreement.clear_wrong < 0.02
