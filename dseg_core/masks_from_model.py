"""Masks of a bag, a folder of images or a video: label images, an overlay video, and a bag with mask topics."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.bag import BagWriter
from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.image_sizes import aspect_note
from dseg_core.images_from_source import Source, SourceImage, open_source
from dseg_core.masks_folder import claim_masks, finished, job_of
from dseg_core.messages import camera_to_message, image_to_message
from dseg_core.overlay import OverlayVideo
from dseg_core.progress import Summary, claim, progress, share_bar, write_whole
from dseg_core.runtime.predictor import Predictor, open_model
from dseg_core.runtime.unknown_ids import has_unknown
from dseg_core.stage_options import SegmentOptions
from dseg_core.words import count

_ASPECT = "masks may be wrong; train and export for such images"


class MaskWriter:
    """Writes what one run makes of each mask besides its PNG. A context manager: videos and bag appear whole."""

    def __init__(self, out: Path, source: Source, classes: ClassTable, options: SegmentOptions) -> None:
        self._source, self._palette, self._stack = source, classes.palette(), ExitStack()
        self.videos = video_paths(out, source) if options.video else {}
        self.bag = out / "masks_bag" if options.bag and source.kind == "bag" else None
        self._classes, self._strength = classes, options.strength
        self._open: dict[str, OverlayVideo] = {}
        self._bag: BagWriter | None = None

    def write(self, image: SourceImage, mask: NDArray[np.uint8]) -> None:
        """Append a mask, uint8 (H, W), and its image."""
        if image.camera in self.videos:
            if image.camera not in self._open:
                rate = self._source.rates[image.camera]
                video = OverlayVideo(self.videos[image.camera], rate, self._classes, self._strength)
                self._open[image.camera] = self._stack.enter_context(video)
            self._open[image.camera].write(image.rgb, mask)
        if self._bag is not None:
            self._write_messages(self._bag, image, mask)

    def _write_messages(self, bag: BagWriter, image: SourceImage, mask: NDArray[np.uint8]) -> None:
        place = f"/{image.camera.replace('.', '_').replace('-', '_')}"  # what ROS allows in a name
        parts = {
            "mask": image_to_message(image.stamp_ns, image.frame_id, mask),
            "color_mask": image_to_message(image.stamp_ns, image.frame_id, self._palette[mask]),
        }
        if image.camera in self._source.calibrations:
            height, width = mask.shape
            calibration = self._source.calibrations[image.camera].scaled(width, height)
            parts["camera_info"] = camera_to_message(image.stamp_ns, calibration)
        for name, message in parts.items():
            bag.write(f"{place}/{name}", message, image.log_ns)

    def __enter__(self) -> MaskWriter:
        if self.bag is not None:
            self._bag = self._stack.enter_context(BagWriter(self.bag))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def video_paths(out: Path, source: Source) -> dict[str, Path]:
    """The overlay video of each camera: `overlay.mp4`, or `overlay_CAMERA.mp4` where there are several."""
    if len(source.rates) == 1:
        return dict.fromkeys(source.rates, out / "overlay.mp4")
    return {camera: out / f"overlay_{camera}.mp4" for camera in source.rates}


def segment(model: Path, source: Path, options: SegmentOptions) -> Summary:
    """Write the masks of every image of `source` into `options.out`.

    A run that was cut off goes on: masks that are there are read instead of computed; video and bag are made anew from
    them. A finished one is left as it is.

    Args:
        model: An .onnx file of `dseg export`; an engine file; for the torch backend, the folder of a run.
        source: A bag (folder or file), a folder of PNG or JPEG images, or a video file.
        options: Of the run.

    Raises:
        DsegError: No model of dseg, no images, or what is not this run's in `options.out`.
    """
    claim(options.out, "segment", [model, source])
    with share_bar("building the engine") as building:
        predictor = open_model(model, options.backend, options.threads, options.engine, building)
    predictor.check_single()
    images = open_source(source, options.topics, options.rate)
    out = options.out
    job = job_of(model, images)
    done = finished(out, job, options)
    if done is not None:
        return done
    claim_masks(out, job, predictor.classes, images.kind)
    size = predictor.size or _network_size(model)
    counts: Counter[str] = Counter()
    stretched: Counter[str] = Counter()
    pixels = np.zeros(256, dtype=np.int64)
    started = time.perf_counter()
    with MaskWriter(out, images, predictor.classes, options) as writer:
        masks = _Masks(predictor, out)
        for image, mask in masks.of(progress(images.images(), "segment", images.total, "image")):
            if note := aspect_note(image.rgb.shape[:2], size, _ASPECT):
                stretched[note] += 1
            writer.write(image, mask)
            counts[image.camera] += 1
            pixels += np.bincount(mask.ravel(), minlength=256)
    if not counts:
        raise DsegError("holds no images", where=source, fix="Give a bag, a folder of images, or a video")
    results = {
        "job": job,
        "images": dict(counts),
        "taken_from_before": masks.kept,
        "seconds": time.perf_counter() - started,
        "seconds_of_model": masks.seconds,
        "backend": predictor.backend.name,
        "backend_reason": predictor.reason,
        "shares": _shares(pixels, predictor.classes),
        "made": [str(path) for path in (*writer.videos.values(), *([writer.bag] if writer.bag else []))],
        "notes": [
            *predictor.notes,
            *predictor.problems,
            *images.notes,
            *(f"{remark} ({count(n, 'image')})" for remark, n in (*images.remarks.items(), *stretched.items())),
        ],
    }
    return Summary(_told(results, out), results).write(out, "segment", options)


class _Masks:
    """Masks of images: those that a run before wrote, and the model's, which are written.

    `kept`: how many were there. `seconds`: that the model was waited for.
    """

    def __init__(self, predictor: Predictor, out: Path) -> None:
        self._predictor, self._out = predictor, out
        self.kept, self.seconds = 0, 0.0

    def of(self, images: Iterable[SourceImage]) -> Iterator[tuple[SourceImage, NDArray[np.uint8]]]:
        """Each image with its mask, uint8 (H, W), in order; a GPU computes one while the next one is read."""
        classes = len(self._predictor.classes)
        pairs = ((image, _mask_of_before(self._path(image), image, classes)) for image in images)
        for missing, group in groupby(pairs, key=lambda pair: pair[1] is None):
            if missing:
                yield from self._computed(image for image, _ in group)
                continue
            for image, mask in group:
                if mask is not None:
                    self.kept += 1
                    yield image, mask

    def _computed(self, images: Iterator[SourceImage]) -> Iterator[tuple[SourceImage, NDArray[np.uint8]]]:
        waiting: deque[SourceImage] = deque()

        def pixels() -> Iterator[NDArray[np.uint8]]:
            while True:
                begun = time.perf_counter()
                image = next(images, None)
                self.seconds -= time.perf_counter() - begun  # while it was read
                if image is None:
                    return
                waiting.append(image)
                yield image.rgb

        predictions = self._predictor.predict_all(pixels())
        while True:
            begun = time.perf_counter()
            found = next(predictions, None)
            self.seconds += time.perf_counter() - begun
            if found is None:
                return
            image = waiting.popleft()
            png = cv2.imencode(".png", found.mask, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
            write_whole(self._path(image), png.tobytes())
            yield image, found.mask

    def _path(self, image: SourceImage) -> Path:
        return self._out / "masks" / image.camera / f"{image.name}.png"


def _mask_of_before(path: Path, image: SourceImage, classes: int) -> NDArray[np.uint8] | None:
    """A mask that a run before wrote, uint8 (H, W), if it fits the image."""
    if not path.is_file():
        return None
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if mask is None or mask.dtype != np.uint8 or mask.shape != image.rgb.shape[:2] or has_unknown(mask, classes):
        return None
    return np.asarray(mask, dtype=np.uint8)


def _network_size(run: Path) -> tuple[int, int]:
    """What a run's network sees, as (height, width)."""
    from dseg_core.networks.checkpoint import RunDescription  # needs torch, which the car lacks

    network = RunDescription.read(run).network
    return network.height, network.width


def _told(results: dict[str, Any], out: Path) -> str:
    total, fresh = sum(results["images"].values()), sum(results["images"].values()) - results["taken_from_before"]
    rate = f"{total / results['seconds']:.1f} images/s in all"
    if fresh:
        rate += f", the model ({results['backend']}) {fresh / results['seconds_of_model']:.1f} images/s"
    before = f", {results['taken_from_before']} of them made before" if results["taken_from_before"] else ""
    made = "".join(f", {Path(path).name}" for path in results["made"])
    notes = "".join(f"\n{note}." for note in (f"Run by {results['backend_reason']}", *results["notes"]))
    return (
        f"Segmented {count(total, 'image')} of {count(len(results['images']), 'camera')}{before} ({rate}). "
        f"{out} has masks/{made}.{notes}"
    )


def _shares(pixels: NDArray[np.int64], classes: ClassTable) -> dict[str, float]:
    return {entry.name: float(pixels[entry.id] / pixels.sum()) for entry in classes.entries}
