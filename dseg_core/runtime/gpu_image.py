"""Images that are on the GPU already, of whatever library: torch, CuPy, Numba, JAX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dseg_core.errors import DsegError


@dataclass(frozen=True)
class GpuImage:
    """RGB, uint8 (height, width, 3), contiguous at `address` of the GPU's memory.

    `stream`: of what is still writing it; None where nothing is. `untold`: something may be writing it, and the library
    that made it does not tell what, as torch. `owner`: keeps the memory.
    """

    address: int
    height: int
    width: int
    stream: int | None
    owner: object
    untold: bool = False


def is_on_gpu(image: object) -> bool:
    """Whether an image tells that it is in the GPU's memory."""
    return hasattr(image, "__cuda_array_interface__")


def gpu_image_of(image: Any) -> GpuImage:
    """Read the CUDA Array Interface of an image, uint8 (H, W, 3), contiguous.

    https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html

    Raises:
        DsegError: Another dtype or shape, an empty image, or one that is not contiguous.
    """
    told = image.__cuda_array_interface__
    shape, strides = tuple(told["shape"]), told.get("strides")
    if told["typestr"] != "|u1":
        raise DsegError(f"an image must be uint8, not {told['typestr']}", fix="Convert it to 0..255 first")
    if len(shape) != 3 or shape[2] != 3:
        raise DsegError(f"an image must be (H, W, 3), not {shape}", fix="Give RGB")
    if 0 in shape:
        raise DsegError(f"an image must have pixels; this one is {shape}")
    if strides is not None and tuple(strides) != (3 * shape[1], 3, 1):
        raise DsegError("an image on the GPU must be contiguous", fix="Make it so there, with `.contiguous()` or so")
    if told.get("mask") is not None:
        raise DsegError("an image on the GPU must have no mask")
    untold = told.get("version", 0) < 3  # the interface has streams since its version 3
    stream = None if untold else told.get("stream")
    return GpuImage(int(told["data"][0]), int(shape[0]), int(shape[1]), stream, image, untold)
