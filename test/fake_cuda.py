"""A GPU made of numpy, for tests without one: CUDA's calls that dseg makes, and an engine that runs on them.

Streams are lazy: what is queued happens only when somebody waits, the streams taking turns by chance, as far as events
allow. So a copy that is not waited for, or memory that is used again too early, gives wrong masks.
"""

# ruff: noqa: N815 (CUDA's own names)

from __future__ import annotations

import ctypes
import enum
import random
from collections import Counter, deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np


class cudaError_t(enum.IntEnum):  # noqa: N801
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900


class Handle:
    """What CUDA gives out: a thing with a number."""

    numbers = iter(range(100, 10**9))

    def __init__(self) -> None:
        self.number = next(Handle.numbers)

    def __int__(self) -> int:
        return self.number


class FakeCuda:
    """The runtime's module. `calls`: how often each was called. `fail`: a call to fail, and how."""

    cudaError_t = cudaError_t
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2, cudaMemcpyDeviceToDevice=3)
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
    cudaDeviceAttr = SimpleNamespace(
        cudaDevAttrComputeCapabilityMajor="major", cudaDevAttrComputeCapabilityMinor="minor"
    )

    def __init__(self, seed: int = 0, devices: int = 1) -> None:
        self.calls: Counter[str] = Counter()
        self.fail: dict[str, cudaError_t] = {}
        self.memory: dict[int, np.ndarray] = {}
        self.streams: dict[int, deque[Callable[[], bool]]] = {}
        self.capturing: dict[int, list[Callable[[], Callable[[], bool]]]] = {}
        self.graphs: dict[int, list[Callable[[], Callable[[], bool]]]] = {}
        self.recorded: Counter[int] = Counter()
        self.reached: Counter[int] = Counter()
        self.capturable = True
        self._random, self._devices = random.Random(seed), devices

    def _done(self, call: str, *values: Any) -> tuple[Any, ...]:
        self.calls[call] += 1
        if call in self.fail:
            return (self.fail[call], *(None for _ in values))
        return (cudaError_t.cudaSuccess, *values)

    def cudaGetErrorName(self, error: cudaError_t) -> tuple[cudaError_t, bytes]:
        return cudaError_t.cudaSuccess, error.name.encode()

    def cudaGetErrorString(self, error: cudaError_t) -> tuple[cudaError_t, bytes]:
        return cudaError_t.cudaSuccess, f"words of {int(error)}".encode()

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        return self._done("cudaGetDeviceCount", self._devices)

    def cudaGetDevice(self) -> tuple[Any, ...]:
        return self._done("cudaGetDevice", 0)

    def cudaGetDeviceProperties(self, index: int) -> tuple[Any, ...]:
        return self._done("cudaGetDeviceProperties", SimpleNamespace(name=b"Fake GPU"))

    def cudaDeviceGetAttribute(self, attribute: str, index: int) -> tuple[Any, ...]:
        return self._done("cudaDeviceGetAttribute", {"major": 8, "minor": 9}[attribute])

    def _allocate(self, call: str, size: int) -> tuple[Any, ...]:
        array = np.full(size, 77, np.uint8)
        self.memory[array.ctypes.data] = array
        return self._done(call, array.ctypes.data)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        return self._allocate("cudaMalloc", size)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:
        return self._allocate("cudaHostAlloc", size)

    def cudaFree(self, address: int) -> tuple[Any, ...]:
        del self.memory[address]
        return self._done("cudaFree")

    def cudaFreeHost(self, address: int) -> tuple[Any, ...]:
        del self.memory[address]
        return self._done("cudaFreeHost")

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        handle = Handle()
        self.streams[int(handle)] = deque()
        return self._done("cudaStreamCreateWithFlags", handle)

    def cudaStreamDestroy(self, stream: Handle) -> tuple[Any, ...]:
        return self._done("cudaStreamDestroy")

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        return self._done("cudaEventCreateWithFlags", Handle())

    def cudaEventDestroy(self, event: Handle) -> tuple[Any, ...]:
        return self._done("cudaEventDestroy")

    def queue(self, stream: Any, make: Callable[[], Callable[[], bool]]) -> None:
        """Queue work: `make` gives what is tried, again until it returns True; kept, not run, in a capture."""
        number = int(stream)
        if number in self.capturing:
            self.capturing[number].append(make)
        else:
            self.streams[number].append(make())

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: int, stream: Any) -> tuple[Any, ...]:
        def copy() -> bool:
            ctypes.memmove(target, source, size)
            return True

        self.queue(stream, lambda: copy)
        return self._done("cudaMemcpyAsync")

    def cudaEventRecord(self, event: Handle, stream: Any) -> tuple[Any, ...]:
        self.recorded[int(event)] += 1
        mark = self.recorded[int(event)]

        def reach() -> bool:
            self.reached[int(event)] = mark
            return True

        self.queue(stream, lambda: reach)
        return self._done("cudaEventRecord")

    def cudaStreamWaitEvent(self, stream: Any, event: Handle, flags: int) -> tuple[Any, ...]:
        mark = self.recorded[int(event)]
        self.queue(stream, lambda: lambda: self.reached[int(event)] >= mark)
        return self._done("cudaStreamWaitEvent")

    def _go_on_until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            ready = [queue for queue in self.streams.values() if queue]
            self._random.shuffle(ready)
            # The first that can go on does so by one step; the others wait as long as they may.
            if not any(queue[0]() and (queue.popleft() or True) for queue in ready):
                raise AssertionError("all streams wait for each other")

    def cudaEventSynchronize(self, event: Handle) -> tuple[Any, ...]:
        mark = self.recorded[int(event)]
        self._go_on_until(lambda: self.reached[int(event)] >= mark)
        return self._done("cudaEventSynchronize")

    def cudaStreamSynchronize(self, stream: Any) -> tuple[Any, ...]:
        self._go_on_until(lambda: not self.streams[int(stream)])
        return self._done("cudaStreamSynchronize")

    def cudaDeviceSynchronize(self) -> tuple[Any, ...]:
        self._go_on_until(lambda: not any(self.streams.values()))
        return self._done("cudaDeviceSynchronize")

    def cudaSetDevice(self, index: int) -> tuple[Any, ...]:
        return self._done("cudaSetDevice")

    def cudaStreamBeginCapture(self, stream: Any, mode: int) -> tuple[Any, ...]:
        self.capturing[int(stream)] = []
        return self._done("cudaStreamBeginCapture")

    def cudaStreamEndCapture(self, stream: Any) -> tuple[Any, ...]:
        kept, graph = self.capturing.pop(int(stream)), Handle()
        self.graphs[int(graph)] = kept
        if not self.capturable:
            return cudaError_t.cudaErrorStreamCaptureUnsupported, None
        return self._done("cudaStreamEndCapture", graph)

    def cudaGraphInstantiateWithFlags(self, graph: Handle, flags: int) -> tuple[Any, ...]:
        ready = Handle()
        self.graphs[int(ready)] = self.graphs[int(graph)]
        return self._done("cudaGraphInstantiateWithFlags", ready)

    def cudaGraphDestroy(self, graph: Handle) -> tuple[Any, ...]:
        del self.graphs[int(graph)]
        return self._done("cudaGraphDestroy")

    def cudaGraphExecDestroy(self, graph: Handle) -> tuple[Any, ...]:
        del self.graphs[int(graph)]
        return self._done("cudaGraphExecDestroy")

    def cudaGraphLaunch(self, graph: Handle, stream: Any) -> tuple[Any, ...]:
        for make in self.graphs[int(graph)]:
            self.queue(stream, make)
        return self._done("cudaGraphLaunch")


def at(address: int, shape: tuple[int, ...]) -> np.ndarray:
    """The memory at an address, uint8, as an array of that shape."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * int(np.prod(shape))).from_address(address)).reshape(shape)


class FakeContext:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine, self.addresses = engine, dict[str, int]()
        self.shape = engine.shapes[engine.input]
        self.memory = 0

    def set_device_memory(self, address: int, size: int) -> None:
        assert address % 16 == 0 and at(address, (size,)).size == size
        self.memory = size

    def is_stream_capturable(self, stream: int) -> bool:
        return isinstance(stream, int) and self.engine.capturable

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = tuple(shape)
        return name == self.engine.input

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape if name == self.engine.input else self.shape[:3]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.engine.shapes

    def execute_async_v3(self, stream: int) -> bool:
        if not self.engine.works or self.memory < self.engine.device_memory_size_v2:
            return False
        assert isinstance(stream, int) and set(self.addresses) == set(self.engine.shapes)
        # A graph keeps these, but not the context.
        addresses, shape, given = dict(self.addresses), self.shape, self.engine.input

        def compute() -> bool:
            red = at(addresses[given], shape)[..., 0]
            for name, out in addresses.items():
                if name != given:
                    at(out, shape[:3])[...] = red > 127 if name == "mask" else red
            return True

        self.engine.cuda.queue(stream, lambda: compute)
        return True


class FakeEngine:
    """Mask: red over 127; every other output: red. `device_memory_size_v2`: what a context must be given to run."""

    device_memory_size_v2, capturable = 0, True

    def __init__(self, cuda: FakeCuda, shapes: dict[str, tuple[int, ...]], kinds: dict[str, str]) -> None:
        self.cuda, self.shapes, self.kinds, self.works = cuda, shapes, kinds, True
        self.input = next(iter(shapes))
        self.num_io_tensors = len(shapes)

    def get_tensor_name(self, index: int) -> str:
        return list(self.shapes)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=self.kinds.get(name, "UINT8"))

    def get_tensor_mode(self, name: str) -> str:
        return "INPUT" if name == self.input else "OUTPUT"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def create_execution_context(self, config: object = None) -> FakeContext:
        return FakeContext(self)


class FakeRtxEngine(FakeEngine):
    """One whose kernels are compiled when it is loaded: `configs` tells how it was asked to."""

    configs: list[Any]

    def create_runtime_config(self) -> Any:
        config = SimpleNamespace(
            create_runtime_cache=FakeKernels, set_runtime_cache=lambda cache: setattr(config, "cache", cache),
            set_execution_context_allocation_strategy=lambda strategy: setattr(config, "allocates", strategy),
        )  # fmt: skip
        self.configs.append(config)
        return config


class FakeKernels:
    """A runtime cache: takes only what one of its kind gave."""

    def __init__(self) -> None:
        self.taken = b""

    def deserialize(self, blob: bytes) -> bool:
        self.taken = blob if blob.startswith(b"kernels") else b""
        return bool(self.taken)

    def serialize(self) -> bytes:
        return b"kernels of this GPU"


class FakeLibrary:
    """As dseg's TensorRt: loads any engine but an empty one."""

    name, version, logger, strongly_typed = "tensorrt", "10.3.0", object(), True

    def __init__(self, cuda: FakeCuda, shapes: dict[str, tuple[int, ...]], kinds: dict[str, str] | None = None) -> None:
        self.engine = FakeEngine(cuda, shapes, kinds or {})
        self.module = SimpleNamespace(
            TensorIOMode=SimpleNamespace(INPUT="INPUT"),
            ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="by the user"),
            Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda data: self.engine if data else None),
        )

    def words(self) -> str:
        return "its words"
