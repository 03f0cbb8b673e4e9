"""What an ONNX file says of itself, beside what `onnx` reads, and of bytes that are none."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import onnx
import pytest
from engines import CLASSES, write_model
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from dseg_core.errors import DsegError
from dseg_core.runtime.contract import Contract, Port
from dseg_core.runtime.onnx_header import header_of, read_onnx
from dseg_core.runtime.size_range import SizeRange

TYPES = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "int64": TensorProto.INT64,
         "float16": TensorProto.FLOAT16, "bool": TensorProto.BOOL}  # fmt: skip


def test_a_student_is_read_as_onnx_reads_it(tiny_run: Path) -> None:
    content = (tiny_run / "model.onnx").read_bytes()
    model, header = onnx.load_from_string(content), header_of(content, "model")
    assert header.metadata == {entry.key: entry.value for entry in model.metadata_props}
    assert header.sha256 == hashlib.sha256(content).hexdigest()
    assert [port.name for port in header.inputs] == ["image"]
    assert {port.name: port.dtype for port in header.outputs} == {"mask": "uint8", "confidence": "uint8"}
    sides = model.graph.input[0].type.tensor_type.shape.dim
    assert header.inputs[0].shape == tuple(side.dim_value for side in sides)
    assert header.contract("model").size == header.inputs[0].shape[1:3]


def test_a_range_of_sizes(tmp_path: Path) -> None:
    sizes = SizeRange((4, 4), (6, 8), (12, 10))
    path = write_model(tmp_path / "model.onnx", sizes=sizes)
    header = header_of(read_onnx(path), path)
    assert header.inputs == (Port("pixels", "uint8", (1, "height", "width", 3)),)
    assert header.contract(path) == Contract(CLASSES, None, sizes, origin=header.contract(path).origin)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2, TensorProto.INT8])
@pytest.mark.parametrize("constant", [False, True])
def test_floats_of_8_bits_are_seen_among_weights_and_constants(tmp_path: Path, kind: int, constant: bool) -> None:
    model = onnx.load(write_model(tmp_path / "model.onnx"))
    assert not header_of(model.SerializeToString(), "").float8
    tensor = helper.make_tensor("zero", kind, [1], [0.0] if kind != TensorProto.INT8 else [0])
    if constant:
        model.graph.node.append(helper.make_node("Constant", [], ["zero"], value=tensor))
    else:
        model.graph.initializer.append(tensor)
    assert header_of(model.SerializeToString(), "").float8 == (kind != TensorProto.INT8)


@given(
    st.dictionaries(st.text(), st.text()),
    st.lists(
        st.tuples(
            st.text(min_size=1), st.sampled_from(sorted(TYPES)),
            st.lists(st.one_of(st.integers(-1, 2**62), st.text("abc", min_size=1)), max_size=5),
        ), min_size=2, max_size=4, unique_by=lambda port: port[0],
    ),
)  # fmt: skip
def test_any_model_is_read_as_onnx_wrote_it(
    metadata: dict[str, str], ports: list[tuple[str, str, list[object]]]
) -> None:
    made = [helper.make_tensor_value_info(name, TYPES[kind], shape) for name, kind, shape in ports]
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    old = helper.make_tensor_value_info("weight", TensorProto.FLOAT, [3])  # an input too, before IR version 4
    graph = helper.make_graph([], "graph", [old, *made[:1]], made[1:], [weight])
    model = helper.make_model(graph)
    helper.set_model_props(model, metadata)
    found = header_of(model.SerializeToString(), "model")
    expected = [Port(name, kind, tuple(shape)) for name, kind, shape in ports]  # type: ignore[arg-type]
    assert [*found.inputs, *found.outputs] == [p for p in expected if p.name != "weight" or p in expected[1:]]
    assert found.metadata == metadata


@given(st.binary(max_size=200))
def test_bytes_that_are_no_model(content: bytes) -> None:
    with contextlib.suppress(DsegError):
        header_of(content, "model")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx").read_bytes()


@settings(max_examples=300)
@given(data=st.data())
def test_a_model_that_is_harmed_is_read_or_refused(whole: bytes, data: st.DataObject) -> None:
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DsegError):
        header_of(bytes(content[: data.draw(st.integers(0, len(content)))]), "model").contract("model")


def test_files_that_are_no_models(tmp_path: Path) -> None:
    for content in (b"", b"hello", b"\x08\x08", b"\x3a\x00\x3a\x00"):
        with pytest.raises(DsegError, match=r"model\.onnx: is no ONNX model"):
            header_of(content, "model.onnx")
    with pytest.raises(DsegError, match="cannot be read: No such file"):
        read_onnx(tmp_path / "none.onnx")
