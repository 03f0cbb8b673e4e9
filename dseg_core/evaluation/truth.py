"""Images with truth to score on: simulated frames, joined with their bags' truth by stamp, or a folder of PNG pairs."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.bag import BagReader, drive_name, find_bags
from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.image_codecs import decode
from dseg_core.label_store import LabelStore
from dseg_core.messages import image_from_message
from dseg_core.store import FrameStore
from dseg_core.words import count

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
TRUTH_CLASSES = "truth_classes.yaml"


@dataclass(frozen=True, eq=False)
class TruthView:
    """One image with its truth.

    `name`: for messages. `rgb`: uint8 (H, W, 3). `truth`: uint8 (H, W), ids of the truth's class table, 255 not scored.
    `labels`: uint8 (H, W) pseudo-labels (0 ground, 1.. clusters, 255 unlabelled), or None where there are none.
    """

    name: str
    rgb: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    labels: NDArray[np.uint8] | None


class TruthData(Protocol):
    """A data set with truth, in drives: pictures of different drives have nothing to do with each other.

    `classes`: the truth's. `label_classes`: the pseudo-labels', None where there are none. `notes`: what to know.
    """

    path: Path
    classes: ClassTable
    drives: tuple[str, ...]
    label_classes: ClassTable | None
    notes: tuple[str, ...]

    def views(self, drive: str) -> Iterator[TruthView]:
        """The images of a drive that have truth, in a fixed order."""
        ...

    def count(self, drive: str) -> int:
        """How many images the drive has, with truth or without."""
        ...


def open_truth(path: Path, labels: str = "default", bags: Sequence[Path] = (), option: str = "--truth") -> TruthData:
    """Open a folder of frames or of image/label pairs.

    Args:
        path: The folder.
        labels: Name of the frames' pseudo-labels.
        bags: Bags that hold the frames' truth, instead of those the frames were recorded from.
        option: What names `bags` on the command line.

    Raises:
        DsegError: It is neither, or its truth cannot be found.
    """
    if not path.is_dir():
        raise DsegError(
            "is not a folder", where=path, fix="Give recorded frames, or a folder with images/ and labels/."
        )
    if (path / "images").is_dir():
        return PairFolder(path)
    return SimulatedFrames(path, labels, bags, option)


class SimulatedFrames:
    """Recorded frames whose source bags carry `/truth/CAMERA/semantic` (mono8) with the images' stamps.

    Raises:
        DsegError: No frames, no bag with truth for one of their drives, or bags with different class tables; labels of
            another name only.
    """

    def __init__(self, path: Path, labels: str, bags: Sequence[Path] = (), option: str = "--truth") -> None:
        self.path = path
        self._store = FrameStore(path)
        self.drives = tuple(self._store.drives)
        if not self.drives:
            raise DsegError("holds no frames to score", where=path, fix="Run dseg record.")
        self._bags = truth_bags(self._store, path, bags, option)
        tables = {bag: ClassTable.read(_class_file(bag, path)) for bag in dict.fromkeys(self._bags.values())}
        first, *others = tables
        for other in others:
            if tables[other] != tables[first]:
                raise DsegError(f"its truth classes differ from those of {first}", where=other / TRUTH_CLASSES)
        self.classes = tables[first]
        self._labels = _labels_of(path, labels)
        self.label_classes = None if self._labels is None else self._labels.classes
        self.notes: tuple[str, ...] = ()
        if self._labels is None:
            self.notes = (f"{path} has no pseudo-labels, so there are no rows on labelled pixels",)

    def count(self, drive: str) -> int:
        """How many views the drive has."""
        return sum(key.drive == drive for key in self._store.view_keys)

    def views(self, drive: str) -> Iterator[TruthView]:
        """Views of a drive in the order of their keys. Truth is joined by the image's stamp, exactly.

        Raises:
            DsegError: An image without truth, or truth of another size.
        """
        truth = _bag_truth(self._bags[drive])
        keys = [key for key in self._store.view_keys if key.drive == drive]
        labelled = set(self._labels.keys()) if self._labels is not None else set()
        for key in keys:
            view = self._store.view(key)
            image = decode(view.image)
            packed = truth.get((key.camera, view.stamp_ns))
            if packed is None:
                raise DsegError(
                    f"no truth for the image of {key} at stamp {view.stamp_ns}",
                    where=self._bags[drive],
                    fix=f"It needs a topic /truth/{key.camera}/semantic with the image's stamps.",
                )
            mask = packed.unpack()
            _same_size(image, mask, str(key), self._bags[drive])
            labels = None
            if self._labels is not None:
                # A view that was recorded after labelling has no labels: none of its pixels is labelled.
                labels = self._labels.mask(key) if key in labelled else np.full(mask.shape, 255, dtype=np.uint8)
            yield TruthView(str(key), image, mask, labels)


def truth_bags(store: FrameStore, frames: Path, bags: Sequence[Path] = (), option: str = "--truth") -> dict[str, Path]:
    """The bag with the truth of each drive: one of `bags`, or the one that it was recorded from.

    Raises:
        DsegError: It is not there; `option` is what would name it.
    """
    known = {drive_name(bag): bag for bag in find_bags(bags)} if bags else dict(store.source_bags)
    for drive in store.drives:
        if drive in known and known[drive].exists():
            continue
        if bags:
            what, fix = f"none of {option}'s bags is that of drive {drive}", "Add it: drives are called by their bags"
        else:
            where = f", {known[drive]}, is not there any more" if drive in known else " is not known"
            what, fix = f"the bag that drive {drive} was recorded from{where}", f"Tell where it is with {option} BAG"
        raise DsegError(what, where=frames, fix=fix)
    return {drive: known[drive] for drive in store.drives}


@dataclass(frozen=True)
class _Packed:
    """A mask held compressed: a drive's truth fits into memory at any image size."""

    height: int
    width: int
    data: bytes

    def unpack(self) -> NDArray[np.uint8]:
        return np.frombuffer(zlib.decompress(self.data), dtype=np.uint8).reshape(self.height, self.width)


def _bag_truth(bag: Path) -> dict[tuple[str, int], _Packed]:
    """Every semantic truth image of a bag by camera name and stamp [ns]."""
    with BagReader(bag) as reader:
        topics = tuple(t.name for t in reader.topics if _is_truth(t.name))
        found: dict[tuple[str, int], _Packed] = {}
        for message in reader.messages(topics) if topics else ():
            image = image_from_message(message.data)
            mask = np.ascontiguousarray(image.rgb[:, :, 0])
            packed = _Packed(mask.shape[0], mask.shape[1], zlib.compress(mask.tobytes(), 1))
            found[_truth_camera(message.topic), image.stamp_ns] = packed
        return found


def _is_truth(topic: str) -> bool:
    return topic.startswith("/truth/") and topic.endswith("/semantic")


def _truth_camera(topic: str) -> str:
    return topic.removeprefix("/truth/").removesuffix("/semantic").replace("/", "_")


def _class_file(bag: Path, frames: Path) -> Path:
    file = (bag if bag.is_dir() else bag.parent) / TRUTH_CLASSES
    if not file.is_file():
        raise DsegError(
            f"the bag these frames come from carries no truth: there is no {file}",
            where=frames,
            fix="Score on simulated frames, or on a folder with images/, labels/ and classes.yaml.",
        )
    return file


def _labels_of(frames: Path, name: str) -> LabelStore | None:
    """The labels of that name; None when the frames have none at all."""
    folder = frames / "labels"
    found = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    if name in found:
        return LabelStore(frames, name)
    if found:
        raise DsegError(f"there are no labels {name!r}", where=folder, fix=f"Give --labels {' or '.join(found)}.")
    return None


class PairFolder:
    """`images/NAME.png|jpg` with `labels/NAME.png` (8-bit ids, 255 not scored) and `classes.yaml` beside them.

    Subfolders of images/ (mirrored in labels/) are drives; images directly in it are one drive.

    Raises:
        DsegError: A missing part; an image without label. Sizes and ids are checked when a pair is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.classes = ClassTable.read(path / "classes.yaml")
        self.label_classes: ClassTable | None = None
        self.notes: tuple[str, ...] = (
            "a folder of images has no pseudo-labels, so there are no rows on labelled pixels",
        )
        images = path / "images"
        files = sorted(p for p in images.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise DsegError("holds no .png or .jpg image", where=images)
        self._pairs: dict[str, list[tuple[Path, Path]]] = defaultdict(list)
        for image in files:
            label = (path / "labels" / image.relative_to(images)).with_suffix(".png")
            if not label.is_file():
                raise DsegError(
                    f"has no label {label.relative_to(path)}",
                    where=image,
                    fix="Every image needs a label image of its name; 255 marks pixels that are not scored.",
                )
            self._pairs[image.parent.relative_to(images).as_posix()].append((image, label))
        self.drives = tuple(self._pairs)

    def count(self, drive: str) -> int:
        """How many pairs the drive has."""
        return len(self._pairs[drive])

    def views(self, drive: str) -> Iterator[TruthView]:
        """The pairs of a drive by file name.

        Raises:
            DsegError: A file that is no image, a label that is not 8-bit single-channel (a palette PNG would lose its
                ids) or not of the image's size, an id that is not in classes.yaml.
        """
        for image_file, label_file in self._pairs[drive]:
            bgr = _read_image(image_file, cv2.IMREAD_COLOR)
            truth = _read_image(label_file, cv2.IMREAD_UNCHANGED)
            if truth.ndim != 2 or truth.dtype != np.uint8:
                raise DsegError(
                    f"is {truth.dtype} with {count(1 if truth.ndim == 2 else truth.shape[2], 'channel')}",
                    where=label_file,
                    fix="A label image is an 8-bit grey PNG of class ids.",
                )
            _same_size(bgr, truth, "the image", label_file)
            foreign = np.setdiff1d(np.unique(truth), [*range(len(self.classes)), 255])
            if len(foreign):
                raise DsegError(
                    f"holds id {foreign[0]}, which is not in classes.yaml (0 to {len(self.classes) - 1})",
                    where=label_file,
                    fix="Pixels that are not to be scored must be 255.",
                )
            rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
            yield TruthView(image_file.relative_to(self.path).as_posix(), rgb, truth, None)


def _read_image(path: Path, mode: int) -> NDArray[np.uint8]:
    # Decoded from memory: OpenCV's own reader prints warnings of broken files past our error line.
    data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    loaded: NDArray[np.uint8] | None = cv2.imdecode(data, mode) if len(data) else None
    if loaded is None:
        raise DsegError("cannot be read as an image", where=path)
    return loaded


def _same_size(image: NDArray[np.uint8], truth: NDArray[np.uint8], name: str, where: Path) -> None:
    if image.shape[:2] != truth.shape:
        (height, width), (truth_height, truth_width) = image.shape[:2], truth.shape
        raise DsegError(
            f"truth is {truth_width}x{truth_height}, but {name} is {width}x{height} (width x height)", where=where
        )
