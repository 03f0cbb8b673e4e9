"""One predictor, several backends: an RGB image in, a mask and its confidence out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.runtime.contract import Contract
from dseg_core.runtime.size_range import Size

BACKENDS = ("auto", "onnxruntime", "torch")

Pixels = NDArray[np.uint8]


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


@dataclass(frozen=True, eq=False)
class Prediction:
    """`mask`: uint8 (H, W), ids of the predictor's classes. `confidence`: uint8 (H, W), their probability times 255.

    Models exported with `--confidence false` give none.
    """

    mask: Pixels
    confidence: Pixels | None


class Predictor:
    """Checks images, fits them to the model, runs it. Stays usable after an image was refused."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @property
    def classes(self) -> ClassTable:
        """The classes of the masks."""
        return self.backend.contract.classes

    @property
    def size(self) -> Size | None:
        """(height, width) that the model was exported for, the usual one of a range; None where it takes any."""
        contract = self.backend.contract
        return contract.sizes.usual if contract.sizes is not None else contract.size

    @property
    def batch(self) -> int:
        """How many images the model takes at once."""
        return self.backend.contract.batch

    def predict(self, rgb: Pixels, own_size: bool = False) -> Prediction:
        """Segment one image, see `predict_batch`. Raises DsegError, also where the model takes several at once."""
        self.check_single()
        return self.predict_batch([rgb], own_size)[0]

    def check_single(self) -> None:
        """Raise DsegError where the model takes several images at once."""
        if self.batch != 1:
            raise DsegError(
                f"the model takes {self.batch} images at once, not one",
                fix="Export it with `dseg export --batch 1`, or give as many to predict_batch",
            )

    def predict_batch(self, images: Sequence[Pixels], own_size: bool = False) -> list[Prediction]:
        """Segment as many images as the model takes at once, such as one of each camera.

        An image of another size than the model's, or outside its range, is stretched to it (by area where it shrinks,
        else bilinear), and its mask and confidence are brought back to the image's size by nearest neighbour. Export
        the model for the camera's size to spare that.

        Args:
            images: RGB, uint8 (H, W, 3) each; may be read-only or not contiguous, and are left as they are.
            own_size: Leave masks and confidences at the size that the model sees.

        Returns:
            Mask and confidence of each image, of its size, arrays of their own.

        Raises:
            DsegError: Another number of images, another type, dtype or shape, an empty image; images that a model of
                a range of sizes would see at different sizes.
        """
        if len(images) != self.batch:
            raise DsegError(
                f"the model takes {self.batch} images at once, not {len(images)}", fix="Export with another --batch"
            )
        checked = [_checked(image) for image in images]
        fitted = [_fitted(image, self._size_of(image)) for image in checked]
        if len({image.shape for image in fitted}) > 1:
            shapes = " and ".join(sorted({f"{image.shape[1]}x{image.shape[0]}" for image in fitted}))
            raise DsegError(f"images of one batch must have one size, not {shapes}", fix="Export for one size")
        masks, confidences = self.backend.run(fitted[0][None] if len(fitted) == 1 else np.stack(fitted))
        found = []
        for number, image in enumerate(checked):
            confidence = None if confidences is None else confidences[number]
            if not own_size:
                size = image.shape[:2]
                confidence = None if confidence is None else _nearest(confidence, size)
                found.append(Prediction(_nearest(masks[number], size), confidence))
            else:
                found.append(Prediction(masks[number], confidence))
        return found

    def _size_of(self, image: Pixels) -> Size:
        """The size at which the model sees an image."""
        contract, own = self.backend.contract, (image.shape[0], image.shape[1])
        if contract.sizes is not None:
            return contract.sizes.fit(own)
        return contract.size or own


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


def _fitted(image: Pixels, size: Size) -> Pixels:
    if image.shape[:2] == size:
        return image
    shrinks = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size[::-1], interpolation=how), dtype=np.uint8)


def _nearest(cells: Pixels, size: tuple[int, ...]) -> Pixels:
    """By pixel centres, uint8 (h, w) to `size`, (height, width)."""
    if cells.shape == size:
        return cells
    return np.asarray(cv2.resize(cells, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)
