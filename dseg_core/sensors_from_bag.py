"""Which topics of a bag make frames, how the cameras are calibrated, and where everything is mounted."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from dseg_core.bag import BagReader, Topic
from dseg_core.cameras import Camera
from dseg_core.errors import DsegError
from dseg_core.messages import (
    LIVOX_TYPES,
    VIDEO_TYPES,
    camera_from_message,
    cloud_notes,
)
from dseg_core.stage_options import TopicOptions
from dseg_core.topic_names import camera_name, info_topic, is_rectified, without_transport
from dseg_core.transforms import TransformTree
from dseg_core.transforms_from_bag import transforms_from_bag

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", *VIDEO_TYPES)
CLOUD_TYPES = ("sensor_msgs/msg/PointCloud2", *LIVOX_TYPES, "velodyne_msgs/msg/VelodyneScan")
"""The surer first: raw packets leave the choice of model and calibration."""
INFO_TYPE = "sensor_msgs/msg/CameraInfo"
LIDAR = "lidar"
"""What the sweeps' sensor is called in accounts; no camera is."""
TRUTH_PREFIX = "/truth/"
"""Topics below it hold a simulation's truth; nothing that learns ever reads them."""

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class CameraTopic:
    """A camera: its name, its image topic and its calibration."""

    name: str
    topic: str
    calibration: Camera


@dataclass(frozen=True)
class Sensors:
    """What a bag's frames are made from. `notes`: what was left out, and why, for people.

    `others`: topics of further LiDARs, by name. `absent`: names of cameras that may come later, live.
    """

    lidar: str
    cameras: tuple[CameraTopic, ...]
    tree: TransformTree
    notes: tuple[str, ...]
    others: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()


def sensors_from_bag(reader: BagReader, options: TopicOptions) -> Sensors:
    """Choose topics by type unless options name them; read calibration and all transforms.

    Raises:
        DsegError: No LiDAR, no calibrated camera, a choice that only the user can make, or broken transforms.
    """
    topics = [topic for topic in reader.topics if not topic.name.startswith(TRUTH_PREFIX) and topic.count]
    lidar = chosen_lidar(reader.path, topics, options)
    images, notes = chosen_images(reader.path, topics, options)
    wanted = calibrated(reader.path, images, topics, notes)
    tree, broken = transforms_from_bag(reader, options.calibration)
    notes += broken
    infos_found = _infos(reader, set(wanted.values()))
    names = camera_names(wanted)
    cameras = []
    for topic, info in wanted.items():
        if info not in infos_found:
            raise DsegError(f"{info} has no message", where=reader.path)
        calibration = camera_from_message(infos_found[info], is_rectified(topic))
        cameras.append(CameraTopic(names[topic], topic, calibration))
    notes += _cloud_notes(reader, lidar, options)
    return Sensors(lidar, tuple(cameras), tree, tuple(notes), other_lidars(reader.path, topics, options))


def calibrated(where: Path | str, images: Sequence[Topic], topics: Sequence[Topic], notes: list[str]) -> dict[str, str]:
    """The camera_info of each image topic that has one; `notes` gets those that have none. Raises DsegError."""
    infos = {topic.name for topic in topics if topic.type == INFO_TYPE}
    wanted: dict[str, str] = {}
    for image in images:
        info = info_topic(image.name)
        if info in infos:
            wanted[image.name] = info
        else:
            notes.append(f"{image.name} is left out: there is no {info}")
    if not wanted:
        why = "; ".join(notes) or "no topic of images or video has messages"
        raise DsegError(f"no calibrated camera: {why}", where=where, fix="Record images with their camera_info")
    return wanted


def chosen_lidar(bag: Path | str, topics: Sequence[Topic], options: TopicOptions) -> str:
    """The topic of the points. Raises DsegError where there is none, or only the user can choose."""
    first = [topic for topic in topics if topic.name not in options.other_lidars]
    named = [topic.name for topic in first if topic.type in CLOUD_TYPES]
    if options.lidar:
        if options.lidar not in named:
            raise DsegError(f"no cloud topic {options.lidar}; there are: {_list(named)}", where=bag)
        return options.lidar
    if len(first) < len(topics) and not named:
        what = f"{_list(options.other_lidars)} is among the further LiDARs, and no cloud topic is left for the first"
        raise DsegError(what, where=bag, fix="Leave one out of --topics.other-lidars")
    points, packets = ([t for t in first if t.type in kinds] for kinds in (CLOUD_TYPES[:-1], CLOUD_TYPES[-1:]))
    clouds = [topic.name for topic in points or packets]
    if len(clouds) != 1:
        kinds = " and ".join(dict.fromkeys(t.type.rpartition("/")[2] for t in points or packets)) or "PointCloud2"
        problem = f"no {kinds} topic" if not clouds else f"several {kinds} topics: {_list(clouds)}"
        fix = (
            "Choose one with --topics.lidar"
            if clouds
            else "Record the LiDAR's points, as PointCloud2, Livox CustomMsg or VelodyneScan; its driver makes them of "
            "packets, also from `ros2 bag play`"
        )
        raise DsegError(problem, where=bag, fix=fix)
    return clouds[0]


def other_lidars(where: Path | str, topics: Sequence[Topic], options: TopicOptions) -> dict[str, str]:
    """The topics of further LiDARs, by name: lidar_2, lidar_3... Raises DsegError where one is missing."""
    clouds = [topic.name for topic in topics if topic.type in CLOUD_TYPES]
    missing = [name for name in options.other_lidars if name not in clouds]
    if missing:
        raise DsegError(f"no cloud topic {missing[0]}; there are: {_list(clouds)}", where=where)
    return {f"{LIDAR}_{number}": topic for number, topic in enumerate(options.other_lidars, 2)}


def _cloud_notes(reader: BagReader, lidar: str, options: TopicOptions) -> list[str]:
    """What its first cloud that can be read says about the LiDAR.

    Raises:
        DsegError: Packets cannot be decoded: the decoder, the model or the calibration is missing for all of them.
    """
    problem = None
    for message in islice(reader.messages({lidar}), 10):
        try:
            notes = cloud_notes(message.data, options.velodyne_model, options.velodyne_calibration)
        except DsegError as error:
            problem = error if hasattr(message.data, "packets") else None  # broken clouds are counted in their turn
        else:
            return [f"{lidar}: {note}" for note in notes]
    if problem is not None:
        raise DsegError(problem.what, where=reader.path, fix=problem.fix)
    return []


def chosen_images(bag: Path | str, topics: Sequence[Topic], options: TopicOptions) -> tuple[list[Topic], list[str]]:
    """The image topics, one per camera; raw before compressed, since it has lost nothing yet."""
    images = [topic for topic in topics if topic.type in IMAGE_TYPES]
    if options.cameras:
        named = {topic.name: topic for topic in images}
        missing = [name for name in options.cameras if name not in named]
        if missing:
            raise DsegError(f"no image topic {missing[0]}; there are: {_list(list(named))}", where=bag)
        return [named[name] for name in options.cameras], []
    chosen: dict[str, Topic] = {}
    notes = []
    for topic in sorted(images, key=lambda t: (IMAGE_TYPES.index(t.type), t.name)):
        kept = chosen.setdefault(without_transport(topic.name), topic)
        if kept is not topic:
            notes.append(f"{topic.name} is left out: {kept.name} is the same camera")
    return sorted(chosen.values(), key=lambda topic: topic.name), notes


def camera_names(topics: Iterable[str]) -> dict[str, str]:
    """A name for each image topic: its namespace's, made different where two are alike, or like the LiDAR's."""
    names: dict[str, str] = {}
    for topic in topics:
        name = camera_name(topic)
        if re.fullmatch(rf"{LIDAR}(_\d+)?", name):
            name = f"{name}_camera"
        numbers = itertools.count(2)
        names[topic] = (
            name
            if name not in names.values()
            else next(other for n in numbers if (other := f"{name}_{n}") not in names.values())
        )
    return names


def _infos(reader: BagReader, infos: set[str]) -> dict[str, Any]:
    """The first camera_info of each topic; they come with every image, and the rest of the bag need not be read."""
    found: dict[str, Any] = {}
    for message in reader.messages(infos):
        found.setdefault(message.topic, message.data)
        if len(found) == len(infos):
            break
    return found


def _is_calibrated(reader: BagReader, topic: str, info: str) -> bool:
    """True. Raises DsegError when the camera_info makes no camera."""
    camera_from_message(_infos(reader, {info})[info], is_rectified(topic))
    return True


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def survey(reader: BagReader, options: TopicOptions) -> tuple[TopicOptions | None, tuple[str, ...], list[DsegError]]:
    """Everything that keeps `sensors_from_bag` from working, not the first thing only.

    Returns:
        Options with which it works, where a choice that only the user can make is made as if; None when nothing does.
        Notes on what is left out. What is wrong; empty when it works as it is.
    """
    problems: dict[str, DsegError] = {}
    with suppress(DsegError):
        return options, sensors_from_bag(reader, options).notes, []

    def attempt(step: Callable[[], _Found], otherwise: _Found) -> _Found:
        try:
            return step()
        except DsegError as error:
            problems.setdefault(str(error), error)
            return otherwise

    topics = [topic for topic in reader.topics if not topic.name.startswith(TRUTH_PREFIX) and topic.count]
    clouds = sorted((t for t in topics if t.type in CLOUD_TYPES), key=lambda t: (CLOUD_TYPES.index(t.type), -t.count))
    lidar = attempt(lambda: chosen_lidar(reader.path, topics, options), clouds[0].name if clouds else "")
    every = replace(options, cameras=())
    images, notes = attempt(
        lambda: chosen_images(reader.path, topics, options), chosen_images(reader.path, topics, every)
    )
    infos = {topic.name for topic in topics if topic.type == INFO_TYPE}
    usable, before = [], len(problems)
    for image in images:
        info = info_topic(image.name)
        if info not in infos:
            notes.append(f"{image.name} is left out: there is no {info}")
        elif attempt(lambda name=image.name, info=info: _is_calibrated(reader, name, info), False):  # type: ignore[misc]
            usable.append(image.name)
    nothing: tuple[TransformTree, list[str]] = (TransformTree(), [])
    notes += attempt(lambda: transforms_from_bag(reader, options.calibration), nothing)[1]
    if not usable and len(problems) == before:
        why = "; ".join(notes) or "no topic of images or video has messages"
        fix = "Record images with their camera_info"
        problems["no camera"] = DsegError(f"no calibrated camera: {why}", where=reader.path, fix=fix)
    if lidar:
        notes += attempt(lambda: _cloud_notes(reader, lidar, options), [])
    assumed = replace(options, lidar=lidar, cameras=tuple(usable)) if lidar and usable else None
    return assumed, tuple(notes), list(problems.values())
