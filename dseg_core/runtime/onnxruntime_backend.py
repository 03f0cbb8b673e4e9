"""Models by ONNX Runtime, on the CPU."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from dseg_core.errors import DsegError
from dseg_core.runtime.contract import CONFIDENCE, MASK, Contract, Port
from dseg_core.words import one_line

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int64)": "int64"}
_FAILURES = (
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.NoSuchFile,
    errors.NotImplemented,
    errors.RuntimeException,
)


class OnnxRuntimeBackend:
    """An .onnx file.

    Args:
        model: Path of the file, or its content.
        threads: Of the CPU; 0 takes all cores that this process may use.

    Raises:
        DsegError: The file is no ONNX, cannot be run, or is no model of dseg.
    """

    name = "onnxruntime"

    def __init__(self, model: Path | bytes, threads: int = 0) -> None:
        where = model if isinstance(model, Path) else "model"
        settings = onnxruntime.SessionOptions()
        # Its own default counts the machine's cores, not those that a container or taskset leaves to this process.
        settings.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 3  # errors come as exceptions; warnings are about other machines
        source = str(model) if isinstance(model, Path) else model
        try:
            self._session = onnxruntime.InferenceSession(source, settings, providers=["CPUExecutionProvider"])
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

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Images uint8 (N, H, W, 3) to masks and confidences, uint8 (N, H, W). Raises DsegError."""
        try:
            mask, *confidence = self._session.run(self._outputs, {self._input: images})
        except _FAILURES as error:
            raise DsegError(f"the model failed: {one_line(error)}") from None
        return mask, confidence[0] if confidence else None
