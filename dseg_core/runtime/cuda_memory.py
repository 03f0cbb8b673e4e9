"""Memory, streams, events and graphs of the GPU, by cuda-python; everything that can fail raises DsegError.

The only module that calls CUDA. cuda-python imports without a GPU; `current_device` tells whether there is one. Names
and semantics are those of the CUDA runtime: https://nvidia.github.io/cuda-python/cuda-bindings/latest/module/runtime.html
"""

from __future__ import annotations

import ctypes
import importlib
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dseg_core.errors import DsegError

_NON_BLOCKING = 1  # cudaStreamNonBlocking: no waiting for, nor of, the default stream
_NO_TIMING = 2  # cudaEventDisableTiming
_NO_DRIVER = 35  # cudaErrorInsufficientDriver
_FIX = "`nvidia-smi` tells what the driver sees"


class NoDeviceError(DsegError):
    """There is no GPU that CUDA could use."""


class GpuLostError(DsegError):
    """A fault on the GPU after which nothing of CUDA works in this process any more."""


@dataclass(frozen=True)
class Device:
    """`name` as the driver tells it, `capability` as in "8.9"; `index`: CUDA's number of it in this process."""

    name: str
    capability: str
    index: int = 0

    def use(self) -> None:
        """Take it in this thread: each has a GPU of its own, and none before CUDA was called in it. Raises DsegError.

        What calls the driver by itself, as libraries that compile do, needs that done before.
        """
        checked(runtime().cudaSetDevice(self.index), "to take it in this thread")


def runtime() -> Any:
    """cuda-python's module of the CUDA runtime. Raises DsegError where it is not installed or does not load."""
    for name in ("cuda.bindings.runtime", "cuda.cudart"):  # the second until cuda-python 12.5, and for CUDA 11
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        except (ImportError, OSError, RuntimeError) as error:
            raise DsegError(f"cuda-python does not load: {' '.join(str(error).split())}") from None
    raise DsegError("cuda-python is not installed", fix="`pip install cuda-python`, of the driver's CUDA version")


def checked(result: tuple[Any, ...], doing: str) -> Any:
    """The value of a call, without its error.

    Args:
        result: What cuda-python returned: an error and values.
        doing: What was being done, for the message.

    Returns:
        The value; None where there is none, a tuple of several.

    Raises:
        DsegError: The call failed.
    """
    error, *values = result
    if int(error) != 0:
        raise DsegError(f"the GPU failed {doing}: {_words(error)}", fix=_FIX)
    return values[0] if len(values) == 1 else tuple(values) or None


def _words(error: Any) -> str:
    cuda = runtime()
    name, text = (call(error)[1] for call in (cuda.cudaGetErrorName, cuda.cudaGetErrorString))
    shown = [part.decode(errors="replace") if isinstance(part, bytes) else str(part) for part in (text, name)]
    return f"{shown[0]} ({shown[1]})"


def current_device() -> Device:
    """The GPU that CUDA takes by itself, the first of CUDA_VISIBLE_DEVICES. Raises NoDeviceError without one."""
    cuda = runtime()
    error, number = cuda.cudaGetDeviceCount()
    if int(error) == _NO_DRIVER:  # its own words are of a driver that is too old, where mostly there is none
        raise NoDeviceError("no CUDA device: no NVIDIA driver, or one older than cuda-python", fix=_FIX)
    if int(error) != 0:
        raise NoDeviceError(f"no CUDA device: {_words(error)}", fix=_FIX)
    if not number:
        raise NoDeviceError("no CUDA device: the driver sees none", fix=_FIX)
    index = checked(cuda.cudaGetDevice(), "to name its device")
    name = checked(cuda.cudaGetDeviceProperties(index), "to tell its properties").name
    parts = (
        cuda.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor,
        cuda.cudaDeviceAttr.cudaDevAttrComputeCapabilityMinor,
    )
    major, minor = (checked(cuda.cudaDeviceGetAttribute(part, index), "to tell its capability") for part in parts)
    return Device(name.decode(errors="replace") if isinstance(name, bytes) else str(name), f"{major}.{minor}", index)


def wait_for_device() -> None:
    """Block until the GPU has done all that any stream of this process was given. Raises DsegError."""
    checked(runtime().cudaDeviceSynchronize(), "while it computed")


class DeviceBuffer:
    """`size` bytes on the GPU, from `address`; given back when nobody holds this object."""

    def __init__(self, size: int) -> None:
        cuda = runtime()
        self.size = size
        self.address = int(checked(cuda.cudaMalloc(size), f"to allocate {size / 1e6:.1f} MB"))
        _give_back(self, cuda.cudaFree, self.address)


class PinnedBuffer:
    """`size` bytes of the machine's memory that the GPU copies from and to by itself.

    `array`, uint8 (size,), and its views are that memory: they must not be used after this object is gone.
    """

    def __init__(self, size: int) -> None:
        cuda = runtime()
        self.size = size
        self.address = int(checked(cuda.cudaHostAlloc(size, 0), f"to pin {size / 1e6:.1f} MB of memory"))
        _give_back(self, cuda.cudaFreeHost, self.address)
        self.array: NDArray[np.uint8] = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.address))


class Event:
    """A mark in a stream."""

    def __init__(self) -> None:
        cuda = runtime()
        self._cuda = cuda
        self.handle = checked(cuda.cudaEventCreateWithFlags(_NO_TIMING), "to make an event")
        _give_back(self, cuda.cudaEventDestroy, self.handle)

    def record(self, stream: Stream | int) -> None:
        """Mark what `stream` has been given so far; a number is another library's stream."""
        handle = stream.handle if isinstance(stream, Stream) else stream
        checked(self._cuda.cudaEventRecord(self.handle, handle), "to mark a stream")

    def wait(self) -> None:
        """Block until the mark is reached. Raises DsegError where anything before it failed."""
        checked(self._cuda.cudaEventSynchronize(self.handle), "while it computed")


class Stream:
    """A queue of work on the GPU. `address` is what other libraries take."""

    def __init__(self) -> None:
        cuda = runtime()
        self._cuda = cuda
        self.handle = checked(cuda.cudaStreamCreateWithFlags(_NON_BLOCKING), "to make a stream")
        self.address = int(self.handle)
        _give_back(self, cuda.cudaStreamDestroy, self.handle)

    def copy(self, target: int, source: int, size: int, kind: str) -> None:
        """Queue a copy of `size` bytes; `kind` is HostToDevice, DeviceToHost or DeviceToDevice."""
        how = getattr(self._cuda.cudaMemcpyKind, f"cudaMemcpy{kind}")
        checked(self._cuda.cudaMemcpyAsync(target, source, size, how, self.handle), "to copy")

    def wait_for(self, event: Event) -> None:
        """What is queued from now on begins after `event`."""
        checked(self._cuda.cudaStreamWaitEvent(self.handle, event.handle, 0), "to wait for a mark")

    def wait(self) -> None:
        """Block until all of it is done. Raises DsegError where anything failed."""
        checked(self._cuda.cudaStreamSynchronize(self.handle), "while it computed")

    @contextmanager
    def capture(self) -> Iterator[Graph]:
        """What the block queues is not run but kept in the graph. Raises DsegError where it cannot be kept."""
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal  # other threads may go on
        checked(self._cuda.cudaStreamBeginCapture(self.handle, mode), "to begin a graph")
        graph = Graph()
        try:
            yield graph
        except BaseException:
            with suppress(DsegError):  # the stream works again after the capture is ended, however that ends
                checked(self._cuda.cudaStreamEndCapture(self.handle), "to end a graph")
            raise
        graph.finish(checked(self._cuda.cudaStreamEndCapture(self.handle), "to end a graph"))


class Graph:
    """Work that is queued as a whole, by one call. Made by `Stream.capture`."""

    def __init__(self) -> None:
        self._cuda = runtime()
        self._ready: Any = None

    def finish(self, graph: Any) -> None:
        """Make it ready to run."""
        try:
            self._ready = checked(self._cuda.cudaGraphInstantiateWithFlags(graph, 0), "to prepare a graph")
        finally:
            self._cuda.cudaGraphDestroy(graph)
        _give_back(self, self._cuda.cudaGraphExecDestroy, self._ready)

    def run(self, stream: Stream) -> None:
        """Queue it."""
        checked(self._cuda.cudaGraphLaunch(self._ready, stream.handle), "to run a graph")


def _give_back(owner: object, call: Any, handle: Any) -> None:
    """Once nobody holds `owner`; at the process's end the driver does it by itself, and may be gone already."""
    weakref.finalize(owner, call, handle).atexit = False
