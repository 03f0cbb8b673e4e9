"""A graph quantised to int8, in 8-bit floating point instead (E4M3), as GPUs from compute capability 8.9 on compute it.

As NVIDIA's ModelOpt does (`modelopt.onnx.quantization.fp8.int8_to_fp8`): the same layers, and the same largest values,
which come to lie at the largest number of E4M3. Weights are made anew from those in 32 bits. ONNX Runtime's own way, by
the values' deviation, cuts off whatever is beyond three of them, which costs four times as many pixels.
"""

from __future__ import annotations

import copy

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

_INT8_MOST = 127
_KIND = ml_dtypes.float8_e4m3fn
_MOST = 448.0  # of E4M3
_SHARES = 2.0 ** (np.arange(16) / 16)
"""Scales that are tried for weights: its steps are relative, so other ones are like these but for a power of two."""

IR_VERSION = 9
"""The first with 8-bit floats."""


def as_float8(quantised: onnx.ModelProto, original: onnx.ModelProto) -> onnx.ModelProto:
    """Turn a graph's symmetric int8 into E4M3.

    Args:
        quantised: With QuantizeLinear and DequantizeLinear pairs, weights stored in int8 under their name with
            `_quantized`; of opset 19 or later.
        original: The same in float32.

    Returns:
        A copy. Weights have, by channel, the scale of the least squared error, at least that of their largest value.
    """
    made = copy.deepcopy(quantised)
    stored = {tensor.name: tensor for tensor in made.graph.initializer}
    exact = {tensor.name: tensor for tensor in original.graph.initializer}
    replaced: dict[str, NDArray[np.generic]] = {}
    for node in made.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        values, scale, zero = node.input
        replaced[zero] = np.zeros(tuple(stored[zero].dims), _KIND)
        scales = numpy_helper.to_array(stored[scale])
        largest = np.asarray(scales * (_INT8_MOST / _MOST), dtype=np.float32)
        if values not in stored:
            replaced[scale] = largest
            continue
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        weights = numpy_helper.to_array(exact[values.removesuffix("_quantized")])
        replaced[values], replaced[scale] = _weights(weights, largest, axis)
    for name, array in replaced.items():
        stored[name].CopyFrom(numpy_helper.from_array(array, name))
    return made


def _weights(
    weights: NDArray[np.float32], scales: NDArray[np.float32], axis: int
) -> tuple[NDArray[np.generic], NDArray[np.float32]]:
    """Weights as E4M3, and their scales, one for all or one for each place along `axis`."""
    shape = [-1 if i == axis and scales.ndim else 1 for i in range(weights.ndim)]
    others = tuple(i for i in range(weights.ndim) if shape[i] == 1)

    def stored(scale: NDArray[np.float32]) -> NDArray[np.generic]:
        within = np.clip(weights / scale.reshape(shape), -_MOST, _MOST)
        return np.asarray(within.astype(_KIND))

    tried = np.stack([np.asarray(scales * share, dtype=np.float32) for share in _SHARES])
    errors = [((stored(s).astype(np.float32) * s.reshape(shape) - weights) ** 2).sum(axis=others) for s in tried]
    best = np.argmin(errors, axis=0)
    chosen = np.take_along_axis(tried, best[None], axis=0)[0]
    return stored(chosen), chosen
