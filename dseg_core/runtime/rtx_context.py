"""What TensorRT-RTX runs an engine with, besides the engine: kernels, and memory that does not move.

It compiles an engine's kernels for the GPU when it is loaded; they are kept, so that this is once ("Runtime cache").
A CUDA graph can be made of what it queues only where it allocates nothing by itself while it runs: engines are built
so (BuilderFlag.REQUIRE_USER_ALLOCATION), and their context has all its memory beforehand.
https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from dseg_core.progress import write_whole
from dseg_core.runtime.cuda_memory import DeviceBuffer
from dseg_core.runtime.engine_cache import ENGINE, KERNELS, RefusedError, own_content


class RtxContext:
    """Memory and compiled kernels of one engine's context, which must not outlive this object.

    Args:
        module: Of the library.
        engine: Loaded.
        path: Where the engine lies; kernels are kept beside it in dseg's own cache only.
        vary: Whether the sizes of images vary.
    """

    def __init__(self, module: Any, engine: Any, path: Path, vary: bool) -> None:
        self._engine, self._config = engine, engine.create_runtime_config()
        self._cache = self._config.create_runtime_cache()
        self._config.set_execution_context_allocation_strategy(module.ExecutionContextAllocationStrategy.USER_MANAGED)
        self._memory = DeviceBuffer(max(1, engine.device_memory_size_v2))
        self._file = path.with_name(KERNELS) if path.name == ENGINE else None
        self._kept = b""
        if self._file is not None:
            with suppress(OSError, RefusedError):
                self._kept = own_content(self._file)
        # Of another GPU or driver, or broken: the library refuses it, and it is made anew.
        if self._kept and not self._cache.deserialize(self._kept):
            self._kept = b""
        self._config.set_runtime_cache(self._cache)
        if vary:
            # Else kernels for a size come later, from another thread, when the CUDA graph has the general ones already.
            strategy = module.DynamicShapesKernelSpecializationStrategy.EAGER
            self._config.dynamic_shapes_kernel_specialization_strategy = strategy

    def context(self) -> Any:
        """What runs the engine, or None."""
        context = self._engine.create_execution_context(self._config)
        if context is not None:
            context.set_device_memory(self._memory.address, self._memory.size)
        return context

    def keep_kernels(self) -> None:
        """Write what was compiled by now, if there is more than before. A disk that cannot be written keeps nothing."""
        found = self._cache.serialize()  # nothing where the library cannot
        made = b"" if found is None else bytes(found)
        if self._file is not None and made and made != self._kept:
            with suppress(OSError):
                write_whole(self._file, made)
                self._file.chmod(0o600)
                self._kept = made
