"""One predictor, several backends: an RGB image in, a mask and its confidence out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.runtime.contract import Contract

BACKENDS = ("auto", "onnxruntime", "torch")

Pixels = NDArray[np.uint8]


class Backend(Protocol):
    """What runs a model. `name`: for people; `contract`: what the model takes and gives."""

    name: str
    contract: Contract

    def run(self, image: Pixels) -> tuple[Pixels, Pixels]:
        """Image uint8 (1, H, W, 3), contiguous and of the contract's size, to mask and confidence, uint8 (H, W)."""
        ...


@dataclass(frozen=True, eq=False)
class Prediction:
    """`mask`: uint8 (H, W), ids of the predictor's classes. `confidence`: uint8 (H, W), their probability times 255."""

    mask: Pixels
    confidence: Pixels


class Predictor:
    """Checks images, fits them to the model, runs it. Stays usable after an image was refused."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def classes(self) -> ClassTable:
        """The classes of the masks."""
        return self.backend.contract.classes

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) that the model was exported for, or None where it takes any."""
        return self.backend.contract.size

    def predict(self, rgb: Pixels, own_size: bool = False) -> Prediction:
        """Segment one image.

        An image of another size than the model's is stretched to it (by area where it shrinks, else bilinear), and its
        mask and confidence are brought back to the image's size by nearest neighbour. Export the model for the camera's
        size to spare that.

        Args:
            rgb: uint8 (H, W, 3), RGB; may be read-only or not contiguous, and is left as it is.
            own_size: Leave mask and confidence at the model's size.

        Returns:
            Mask and confidence of the image's size, arrays of their own.

        Raises:
            DsegError: Another type, dtype or shape, or an empty image.
        """
        image = _checked(rgb)
        height, width = image.shape[:2]
        size = self.size or (height, width)
        if size != (height, width):
            shrinks = size[0] <= height and size[1] <= width
            how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            image = np.asarray(cv2.resize(image, size[::-1], interpolation=how), dtype=np.uint8)
        mask, confidence = self.backend.run(image[None])
        if size != (height, width) and not own_size:
            mask, confidence = (_nearest(cells, height, width) for cells in (mask, confidence))
        return Prediction(mask, confidence)


def open_model(path: Path, backend: str = "auto", threads: int = 0) -> Predictor:
    """Open a model for predictions.

    Args:
        path: An .onnx file of `dseg export`, or (torch) the folder of a training run.
        backend: One of `BACKENDS`; auto takes torch for a run's folder, else ONNX Runtime.
        threads: Of the CPU; 0 takes all cores that this process may use.

    Raises:
        DsegError: No such file, no model of dseg (naming the part that does not fit), or a library that is missing.
    """
    if backend not in BACKENDS:
        raise DsegError(f"there is no backend {backend!r}", fix=f"Choose one of {', '.join(BACKENDS)}")
    try:
        found = path.exists()
    except OSError as error:  # a name too long, or a folder that may not be looked into
        raise DsegError(f"cannot be read: {error.strerror}", where=path) from None
    if not found:
        raise DsegError("does not exist", where=path, fix="`dseg export RUN` makes RUN/model.onnx")
    if backend == "auto":
        backend = "torch" if path.is_dir() else "onnxruntime"
    if path.is_dir() != (backend == "torch"):
        wanted = "the folder of a run" if backend == "torch" else "an .onnx file"
        raise DsegError(f"is not {wanted}, which the backend {backend} wants", where=path)
    # Each backend's library is imported only when it is chosen: the car has no torch.
    if backend == "torch":
        from dseg_core.runtime.torch_backend import TorchBackend

        return Predictor(TorchBackend(path, threads))
    from dseg_core.runtime.onnxruntime_backend import OnnxRuntimeBackend

    return Predictor(OnnxRuntimeBackend(path, threads))


def _checked(rgb: Pixels) -> Pixels:
    if not isinstance(rgb, np.ndarray):
        raise DsegError(f"an image must be a numpy array, not {type(rgb).__name__}")
    if rgb.dtype != np.uint8:
        raise DsegError(f"an image must be uint8, not {rgb.dtype}", fix="Convert it to 0..255 first")
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise DsegError(f"an image must be (H, W, 3), not {rgb.shape}", fix="Give RGB")
    if rgb.size == 0:
        raise DsegError(f"an image must have pixels; this one is {rgb.shape}")
    return np.ascontiguousarray(rgb)


def _nearest(cells: Pixels, height: int, width: int) -> Pixels:
    """By pixel centres, uint8 (h, w) to (height, width)."""
    return np.asarray(cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)
