"""What an ONNX file says of itself: metadata, inputs and outputs, read without any library that runs it.

A car that has only TensorRT needs neither `onnx` nor ONNX Runtime, and a file that is no model of dseg is refused in
milliseconds, before an engine is built of it for minutes. Only the few fields of onnx.proto3 that are needed are read:
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dseg_core.errors import DsegError
from dseg_core.runtime.contract import Contract, Port

# Field numbers: ModelProto, GraphProto, ValueInfoProto, TypeProto, TypeProto.Tensor, TensorShapeProto, Dimension,
# StringStringEntryProto, TensorProto, NodeProto, AttributeProto.
_GRAPH, _METADATA = 7, 14
_NODE, _INITIALIZER, _INPUT, _OUTPUT = 1, 5, 11, 12
_NAME, _TYPE, _TENSOR, _ELEMENT, _SHAPE, _DIM, _VALUE, _PARAM = 1, 2, 1, 1, 2, 1, 1, 2
_KEY, _TEXT = 1, 2
_INITIALIZER_NAME, _TENSOR_TYPE = 8, 2
_ATTRIBUTE, _ATTRIBUTE_TENSOR = 5, 5

_DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 16: "bfloat16"}
_FLOAT8 = range(17, 21)

Value = int | bytes | memoryview


@dataclass(frozen=True)
class OnnxHeader:
    """`sha256`: of the whole file, hexadecimal. `inputs` and `outputs`: as in the graph, weights left out.

    `float8`: whether weights, zero points or other constants in it are floats of 8 bits.
    """

    sha256: str
    metadata: dict[str, str]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    float8: bool = False

    def contract(self, where: str | Path) -> Contract:
        """What the model promises. Raises DsegError where it is no model of dseg."""
        return Contract.of_model(self.metadata, self.inputs, self.outputs, where)


def read_onnx(path: Path) -> bytes:
    """A model file's content. Raises DsegError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DsegError(f"cannot be read: {error.strerror}", where=path) from None


def header_of(content: bytes, where: str | Path) -> OnnxHeader:
    """Read a model's header.

    Args:
        content: Of an .onnx file.
        where: Its name, for errors.

    Raises:
        DsegError: It is no ONNX model.
    """
    metadata: dict[str, str] = {}
    inputs: list[Port] = []
    outputs: list[Port] = []
    weights: set[str] = set()
    graphs, float8 = 0, False
    try:
        for number, value in _fields(memoryview(content)):
            if number == _METADATA:
                entry = dict(_fields(_bytes(value)))
                metadata[_text(entry.get(_KEY, b""))] = _text(entry.get(_TEXT, b""))
            elif number == _GRAPH:
                graphs += 1
                for inner, part in _fields(_bytes(value)):
                    if inner == _INPUT:
                        inputs.append(_port(_bytes(part)))
                    elif inner == _OUTPUT:
                        outputs.append(_port(_bytes(part)))
                    elif inner == _INITIALIZER:
                        found = dict(_fields(_bytes(part)))
                        weights.add(_text(found.get(_INITIALIZER_NAME, b"")))
                        float8 = float8 or found.get(_TENSOR_TYPE) in _FLOAT8
                    elif inner == _NODE:
                        float8 = float8 or any(found.get(_TENSOR_TYPE) in _FLOAT8 for found in _constants(_bytes(part)))
    except ValueError:  # of UTF-8 too
        graphs = 0
    if graphs != 1:
        raise DsegError("is no ONNX model", where=where, fix="`dseg export RUN` makes one")
    # Before IR version 4 weights were inputs too.
    own = tuple(port for port in inputs if port.name not in weights)
    return OnnxHeader(hashlib.sha256(content).hexdigest(), metadata, own, tuple(outputs), float8)


def _constants(node: memoryview) -> Iterator[dict[int, Value]]:
    """The fields of the tensors that a node has as attributes."""
    for number, attribute in _fields(node):
        if number == _ATTRIBUTE:
            for part, tensor in _fields(_bytes(attribute)):
                if part == _ATTRIBUTE_TENSOR:
                    yield dict(_fields(_bytes(tensor)))


def _port(content: memoryview) -> Port:
    name, dtype = "", "unknown"
    shape: list[int | str] = []
    for number, value in _fields(content):
        if number == _NAME:
            name = _text(value)
        elif number == _TYPE:
            for kind, tensor in _fields(_bytes(value)):
                if kind != _TENSOR:
                    continue
                for part, inner in _fields(_bytes(tensor)):
                    if part == _ELEMENT and isinstance(inner, int):
                        dtype = _DTYPES.get(inner, f"ONNX's type {inner}")
                    elif part == _SHAPE:
                        shape = [_dimension(_bytes(d)) for n, d in _fields(_bytes(inner)) if n == _DIM]
    return Port(name, dtype, tuple(shape))


def _dimension(content: memoryview) -> int | str:
    found: int | str = "?"
    for number, value in _fields(content):
        if number == _VALUE and isinstance(value, int):
            found = value - (1 << 64) if value >> 63 else value
        elif number == _PARAM:
            found = _text(value) or "?"
    return found


def _fields(content: memoryview) -> Iterator[tuple[int, Value]]:
    """Number and value of each field of a message. Raises ValueError where it is none."""
    place = 0
    while place < len(content):
        tag, place = _varint(content, place)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("no field has the number 0")
        if wire == 0:
            value, place = _varint(content, place)
            yield number, value
            continue
        if wire == 2:
            length, place = _varint(content, place)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError("no such wire type")
        if length > len(content) - place:
            raise ValueError("cut off")
        yield number, content[place : place + length]
        place += length


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            raise ValueError("cut off")
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value & (1 << 64) - 1, place
    raise ValueError("no number is that long")


def _bytes(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message should be")
    return memoryview(value)


def _text(value: Value) -> str:
    return bytes(_bytes(value)).decode()
