"""What CUDA's calls give back, and what is said when they fail."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
from fake_cuda import FakeCuda, at, cudaError_t

from dseg_core.errors import DsegError
from dseg_core.runtime import cuda_memory
from dseg_core.runtime.cuda_memory import DeviceBuffer, NoDeviceError, PinnedBuffer, Stream, checked, current_device


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    monkeypatch.setattr(cuda_memory, "runtime", lambda: fake)
    return fake


def test_values_come_without_their_error(cuda: FakeCuda) -> None:
    ok = cudaError_t.cudaSuccess
    assert checked((ok,), "") is None and checked((ok, 5), "") == 5 and checked((ok, 0), "") == 0
    assert checked((ok, 1, 2), "") == (1, 2)
    with pytest.raises(
        DsegError, match=r"the GPU failed to copy: words of 700 \(cudaErrorIllegalAddress\)\. `nvidia-smi`"
    ):
        checked((cudaError_t.cudaErrorIllegalAddress, None), "to copy")


def test_the_device_and_none(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (current_device().name, current_device().capability) == ("Fake GPU", "8.9")
    cuda.fail["cudaGetDeviceCount"] = cudaError_t.cudaErrorInsufficientDriver
    with pytest.raises(NoDeviceError, match=r"^no CUDA device: no NVIDIA driver, or one older than cuda-python"):
        current_device()
    monkeypatch.setattr(cuda_memory, "runtime", lambda: FakeCuda(devices=0))
    with pytest.raises(NoDeviceError, match=r"^no CUDA device: the driver sees none"):
        current_device()


def test_every_call_exists_in_cuda_python_as_it_is_used() -> None:
    """The fake's names are NVIDIA's; each constant is what the numbers here say."""
    real = importlib.import_module("cuda.bindings.runtime")
    own = [name for name in dir(FakeCuda) if name.startswith("cuda")]
    assert len(own) > 20 and all(hasattr(real, name) for name in own)
    assert int(real.cudaStreamNonBlocking) == cuda_memory._NON_BLOCKING
    assert int(real.cudaEventDisableTiming) == cuda_memory._NO_TIMING
    for name in vars(FakeCuda.cudaMemcpyKind):
        assert int(getattr(real.cudaMemcpyKind, name)) == getattr(FakeCuda.cudaMemcpyKind, name)
    for kind in (FakeCuda.cudaStreamCaptureMode, FakeCuda.cudaDeviceAttr):
        assert all(hasattr(real.cudaStreamCaptureMode, n) or hasattr(real.cudaDeviceAttr, n) for n in vars(kind))
    assert all(int(getattr(real.cudaError_t, error.name)) == error for error in cudaError_t)
    error, text = real.cudaGetErrorString(real.cudaError_t.cudaErrorMemoryAllocation)
    assert int(error) == 0 and text == b"out of memory"


def test_cuda_python_that_is_missing_or_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(error: Exception) -> object:
        def load(name: str) -> object:
            raise error

        return load

    monkeypatch.setattr(importlib, "import_module", raising(ModuleNotFoundError("no", name="cuda")))
    with pytest.raises(DsegError, match="cuda-python is not installed"):
        cuda_memory.runtime()
    monkeypatch.setattr(importlib, "import_module", raising(ImportError("libcuda.so.1:\ncannot open")))
    with pytest.raises(DsegError, match=r"cuda-python does not load: libcuda.so.1: cannot open"):
        cuda_memory.runtime()
    monkeypatch.undo()
    assert "cuda" in cuda_memory.runtime().__name__ and cuda_memory.__name__ in sys.modules


def test_copies_and_graphs(cuda: FakeCuda) -> None:
    stream, here, there = Stream(), PinnedBuffer(12), DeviceBuffer(12)
    here.array[:] = np.arange(12)
    stream.copy(there.address, here.address, 12, "HostToDevice")
    assert at(there.address, (12,))[5] == 77  # not yet
    stream.wait()
    np.testing.assert_array_equal(at(there.address, (12,)), np.arange(12))
    with stream.capture() as graph:
        stream.copy(here.address, there.address, 6, "DeviceToHost")
    here.array[:] = 0
    stream.wait()
    assert not here.array.any()
    graph.run(stream)
    stream.wait()
    np.testing.assert_array_equal(here.array, [*range(6), *[0] * 6])


def test_a_capture_that_fails_is_ended(cuda: FakeCuda) -> None:
    stream = Stream()
    with pytest.raises(ZeroDivisionError), stream.capture():
        raise ZeroDivisionError
    assert cuda.calls["cudaStreamEndCapture"] == 1 and not cuda.capturing
