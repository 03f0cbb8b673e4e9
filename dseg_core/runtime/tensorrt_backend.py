"""Models by TensorRT and TensorRT-RTX, on the GPU.

Everything is allocated when the model is opened: two slots, each with pinned memory and the GPU's own for one input and
its outputs. One stream computes; another brings images to the GPU, so that the next one is copied while this one is
computed. A slot's inference and the copies of its outputs back are one CUDA graph, queued by one call:
https://docs.nvidia.com/deeplearning/tensorrt/latest/performance/best-practices.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from dseg_core.errors import DsegError
from dseg_core.runtime.contract import CONFIDENCE, MASK
from dseg_core.runtime.cuda_memory import GpuLostError, Stream, current_device, wait_for_device
from dseg_core.runtime.engine_cache import Engine
from dseg_core.runtime.gpu_image import GpuImage
from dseg_core.runtime.inference_slot import Slot
from dseg_core.runtime.rtx_context import RtxContext
from dseg_core.runtime.tensorrt_library import TensorRt

_BYTES = {"UINT8": 1, "INT8": 1, "BOOL": 1, "HALF": 2, "BF16": 2, "FLOAT": 4, "INT32": 4, "INT64": 8}
_FIX = "Remove the engine, and it is built again"

Pixels = NDArray[np.uint8]


class TensorRtBackend:
    """An engine.

    Args:
        library: That built it.
        engine: Built, and safe to load.

    Attributes:
        name: The library's.
        contract: What the model takes and gives.
        notes: What is not as fast as it could be, and why.

    Raises:
        EngineRefusedError: The library does not load it; it must be built again.
        NoDeviceError: There is no GPU.
        DsegError: It is not the engine that its description tells; the GPU is out of memory.
    """

    def __init__(self, library: TensorRt, engine: Engine) -> None:
        self._library, where = library, engine.path
        self.name = library.name
        self.contract = engine.description.contract(where)
        self.notes: list[str] = []
        self._device = current_device()
        self._device.use()
        self._runtime = library.module.Runtime(library.logger)
        self._engine = self._runtime.deserialize_cuda_engine(engine.content)
        if self._engine is None:
            raise EngineRefusedError(f"{self.name} cannot load it: {library.words()}", where=where, fix=_FIX)
        rtx = None
        if library.name == "tensorrt_rtx":
            rtx = RtxContext(library.module, self._engine, where, vary=self.contract.sizes is not None)
        self._context = rtx.context() if rtx else self._engine.create_execution_context()
        # After the context, so that it goes after it: the library keeps bare pointers to memory and cache of kernels.
        self._rtx = rtx
        if self._context is None:
            raise DsegError(f"{self.name} cannot run it: {library.words()}", where=where, fix=_FIX)
        self._input = engine.description.inputs[0].name
        self._outputs = self._checked_outputs(where)
        self._taken = [MASK, CONFIDENCE] if self.contract.confidence else [MASK]
        self._compute, self._upload = Stream(), Stream()
        largest = self.contract.sizes.largest if self.contract.sizes else self.contract.size
        usual = self.contract.sizes.usual if self.contract.sizes else self.contract.size
        if largest is None or usual is None:
            raise DsegError("tells no size of its input", where=where, fix=_FIX)
        sizes = self._set_shape((self.contract.batch, *largest, 3))
        size = self.contract.batch * largest[0] * largest[1] * 3
        self._slots = [Slot(size, sizes, self._taken) for _ in range(2)]
        self._next = self._oldest = 0
        self._prepare((self.contract.batch, *usual, 3))
        if rtx:
            rtx.keep_kernels()

    def run(self, images: Pixels | GpuImage) -> tuple[Pixels, Pixels | None]:
        """Images uint8 (N, H, W, 3), or one on the GPU, to masks and confidences, uint8 (N, H, W). Raises DsegError."""
        if any(slot.busy for slot in self._slots):  # whose results would be taken for these images'
            raise DsegError("other images are under way", fix="Take what they give first")
        self.start(images)
        return self.finish()

    def start(self, images: Pixels | GpuImage) -> None:
        """Queue images, uint8 (N, H, W, 3), contiguous; at most two are under way, of one size.

        One that is on the GPU is kept until `finish` gives its mask.

        Raises:
            GpuLostError: The GPU does nothing for this process any more.
            DsegError: Too many are under way, or it failed; then nothing is under way any more.
        """
        slot = self._slots[self._next]
        if slot.busy:
            raise DsegError("two inferences are under way already", fix="Take what the first one gives")
        shape = (1, images.height, images.width, 3) if isinstance(images, GpuImage) else images.shape
        if shape != self._shape and self._slots[self._oldest].busy:
            raise DsegError("images of another size are under way", fix="Take what they give first")
        with self._settled():
            self._device.use()
            if shape != self._shape:
                self._prepare(shape)
            self._bring(slot, images)
            slot.uploaded.record(self._upload)
            self._compute.wait_for(slot.uploaded)
            if slot.graph is not None:
                slot.graph.run(self._compute)
            else:
                self._enqueue(slot)
            slot.done.record(self._compute)
        slot.busy = True
        self._next = 1 - self._next

    def finish(self) -> tuple[Pixels, Pixels | None]:
        """What the oldest queued images give: masks and confidences, uint8 (N, H, W). Raises as `start`."""
        slot = self._slots[self._oldest]
        if not slot.busy:
            raise DsegError("no inference is under way", fix="Start one")
        with self._settled():
            slot.done.wait()
        slot.busy, slot.source = False, None
        self._oldest = 1 - self._oldest
        shape, count = self._shape[:3], int(np.prod(self._shape[:3]))
        found = [slot.taken[name].array[:count].reshape(shape).copy() for name in self._taken]
        return found[0], found[1] if len(found) > 1 else None

    def _bring(self, slot: Slot, images: Pixels | GpuImage) -> None:
        """Queue the copy of images to the GPU."""
        if isinstance(images, GpuImage):
            slot.source = images.owner
            if images.untold:
                wait_for_device()
            elif images.stream is not None:
                slot.ready.record(images.stream)
                self._upload.wait_for(slot.ready)
            self._upload.copy(slot.input.address, images.address, images.height * images.width * 3, "DeviceToDevice")
            return
        size = images.size
        np.copyto(slot.pinned.array[:size].reshape(images.shape), images)
        self._upload.copy(slot.input.address, slot.pinned.address, size, "HostToDevice")

    def _enqueue(self, slot: Slot) -> None:
        """Queue a slot's inference and the copies of what it gives."""
        addresses = {self._input: slot.input.address, **{n: b.address for n, b in slot.outputs.items()}}
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise DsegError(f"{self.name} refuses the memory of {name}: {self._library.words()}")
        if not self._context.execute_async_v3(self._compute.address):
            raise DsegError(f"{self.name} does not run the model: {self._library.words()}")
        count = int(np.prod(self._shape[:3]))
        for name, target in slot.taken.items():
            self._compute.copy(target.address, slot.outputs[name].address, count, "DeviceToHost")

    def _prepare(self, shape: tuple[int, ...]) -> None:
        """Make both slots ready for images of a shape: run each once, then keep what it queues as a graph."""
        self._set_shape(shape)
        self.notes = []  # of graphs of another size
        for slot in self._slots:
            slot.graph = None
            self._enqueue(slot)  # the first run may allocate, which a graph cannot
            self._compute.wait()
            try:
                if self._rtx is not None and not self._context.is_stream_capturable(self._compute.address):
                    raise DsegError("it says that none can be made of this model")
                with self._compute.capture() as graph:
                    self._enqueue(slot)
                slot.graph = graph
            except DsegError as error:
                self.notes = [f"{self.name} runs without a CUDA graph: {error.what}"]

    def _set_shape(self, shape: tuple[int, ...]) -> dict[str, int]:
        """Tell the library the input's shape; returns the bytes of each output."""
        self._shape: tuple[int, ...] = ()
        if self.contract.sizes is not None and not self._context.set_input_shape(self._input, shape):
            raise DsegError(f"{self.name} refuses images of {shape}: {self._library.words()}")
        sizes = {}
        for name, kind in self._outputs.items():
            dimensions = tuple(self._context.get_tensor_shape(name))
            if any(side < 1 for side in dimensions):
                raise DsegError(f"the output {name} has the shape {dimensions}, which is no size", fix=_FIX)
            sizes[name] = int(np.prod(dimensions)) * _BYTES[kind]
        for name in (MASK, CONFIDENCE) if self.contract.confidence else (MASK,):
            if sizes[name] != np.prod(shape[:3]):
                raise DsegError(f"the output {name} has {sizes[name]} bytes, not {np.prod(shape[:3])}", fix=_FIX)
        self._shape = shape
        return sizes

    def _checked_outputs(self, where: object) -> dict[str, str]:
        """The outputs' types by name, once the engine's tensors are those of its description. Raises DsegError."""
        trt, engine = self._library.module, self._engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        kinds = {name: engine.get_tensor_dtype(name).name for name in names}
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        size = self.contract.size
        fixed = (-1, -1) if size is None else size
        wanted = (self.contract.batch, *fixed, 3)
        promised = {MASK: "UINT8", **({CONFIDENCE: "UINT8"} if self.contract.confidence else {}), self._input: "UINT8"}
        wrong = [name for name, kind in promised.items() if kinds.get(name) != kind]
        unknown = [name for name, kind in kinds.items() if kind not in _BYTES]
        if inputs != [self._input] or wrong or unknown or tuple(engine.get_tensor_shape(self._input)) != wanted:
            told = ", ".join(f"{name} {kinds[name]} {tuple(engine.get_tensor_shape(name))}" for name in names)
            raise DsegError(f"is the engine of another model: {told}", where=str(where), fix=_FIX)
        return {name: kind for name, kind in kinds.items() if name not in inputs}

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """Where the block fails, nothing is under way afterwards: the next images are taken as if none had been.

        Raises:
            GpuLostError: Instead of the block's DsegError, where the GPU does nothing for this process any more.
        """
        try:
            yield
        except BaseException as error:
            lost = 0
            for stream in (self._upload, self._compute):
                try:
                    stream.wait()
                except DsegError:
                    lost += 1
            for slot in self._slots:
                slot.busy, slot.source = False, None
            self._next = self._oldest = 0
            self._shape = ()  # what was being prepared may be half done, one slot's graph of another size
            if isinstance(error, DsegError) and lost == 2:
                raise GpuLostError(
                    error.what, fix="Nothing of CUDA works in this process any more: start it again"
                ) from error
            raise


class EngineRefusedError(DsegError):
    """The library does not load an engine, of another driver for instance."""
