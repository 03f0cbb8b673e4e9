"""Models by ONNX Runtime: on the CPU, or by its providers for NVIDIA's GPUs (onnxruntime-gpu)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from dseg_core.errors import DsegError
from dseg_core.runtime.contract import CONFIDENCE, MASK, Contract, Port
from dseg_core.runtime.onnx_header import header_of, read_onnx
from dseg_core.words import one_line

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int64)": "int64"}
_FAILURES = (
    errors.EPFail,
    errors.EngineError,
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.NoModel,
    errors.NoSuchFile,
    errors.NotImplemented,
    errors.RuntimeException,
)


_PROVIDERS = {"tensorrt": "TensorrtExecutionProvider", "cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


class OnnxRuntimeBackend:
    """An .onnx file.

    Args:
        model: Path of the file, or its content.
        threads: Of the CPU; 0 takes all cores that this process may use.
        providers: What to compute on, best first: tensorrt, cuda, cpu. What this ONNX Runtime lacks is left out.

    Attributes:
        provider: What it computes on, as people say: CPU, or GPU (CUDA).
        notes: What is not as fast as it could be, and why.

    Raises:
        DsegError: The file is no ONNX, cannot be run, or is no model of dseg; none of the providers is there.
    """

    name = "onnxruntime"

    def __init__(self, model: Path | bytes, threads: int = 0, providers: Sequence[str] = ("cpu",)) -> None:
        where = model if isinstance(model, Path) else "model"
        settings = onnxruntime.SessionOptions()
        # Its own default counts the machine's cores, not those that a container or taskset leaves to this process.
        settings.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 3  # errors come as exceptions; warnings are about other machines
        source = str(model) if isinstance(model, Path) else model
        if header_of(read_onnx(model) if isinstance(model, Path) else model, where).float8:
            # Its further steps take every pair of Quantize- and DequantizeLinear for int8's, also those of fp8: masks
            # are wrong then.
            settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        there = onnxruntime.get_available_providers()
        wanted = [_PROVIDERS[name] for name in providers if _PROVIDERS[name] in there]
        if not wanted:
            fix = "`pip install onnxruntime-gpu`, or add cpu to engine.providers"
            raise DsegError(f"this ONNX Runtime has no {' and no '.join(providers)}", where=where, fix=fix)
        try:
            self._session = onnxruntime.InferenceSession(source, settings, providers=wanted)
        except _FAILURES as error:
            if isinstance(error, errors.InvalidProtobuf):
                raise DsegError("is no ONNX model", where=where, fix="`dseg export RUN` makes one") from None
            raise DsegError(f"cannot be run by ONNX Runtime: {one_line(error)}", where=where) from None
        ports = [
            [Port(p.name, _DTYPES.get(p.type, p.type), tuple("?" if n is None else n for n in p.shape)) for p in found]
            for found in (self._session.get_inputs(), self._session.get_outputs())
        ]
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.contract = Contract.of_model(metadata, ports[0], ports[1], where)
        self._input = ports[0][0].name
        self._outputs = [MASK, CONFIDENCE] if self.contract.confidence else [MASK]
        self._binding = self._session.io_binding()
        # A provider that does not load, for want of a GPU say, is left out without an error.
        used = self._session.get_providers()[0]
        self.provider = {"CPUExecutionProvider": "CPU"}.get(used, f"GPU ({used.removesuffix('ExecutionProvider')})")
        self.notes = [f"ONNX Runtime cannot use {wanted[0]} here"] if used != wanted[0] else []

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Images uint8 (N, H, W, 3) to masks and confidences, uint8 (N, H, W). Raises DsegError."""
        # Into memory of the result: ONNX Runtime would allocate its own and copy.
        found = {name: np.empty(images.shape[:3], np.uint8) for name in self._outputs}
        binding = self._binding
        try:
            binding.bind_cpu_input(self._input, images)
            for name, out in found.items():
                binding.bind_output(name, "cpu", 0, np.uint8, out.shape, out.ctypes.data)
            self._session.run_with_iobinding(binding)
        except _FAILURES as error:
            raise DsegError(f"the model failed: {one_line(error)}") from None
        finally:
            binding.clear_binding_inputs()
            binding.clear_binding_outputs()
        return found[MASK], found.get(CONFIDENCE)
