"""One predictor, several backends: an RGB image in, a mask and its confidence out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.runtime.backend import Backend, QueuedBackend
from dseg_core.runtime.backends import Opening, opened
from dseg_core.runtime.fitted_images import Pixels, checked, enlarged, fitted
from dseg_core.runtime.gpu_image import gpu_image_of, is_on_gpu
from dseg_core.runtime.model_check import check_there
from dseg_core.runtime.size_range import Size
from dseg_core.runtime.unknown_ids import UnknownIds
from dseg_core.stage_options.engine import BACKENDS, EngineOptions
from dseg_core.words import count

__all__ = ["BACKENDS", "Pixels", "Prediction", "Predictor", "open_model"]


_DEFAULTS = EngineOptions()


@dataclass(frozen=True, eq=False)
class Prediction:
    """`mask`: uint8 (H, W), ids of the predictor's classes. `confidence`: uint8 (H, W), their probability times 255.

    Models exported with `--confidence false` give none.
    """

    mask: Pixels
    confidence: Pixels | None


class Predictor:
    """Checks images, fits them to the model, runs it. Stays usable after an image was refused.

    Args:
        backend: Runs it.
        reason: Why this one, in words.
        passed: Better backends that should run it, and why they do not, a line each.

    Attributes:
        backend: As given.
        reason: As given.
    """

    def __init__(self, backend: Backend, reason: str = "", passed: Sequence[str] = ()) -> None:
        self.backend, self.reason = backend, reason
        self._passed = tuple(passed)
        self._unknown = UnknownIds(len(backend.contract.classes))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not as fast as it could be, and why, a line each."""
        return tuple(getattr(self.backend, "notes", ()))

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, a line each: faster backends that failed, ids in the masks so far that no class has."""
        told = self._unknown.told()
        return (*self._passed, told) if told else self._passed

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
        """Segment one image, see `predict_batch`, by a model that takes one at once.

        TensorRT's backends also take an image that is on the GPU, of torch or CuPy say: uint8 (H, W, 3), contiguous, of
        the model's size. What still writes it is waited for: its stream, or all of the GPU where its library tells no
        stream, as torch.

        Raises:
            GpuLostError: Nothing of CUDA works in this process any more.
            DsegError: As `predict_batch`.
        """
        self.check_single()
        return self._predict_on_gpu(rgb) if is_on_gpu(rgb) else self.predict_batch([rgb], own_size)[0]

    def check_single(self) -> None:
        """Raise DsegError where the model takes several images at once."""
        if self.batch != 1:
            raise DsegError(
                f"the model takes {self.batch} images at once, not one",
                fix="Export it with `dseg export --batch 1`; several at once are for Python, Predictor.predict_batch",
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
                f"the model takes {count(self.batch, 'image')} at once, not {len(images)}",
                fix="Export with another --batch",
            )
        own = [checked(image) for image in images]
        seen = [fitted(image, self._size_of(image)) for image in own]
        if len({image.shape for image in seen}) > 1:
            shapes = " and ".join(sorted({f"{image.shape[1]}x{image.shape[0]}" for image in seen}))
            raise DsegError(f"images of one batch must have one size, not {shapes}", fix="Export for one size")
        masks, confidences = self.backend.run(seen[0][None] if len(seen) == 1 else np.stack(seen))
        found = []
        for number, image in enumerate(own):
            confidence = None if confidences is None else confidences[number]
            found.append(self._brought_back(masks[number], confidence, None if own_size else image.shape[:2]))
        return found

    def predict_all(self, images: Iterable[Pixels], own_size: bool = False) -> Iterator[Prediction]:
        """Segment images one after the other, where the backend can, the next one copied while one is computed.

        Args:
            images: As for `predict`; asked for one at a time, one ahead of what was given.
            own_size: As for `predict`.

        Yields:
            As `predict` returns, in their order.

        Raises:
            DsegError: As `predict` does.
        """
        backend = self.backend
        if not isinstance(backend, QueuedBackend) or self.batch != 1:
            yield from (self.predict(image, own_size) for image in images)
            return
        queued: deque[tuple[Size, Size]] = deque()  # an image's own size, and that which the model sees

        def taken() -> Prediction:
            wanted = queued.popleft()[own_size]
            masks, confidences = backend.finish()
            return self._brought_back(masks[0], None if confidences is None else confidences[0], wanted)

        try:
            for image in images:
                own = checked(image)
                seen = self._size_of(own)
                if queued and queued[0][1] != seen:
                    yield taken()
                backend.start(fitted(own, seen)[None])
                queued.append(((own.shape[0], own.shape[1]), seen))
                if len(queued) == 2:
                    yield taken()
            while queued:
                yield taken()
        finally:
            for _ in queued:  # whoever asked went away, or an image was refused
                with suppress(DsegError):
                    backend.finish()

    def _predict_on_gpu(self, image: object) -> Prediction:
        backend, found = self.backend, gpu_image_of(image)
        if not isinstance(backend, QueuedBackend):
            raise DsegError(f"{backend.name} takes no images that are on the GPU", fix="Give a numpy array")
        size = (found.height, found.width)
        if self._size_for(size) != size:
            wanted = self.size or size
            raise DsegError(
                f"an image on the GPU is taken as it is, and this one is {size[1]}x{size[0]}, not "
                f"{wanted[1]}x{wanted[0]}",
                fix="Export the model for that size, or resize it there",
            )
        masks, confidences = backend.run(found)
        return self._brought_back(masks[0], None if confidences is None else confidences[0], None)

    def _brought_back(self, mask: Pixels, confidence: Pixels | None, size: tuple[int, ...] | None) -> Prediction:
        """A prediction of `size`, or as the model gave it."""
        self._unknown.look(mask)
        if size is None:
            return Prediction(mask, confidence)
        return Prediction(enlarged(mask, size), None if confidence is None else enlarged(confidence, size))

    def _size_of(self, image: Pixels) -> Size:
        """The size at which the model sees an image."""
        return self._size_for((image.shape[0], image.shape[1]))

    def _size_for(self, own: Size) -> Size:
        contract = self.backend.contract
        if contract.sizes is not None:
            return contract.sizes.fit(own)
        return contract.size or own


def open_model(
    path: Path,
    backend: str = "auto",
    threads: int = 0,
    engine: EngineOptions = _DEFAULTS,
    building: Callable[[float], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Predictor:
    """Open a model for predictions; returns when it is ready, which takes minutes where an engine must be built.

    Args:
        path: An .onnx file of `dseg export`, the folder of a training run (torch), or an engine file with its .json.
        backend: One of `BACKENDS`. auto takes torch for a run's folder, else the first of TensorRT, TensorRT-RTX and
            ONNX Runtime that can run it here; `Predictor.reason` says why. Another one runs it or is an error.
        threads: Of the CPU; 0 takes all cores that this process may use.
        engine: How engines are built and where they are kept.
        building: Called with the share that is built, 0 to 1, from this thread; with 0 while another process builds it,
            and never where nothing must be built.
        stop: Asked ten times a second while an engine is built or waited for; once true, EngineStoppedError is raised.

    Raises:
        DsegError: No such file, no model of dseg (naming the part that does not fit), a library that is missing, an
            engine that cannot be built.
    """
    check_there(path, backend)
    chosen = opened(Opening(path, threads, engine, building, stop), backend)
    return Predictor(chosen.backend, chosen.reason, chosen.failed)
