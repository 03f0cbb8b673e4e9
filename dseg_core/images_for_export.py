"""The recorded images that an exported model is compared on, and calibrated with where it is quantised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.image_codecs import decode
from dseg_core.image_sizes import usual_size
from dseg_core.label_store import LabelStore
from dseg_core.networks.checkpoint import RunDescription, digest, labels_digest
from dseg_core.networks.mask_agreement import CheckImage
from dseg_core.networks.quantised_graph import PRECISIONS
from dseg_core.records import ViewKey
from dseg_core.runtime.size_range import Size, SizeRange
from dseg_core.stage_options import ExportOptions
from dseg_core.store import FrameStore


@dataclass(frozen=True, eq=False)
class RecordedImages:
    """Images of frames as they were recorded, RGB, uint8 (H, W, 3) each, and what they are.

    `check`: to compare on; `labels`: ids of the network's classes of each, uint8 (H, W), 255 unlabelled, or None.
    `calibration`: to calibrate with. `digest`: of both, as hex. `note`: what is wrong with them, or nothing.
    """

    check: tuple[NDArray[np.uint8], ...]
    labels: tuple[NDArray[np.uint8] | None, ...]
    calibration: tuple[NDArray[np.uint8], ...]
    digest: str
    note: str = ""

    @property
    def usual_size(self) -> Size:
        """(height, width) that most have."""
        return usual_size((image.shape[0], image.shape[1]) for image in self.check)

    def to_check(self, size: Size | SizeRange, names: ClassTable) -> list[CheckImage]:
        """Images at sizes that a model takes, in turns where it takes several, and labels as ids of its `names`."""
        sizes = cycle((size.usual, size.smallest, size.largest) if isinstance(size, SizeRange) else (size,))
        ids = np.full(256, 255, dtype=np.uint8)
        ids[: len(names)] = names.name_ids()
        return [
            CheckImage(_fitted(image, at), None if mask is None else _nearest(ids[mask], at))
            for image, mask, at in zip(self.check, self.labels, sizes, strict=False)
        ]

    def to_calibrate(self, size: Size | SizeRange) -> list[NDArray[np.uint8]]:
        """Images at the size that a model takes, uint8 (H, W, 3)."""
        at = size.usual if isinstance(size, SizeRange) else size
        return [_fitted(image, at) for image in self.calibration]


def recorded_images(
    frames: Path | None, run: Path, described: RunDescription, options: ExportOptions
) -> RecordedImages:
    """Read the images that an export needs, spread over all views, cameras in turn.

    Args:
        frames: Their folder.
        run: Of the training.
        described: The run; its labels are read too where they still are those that it was trained on.
        options: How many images, and of which precision the model is.

    Raises:
        DsegError: No frames, or none with an image.
    """
    store = _open(frames, run)
    keys = store.view_keys
    if not keys:
        raise DsegError("holds no image", where=store.folder, fix="Give other frames with --frames")
    chosen = _spread(keys, options.check_frames)
    calibration: list[ViewKey] = []
    if options.precision in PRECISIONS:
        others = [key for key in keys if key not in set(chosen)]
        calibration = _spread(others or keys, options.calibration_frames)
    images = {key: decode(store.view(key).image) for key in (*chosen, *calibration)}
    labels = None if options.precision == "fp32" else _labels(store, described)
    labelled = set(labels.keys()) if labels is not None else set()
    return RecordedImages(
        tuple(images[key] for key in chosen),
        tuple(labels.mask(key) if labels is not None and key in labelled else None for key in chosen),
        tuple(images[key] for key in calibration),
        digest(*(image.tobytes() for image in images.values())),
        "there are no other images to calibrate on than those compared on" if set(calibration) & set(chosen) else "",
    )


def _open(frames: Path | None, run: Path) -> FrameStore:
    fix = "Give a folder of frames with --frames: the export is compared with torch on them"
    if frames is None:
        raise DsegError("does not tell which frames it was trained on", where=run, fix=fix)
    if not frames.is_dir():
        raise DsegError(f"was trained on frames that are not at {frames}", where=run, fix=fix)
    return FrameStore(frames)


def _labels(store: FrameStore, described: RunDescription) -> LabelStore | None:
    """The labels that the run was trained on, if these frames still have them."""
    name = described.options.get("labels")
    if not isinstance(name, str):
        return None
    labels = LabelStore(store.folder, name)
    keys = sorted(set(store.view_keys) & set(labels.keys()))
    return labels if keys and labels_digest(labels, keys) == described.inputs.get("labels") else None


def _spread(keys: Sequence[ViewKey], wanted: int) -> list[ViewKey]:
    places = np.unique(np.linspace(0, len(keys) - 1, min(wanted, len(keys))).round().astype(int))
    return [keys[i] for i in places]


def _fitted(image: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    if image.shape[:2] == size:
        return image
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _nearest(ids: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    if ids.shape == size:
        return ids
    return np.asarray(cv2.resize(ids, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)
