"""What one inference on the GPU needs."""

from __future__ import annotations

from collections.abc import Sequence

from dseg_core.runtime.cuda_memory import DeviceBuffer, Event, Graph, PinnedBuffer


class Slot:
    """Memory of one inference. `busy`: it is queued and nobody took what it gives."""

    def __init__(self, size: int, outputs: dict[str, int], taken: Sequence[str]) -> None:
        self.pinned, self.input = PinnedBuffer(size), DeviceBuffer(size)
        self.outputs = {name: DeviceBuffer(bytes_) for name, bytes_ in outputs.items()}
        self.taken = {name: PinnedBuffer(outputs[name]) for name in taken}
        self.uploaded, self.ready, self.done = Event(), Event(), Event()
        self.graph: Graph | None = None
        self.busy = False
        self.source: object = None
