"""Masks over images, as pictures and as videos."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.class_table import ClassTable
from dseg_core.progress import of_file
from dseg_core.records import UNLABELLED

_ROW, _SWATCH, _FONT, _SCALE = 18, 11, cv2.FONT_HERSHEY_SIMPLEX, 0.38


def paint(rgb: NDArray[np.uint8], mask: NDArray[np.uint8], classes: ClassTable, strength: float) -> NDArray[np.uint8]:
    """Lay a mask's colours over its image.

    Args:
        rgb: uint8 (H, W, 3).
        mask: uint8 (H, W), ids of `classes`; 255 leaves the image as it is.
        classes: Give the colours.
        strength: 0 shows the image only, 1 the mask only.

    Returns:
        uint8 (H, W, 3).
    """
    return laid_over(rgb, classes.palette()[mask], mask != UNLABELLED, strength)


def laid_over(
    rgb: NDArray[np.uint8], colors: NDArray[np.uint8], where: NDArray[np.bool_], strength: float
) -> NDArray[np.uint8]:
    """`colors` over an image, both uint8 (H, W, 3), where the bool (H, W) says so; `strength` as in `paint`."""
    mixed = cv2.addWeighted(rgb, 1 - strength, colors, strength, 0.0)
    return np.where(where[..., None], mixed, rgb).astype(np.uint8)


def legend(classes: ClassTable, width: int) -> NDArray[np.uint8]:
    """A strip of all classes' colours and names, uint8 (h, width, 3); as many rows as they need."""
    widest = max(cv2.getTextSize(e.name, _FONT, _SCALE, 1)[0][0] for e in classes.entries)
    cell = min(width, widest + _SWATCH + 16)
    columns = max(1, width // cell)
    rows = -(-len(classes) // columns)
    strip = np.full((rows * _ROW + 6, width, 3), 24, dtype=np.uint8)
    for index, entry in enumerate(classes.entries):
        x, y = index % columns * cell + 6, index // columns * _ROW + 6
        strip[y : y + _SWATCH, x : x + _SWATCH] = entry.color
        at = (x + _SWATCH + 5, y + _SWATCH - 1)
        cv2.putText(strip, entry.name, at, _FONT, _SCALE, (235, 235, 235), 1, cv2.LINE_AA)
    return strip


class OverlayVideo:
    """Writes an H.264 video (yuv420p, which browsers play) of overlays above a legend. A context manager.

    The file appears whole when the context ends well. Its size is the first image's, made even, plus the legend's
    height; images of another size are resized to the first.

    Args:
        path: The .mp4 file.
        rate: Images per second.
        classes: Of the masks.
        strength: See `paint`.
    """

    def __init__(self, path: Path, rate: Fraction, classes: ClassTable, strength: float) -> None:
        self.path, self.frames = path, 0
        self._rate, self._classes, self._strength = rate, classes, strength
        self._temporary = path.with_name(f".{path.name}.tmp")
        import av  # here, since the car's segmenter paints without it

        with of_file(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._temporary), "w", format="mp4", options={"movflags": "faststart"})
        self._stream = self._container.add_stream("libx264", rate=rate, options={"crf": "25", "preset": "veryfast"})
        self._stream.pix_fmt = "yuv420p"
        self._size: tuple[int, int] | None = None
        self._legend = np.zeros((0, 0, 3), dtype=np.uint8)

    def write(self, rgb: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
        """Append an image, uint8 (H, W, 3), with its mask, uint8 (H, W)."""
        picture = paint(rgb, mask, self._classes, self._strength)
        if self._size is None:
            self._size = picture.shape[:2]
            self._legend = legend(self._classes, picture.shape[1])
            height, width = self._size[0] + len(self._legend), self._size[1]
            self._stream.width, self._stream.height = width + width % 2, height + height % 2
        if picture.shape[:2] != self._size:
            picture = np.asarray(cv2.resize(picture, self._size[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
        whole = np.concatenate([picture, self._legend])  # (height, width, 3)
        # yuv420p halves the colours' resolution, so it has no odd sizes.
        even = np.pad(whole, ((0, whole.shape[0] % 2), (0, whole.shape[1] % 2), (0, 0)), mode="edge")
        import av

        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
        frame.pts = self.frames
        frame.time_base = 1 / self._rate
        with of_file(self.path):
            self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def __enter__(self) -> OverlayVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self.frames:
                with of_file(self.path):
                    self._container.mux(self._stream.encode(None))
                    self._container.close()
                    self._temporary.replace(self.path)
            else:
                with suppress(OSError):  # what a full disk did not take before it does not take now either
                    self._container.close()
        finally:
            self._temporary.unlink(missing_ok=True)
