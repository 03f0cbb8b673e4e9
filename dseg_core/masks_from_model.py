"""Masks of a bag, a folder of images or a video: label images, an overlay video, and a bag with mask topics."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
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
from dseg_core.messages import camera_to_message, image_to_message
from dseg_core.overlay import OverlayVideo
from dseg_core.progress import Summary, claim, progress, share_bar, write_whole
from dseg_core.runtime.predictor import open_model
from dseg_core.runtime.unknown_ids import has_unknown
from dseg_core.stage_options import SegmentOptions
from dseg_core.store import read_json
from dseg_core.words import count

_JOB = "job.json"
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
    job = _job(model, images, options)
    done = _finished(out, job, options)
    if done is not None:
        return done
    _claim(out, job, predictor.classes, images.kind)
    size = predictor.size or _network_size(model)
    counts: Counter[str] = Counter()
    stretched: Counter[str] = Counter()
    pixels = np.zeros(256, dtype=np.int64)
    kept, seconds, started = 0, 0.0, time.perf_counter()
    with MaskWriter(out, images, predictor.classes, options) as writer:
        for image in progress(images.images(), "segment", images.total, "image"):
            path = out / "masks" / image.camera / f"{image.name}.png"
            if note := aspect_note(image.rgb.shape[:2], size, _ASPECT):
                stretched[note] += 1
            mask = _mask_of_before(path, image, len(predictor.classes))
            if mask is None:
                begun = time.perf_counter()
                mask = predictor.predict(image.rgb).mask
                seconds += time.perf_counter() - begun
                write_whole(path, cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes())
            else:
                kept += 1
            writer.write(image, mask)
            counts[image.camera] += 1
            pixels += np.bincount(mask.ravel(), minlength=256)
    if not counts:
        raise DsegError("holds no images", where=source, fix="Give a bag, a folder of images, or a video")
    results = {
        "job": job,
        "images": dict(counts),
        "taken_from_before": kept,
        "seconds": time.perf_counter() - started,
        "seconds_of_model": seconds,
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


def _job(model: Path, source: Source, options: SegmentOptions) -> dict[str, Any]:
    """What decides the masks, to tell one run from another."""
    parts = (
        [model] if model.is_file() else [model / name for name in ("student.safetensors", "run.json", "classes.yaml")]
    )
    total = hashlib.sha256()
    for part in parts:
        total.update(part.read_bytes() if part.is_file() else b"")
    return {"model": total.hexdigest(), "source": source.identity()}


def _finished(out: Path, job: dict[str, Any], options: SegmentOptions) -> Summary | None:
    """The summary of the same run done before, if what it made is still there."""
    file = out / "summary.json"
    if not file.is_file():
        return None
    content = read_json(file)
    results = content.get("results", {})
    same = results.get("job") == job and content.get("options") == options.to_dict()
    if not same or not all(Path(path).exists() for path in results.get("made", ())):
        return None
    missing = sum(results["images"].values()) - len(list(_masks(out)))
    return None if missing else Summary(f"{out} was made before by the same model of the same source.", results)


def _masks(out: Path) -> Iterator[Path]:
    return (out / "masks").glob("*/*.png")


def _claim(out: Path, job: dict[str, Any], classes: ClassTable, kind: str) -> None:
    """Make `out` this run's. Raises DsegError where it holds masks of another model or source."""
    before = read_json(out / _JOB) if (out / _JOB).is_file() else None
    if before is None:
        taken = [name for name in ("masks", "masks_bag", "classes.yaml", "summary.json") if (out / name).exists()]
        if taken:
            raise DsegError(f"holds {taken[0]} of something else", where=out, fix="Give another --out")
    elif before != job and not _fits(before, job, {path.stem for path in _masks(out)}, kind):
        same_model = before.get("model") == job["model"]
        other = _other_source(before.get("source", []), job["source"]) if same_model else "model"
        raise DsegError(f"holds masks of another {other}", where=out, fix="Remove it, or give another --out")
    else:
        # Video and bag follow this run's options; those of the run before must not stay beside its summary.
        made = _made_before(out)
        (out / "summary.json").unlink(missing_ok=True)
        for stale in out.glob("overlay*.mp4"):
            if stale.name in made:  # else it is the user's own
                stale.unlink()
        _remove_bag(out / "masks_bag")
    write_whole(out / _JOB, (json.dumps(job, indent=2) + "\n").encode())
    classes.write(out / "classes.yaml")


def _made_before(out: Path) -> set[str]:
    """The names of what the run before wrote, by its summary."""
    if not (out / "summary.json").is_file():
        return set()
    made = (read_json(out / "summary.json").get("results") or {}).get("made") or []
    return {Path(str(path)).name for path in made}


def _fits(before: dict[str, Any], job: dict[str, Any], masks: set[str], kind: str) -> bool:
    """Whether the masks that are there are this job's too: there are none, or the images they are of are the same."""
    if not masks:
        return True
    kept = {Path(_name(part)).stem for part in {*before.get("source", [])} & {*job["source"]}}
    return kind == "folder" and before.get("model") == job["model"] and masks <= kept


def _other_source(before: list[str], now: list[str]) -> str:
    """What tells two sources apart, by the first thing that only one of them has."""
    gone, new = ([_name(part) for part in one if part not in two] for one, two in ((before, now), (now, before)))
    changed = [name for name in gone if name in new]
    if changed:
        return f"source, where {changed[0]} was different"
    return f"source, which has {gone[0] if gone else f'no {new[0]}'}"


def _name(part: str) -> str:
    """The file of a part of a source's identity, which ends with its size and time."""
    return part.rsplit(" ", 2)[0]


def _remove_bag(bag: Path) -> None:
    """Remove a bag that a run before made; nothing else that may lie there."""
    if (bag / "metadata.yaml").is_file():
        for file in (*bag.glob("*.mcap"), bag / "metadata.yaml"):
            file.unlink()
        bag.rmdir()


def _mask_of_before(path: Path, image: SourceImage, classes: int) -> NDArray[np.uint8] | None:
    """A mask that a run before wrote, uint8 (H, W), if it fits the image."""
    if not path.is_file():
        return None
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if mask is None or mask.dtype != np.uint8 or mask.shape != image.rgb.shape[:2] or has_unknown(mask, classes):
        return None
    return np.asarray(mask, dtype=np.uint8)


def _shares(pixels: NDArray[np.int64], classes: ClassTable) -> dict[str, float]:
    return {entry.name: float(pixels[entry.id] / pixels.sum()) for entry in classes.entries}
