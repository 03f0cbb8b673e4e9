"""Images in order, wherever they come from: bags, folders of images, video files."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.bag import BagReader, Topic, drive_name
from dseg_core.bag.names import is_bag_file, is_bag_folder
from dseg_core.cameras import Camera
from dseg_core.errors import DsegError
from dseg_core.image_codecs import decode
from dseg_core.images_from_packets import images_from_packets
from dseg_core.messages import (
    VideoImage,
    camera_from_message,
    encoded_from_message,
    encoding_note,
    image_from_message,
    stamp_ns,
)
from dseg_core.sensors_from_bag import IMAGE_TYPES, INFO_TYPE, TRUTH_PREFIX
from dseg_core.topic_names import camera_name, info_topic, is_rectified

_PICTURES = (".png", ".jpg", ".jpeg")
_USUAL_RATE = 10.0
_STAMPS = 100
"""So many images a camera tell the rates; all of an hour's drive need not be read twice."""


@dataclass(frozen=True, eq=False)
class SourceImage:
    """One image. `camera`: which one (a bag's camera, else the folder's or video's name). `name`: its file's, unique.

    `rgb`: uint8 (H, W, 3). From bags: `stamp_ns`, `frame_id` of its header, `log_ns` when it was recorded; else 0.
    """

    camera: str
    name: str
    rgb: NDArray[np.uint8]
    stamp_ns: int = 0
    frame_id: str = ""
    log_ns: int = 0


@dataclass(frozen=True, eq=False)
class Source:
    """Where images come from.

    `kind`: "bag", "folder" or "video". `rates`: images per second of each camera. `total`: images in all, or None where
    a video does not tell. `calibrations`: of a bag's cameras that have one. `notes`: what was left out, for people.
    `remarks`: what people should know of the images read so far, and of how many.
    """

    kind: str
    path: Path
    rates: Mapping[str, Fraction]
    total: int | None
    topics: Mapping[str, str] = field(default_factory=dict)
    calibrations: Mapping[str, Camera] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    remarks: Counter[str] = field(default_factory=Counter)

    def images(self) -> Iterator[SourceImage]:
        """All images, in the order of recording; pictures that a video lacks are left out, and counted in `remarks`.

        Raises:
            DsegError: An image is broken.
        """
        if self.kind == "bag":
            return _bag_images(self.path, self.topics, self.remarks)
        return _folder_images(self.path) if self.kind == "folder" else _video_images(self.path)

    def identity(self) -> list[str]:
        """What it is made of, names, sizes and times, to tell sources apart."""
        files = [self.path] if self.path.is_file() else sorted(p for p in self.path.iterdir() if p.is_file())
        # A recorder or a person may add notes to a folder: only what holds images counts.
        kept = [p for p in files if p == self.path or p.suffix.lower() in (*_PICTURES, ".mcap", ".db3", ".zstd")]
        return [f"{p.name} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in kept] + [
            f"{k}={v}" for k, v in sorted(self.topics.items())
        ]


def open_source(path: Path, topics: Sequence[str], rate: float) -> Source:
    """Look at a source without decoding it.

    Args:
        path: A bag (folder or file), a folder of PNG and JPEG images, or a video file.
        topics: Of a bag: which image topics; none takes one of each camera.
        rate: Images per second to assume for a folder of images.

    Raises:
        DsegError: It is none of these, or holds no images.
    """
    if not path.exists():
        raise DsegError("does not exist", where=path, fix="Give a bag, a folder of images, or a video file")
    if is_bag_file(path) or is_bag_folder(path):
        return _open_bag(path, topics)
    if topics:
        raise DsegError("is no bag, so it has no topics", where=path, fix="Leave out --topics")
    return _open_folder(path, rate) if path.is_dir() else _open_video(path)


def _open_bag(path: Path, wanted: Sequence[str]) -> Source:
    with BagReader(path) as reader:
        chosen, notes = _choose(path, reader.topics, wanted)
        infos = {info_topic(topic.name): camera for camera, topic in chosen.items()}
        calibrations = {}
        for info in (t for t in reader.of_type(INFO_TYPE) if t.name in infos):
            first = next(reader.messages([info.name]), None)
            if first is None:
                notes.append(f"{info.name} is left out: none of its messages can be read")
                continue
            message = first.data
            try:
                calibrations[infos[info.name]] = camera_from_message(
                    message, is_rectified(chosen[infos[info.name]].name)
                )
            except DsegError as error:
                notes.append(f"{info.name} is left out: {error}")
        rates = _stamped_rates(reader, {topic.name: camera for camera, topic in chosen.items()})
    names = {camera: topic.name for camera, topic in chosen.items()}
    return Source("bag", path, rates, sum(t.count for t in chosen.values()), names, calibrations, tuple(notes))


def _stamped_rates(reader: BagReader, cameras: Mapping[str, str]) -> dict[str, Fraction]:
    """Images per second of each camera (by topic), by the median spacing of its first images' stamps."""
    stamps: dict[str, list[int]] = {camera: [] for camera in cameras.values()}
    for number, message in enumerate(reader.messages(cameras), 1):
        stamps[cameras[message.topic]].append(stamp_ns(message.data))
        if number >= _STAMPS * len(cameras) and all(len(found) > 2 for found in stamps.values()):
            break
    return {camera: _rate(_rate_of(found)) for camera, found in stamps.items()}


def _rate_of(stamps: Sequence[int]) -> float:
    """Of stamps in nanoseconds, in any order; 0 where they do not tell."""
    steps = [after - before for before, after in itertools.pairwise(sorted(set(stamps)))]
    return 1e9 / statistics.median(steps) if steps else 0.0


def _choose(path: Path, topics: Sequence[Topic], wanted: Sequence[str]) -> tuple[dict[str, Topic], list[str]]:
    """Image topics by camera: those asked for, else those with a camera_info beside them, else all but truth."""
    images = {topic.name: topic for topic in topics if topic.type in IMAGE_TYPES and topic.count}
    missing = [name for name in wanted if name not in images]
    if missing:
        raise DsegError(f"no image topic {missing[0]}; there are: {', '.join(images) or 'none'}", where=path)
    found = [images[name] for name in wanted] or [t for n, t in images.items() if not n.startswith(TRUTH_PREFIX)]
    infos = {topic.name for topic in topics if topic.type == INFO_TYPE}
    calibrated = [topic for topic in found if info_topic(topic.name) in infos]
    notes = []
    if not wanted and calibrated:
        notes = [f"{topic.name} is left out: it has no camera_info" for topic in found if topic not in calibrated]
        found = calibrated
    chosen: dict[str, Topic] = {}
    # Raw before compressed, which has lost something.
    for topic in sorted(found, key=lambda t: (IMAGE_TYPES.index(t.type), t.name)):
        kept = chosen.setdefault(camera_name(topic.name), topic)
        if kept is not topic:
            notes.append(f"{topic.name} is left out: {kept.name} is the same camera")
    if not chosen:
        raise DsegError("has no image topic with messages", where=path, fix="Look at it with `ros2 bag info`")
    return chosen, notes


def _bag_images(path: Path, topics: Mapping[str, str], remarks: Counter[str]) -> Iterator[SourceImage]:
    cameras = {topic: camera for camera, topic in topics.items()}
    seen: Counter[tuple[str, int]] = Counter()
    with BagReader(path) as reader:
        for message in images_from_packets(reader, reader.messages(cameras)):
            try:
                rgb, stamp, frame_id = _decoded(message.data, message.topic)
            except DsegError as error:
                if not isinstance(message.data, VideoImage):
                    raise
                remarks[f"{message.topic}: {error.what}"] += 1
                continue
            if note := encoding_note(getattr(message.data, "encoding", "")):
                remarks[f"{message.topic}: {note}"] += 1
            camera = cameras[message.topic]
            seen[camera, stamp] += 1
            again = seen[camera, stamp]  # drivers that stamp two images alike exist
            name = str(stamp) if again == 1 else f"{stamp}_{again}"
            yield SourceImage(camera, name, rgb, stamp, frame_id, message.log_ns)


def _decoded(message: Any, topic: str) -> tuple[NDArray[np.uint8], int, str]:
    try:
        if not isinstance(message, VideoImage) and "Compressed" in message.__msgtype__:
            encoded = encoded_from_message(message)
            return decode(encoded), encoded.stamp_ns, encoded.frame_id
        image = message.image() if isinstance(message, VideoImage) else image_from_message(message)
    except DsegError as error:
        raise DsegError(error.what, where=topic, fix=error.fix or "Choose other topics with --topics") from None
    return image.rgb, image.stamp_ns, image.frame_id


def _pictures(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.suffix.lower() in _PICTURES and not p.name.startswith("."))


def _open_folder(path: Path, rate: float) -> Source:
    pictures = _pictures(path)
    bags = [p.name for p in sorted(path.iterdir()) if (p / "metadata.yaml").is_file() or p.suffix in (".mcap", ".db3")]
    if not pictures and bags:
        fix = f"Give one of {path}/: {', '.join(bags)}"
        raise DsegError("is a folder of bags, and masks are made of one at a time", where=path, fix=fix)
    if not pictures:
        raise DsegError("holds no images", where=path, fix="Give a bag, a video, or a folder of .png and .jpg files")
    seen: dict[str, Path] = {}
    for picture in pictures:
        other = seen.setdefault(picture.stem, picture)
        if other is not picture:
            raise DsegError(f"{other.name} and {picture.name} would have the same mask", where=path, fix="Rename one")
    return Source("folder", path, {drive_name(path): _rate(rate)}, len(pictures))


def _folder_images(path: Path) -> Iterator[SourceImage]:
    camera = drive_name(path)
    for picture in _pictures(path):
        bgr = cv2.imread(str(picture), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if bgr is None:
            raise DsegError("cannot be decoded", where=picture, fix="Remove it or replace it")
        yield SourceImage(camera, picture.stem, np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8))


def _open_video(path: Path) -> Source:
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DsegError("has no video in it", where=path)
            stream = container.streams.video[0]
            rate = stream.average_rate
            return Source("video", path, {_video_name(path): _rate(float(rate or 0))}, stream.frames or None)
    except av.FFmpegError as error:
        raise DsegError(
            f"is no bag, folder of images or video: {error.strerror}",
            where=path,
            fix="Bags end in .mcap, .db3 or .bag; videos are what FFmpeg reads",
        ) from None


def _video_images(path: Path) -> Iterator[SourceImage]:
    camera = _video_name(path)
    try:
        with av.open(str(path)) as container:
            container.streams.video[0].thread_type = "AUTO"
            for number, frame in enumerate(container.decode(video=0)):
                yield SourceImage(camera, f"{number:06d}", frame.to_ndarray(format="rgb24"))
    except av.FFmpegError as error:
        raise DsegError(f"cannot be decoded further: {error.strerror}", where=path) from None


def _video_name(path: Path) -> str:
    return drive_name(path.with_suffix(""))


def _rate(rate: float) -> Fraction:
    """A rate that a video player copes with; single images are shown at the usual one."""
    known = statistics.median((1.0, rate, 120.0)) if rate > 0 else _USUAL_RATE
    return Fraction(known).limit_denominator(1000)
