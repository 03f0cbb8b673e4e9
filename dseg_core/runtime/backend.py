"""What the predictor wants of whatever runs a model."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from dseg_core.runtime.contract import Contract
from dseg_core.runtime.fitted_images import Pixels
from dseg_core.runtime.gpu_image import GpuImage


class Backend(Protocol):
    """What runs a model. `name`: for people; `contract`: what the model takes and gives."""

    name: str
    contract: Contract

    def run(self, images: Pixels) -> tuple[Pixels, Pixels | None]:
        """Segment as many images as the contract's batch.

        Args:
            images: uint8 (N, H, W, 3), contiguous, of the contract's size or in its range.

        Returns:
            Mask and confidence, uint8 (N, H, W), arrays of their own; no confidence where the model has none.
        """
        ...


@runtime_checkable
class QueuedBackend(Backend, Protocol):
    """A backend that takes the next images while it computes those before, and images that are on the GPU."""

    def run(self, images: Pixels | GpuImage) -> tuple[Pixels, Pixels | None]:
        """Segment images that are here, or one that is on the GPU."""
        ...

    def start(self, images: Pixels | GpuImage) -> None:
        """Queue images, as for `run`, or one that is on the GPU; at most two calls may be unanswered."""
        ...

    def finish(self) -> tuple[Pixels, Pixels | None]:
        """What the oldest queued images give, as `run` does."""
        ...
