"""Which topics of the running system make frames, and how its cameras are calibrated; chosen as from a bag."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo

from dseg_core.bag import Topic
from dseg_core.errors import DsegError
from dseg_core.messages import VIDEO_TYPES, camera_from_message
from dseg_core.sensors_from_bag import (
    IMAGE_TYPES,
    INFO_TYPE,
    LIDAR,
    TRUTH_PREFIX,
    CameraTopic,
    Sensors,
    calibrated,
    camera_names,
    chosen_images,
    chosen_lidar,
    other_lidars,
)
from dseg_core.stage_options import TopicOptions
from dseg_core.topic_names import info_topic, is_rectified
from dseg_core.transforms import TransformTree
from dseg_core.transforms_from_bag import ODOMETRY_TYPE
from dseg_ros.pairing import message_type

_SETTLED = 2.0  # s without change in what is chosen, where topics are not named
_MARKS = ("/pipeline_latency_ms", "/boxes")  # topics that tell a segmenter's and a recorder's namespace
_PATIENCE = 5.0  # s for cameras and their camera_info, once some are there
_INFO_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class SensorsFromGraph:
    """Looks for sensors until they are known; to be asked again and again.

    Cameras that are silent are left out for the time being, and are taken in when they come, see `late`.

    `problem`: what is waited for, in words. `topics`: once chosen, topic and type of each sensor. `odometry`: its
    topic, or none.

    Args:
        node: Its own topics are no sensors.
        options: What the user has chosen.
        odometry: The topic of odometry that the user has chosen, or none.
    """

    def __init__(self, node: Node, options: TopicOptions, odometry: str) -> None:
        self._node, resolve = node, node.resolve_topic_name
        self._options = replace(
            options,
            lidar=options.lidar and resolve(options.lidar),
            other_lidars=tuple(map(resolve, options.other_lidars)),
            cameras=tuple(map(resolve, options.cameras)),
        )
        self.odometry = odometry and node.resolve_topic_name(odometry)
        self.topics: dict[str, tuple[str, str]] = {}
        self.problem = "looking for sensors"
        self.notes: list[str] = []
        self._wanted: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._known: tuple[str, ...] = ()  # image topics of the cameras that are recorded
        self._lidar, self._others = "", dict[str, str]()
        self._since = self._first_info = float("inf")
        self._infos: dict[str, Any] = {}
        self._subscriptions: dict[str, Any] = {}

    def choose(self) -> bool:
        """Look at the graph; True as soon as `topics` are chosen."""
        topics = self._published()
        try:
            lidar, self._others = chosen_lidar("", topics, self._options), other_lidars("", topics, self._options)
            wanted, notes = self._cameras(topics)
        except DsegError as error:
            self.problem, self._since = f"waiting for sensors: {error}", float("inf")
            return False
        now = time.monotonic()
        if (lidar, wanted) != (self._lidar, self._wanted):
            self._lidar, self._wanted, self._since = lidar, wanted, now
        named = self._options.lidar and self._options.cameras
        if not named and now - self._since < _SETTLED:
            self.problem = f"found {lidar} and {', '.join(wanted)}; waiting whether there are more"
            return False
        missing = [name for name in self._options.cameras if name not in wanted]
        if missing and now - self._since < _PATIENCE:
            self.problem = f"waiting for sensors: {self._absent(missing, topics)}"
            return False
        kinds = {topic.name: topic.type for topic in topics}
        self.notes = [] if self._options.cameras else notes  # those that are named may still come
        self._names = camera_names(self._options.cameras or wanted)
        self.topics = {self._names[topic]: (topic, kinds[topic]) for topic in wanted}
        self.topics |= {name: (topic, kinds[topic]) for name, topic in ({LIDAR: lidar} | self._others).items()}
        self.odometry = self.odometry or self._only_odometry(topics)
        self._listen(wanted.values())
        return True

    def _cameras(self, topics: Sequence[Topic]) -> tuple[dict[str, str], list[str]]:
        """The camera_info of each image topic that is there with one, and notes. Raises DsegError without any."""
        options, images = self._options, {topic.name for topic in topics if topic.type in IMAGE_TYPES}
        there = tuple(name for name in options.cameras if name in images)
        found, notes = chosen_images("", topics, replace(options, cameras=there or options.cameras))
        return calibrated("", found, topics, notes), notes

    def _absent(self, missing: Sequence[str], topics: Sequence[Topic]) -> str:
        """What is not there of cameras that the user has named."""
        images = [topic.name for topic in topics if topic.type in IMAGE_TYPES]
        lines = []
        for name in missing:
            none = f"no image topic {name}" if name not in images else f"{name} has no {info_topic(name)}"
            lines.append(none)
        return f"{'; '.join(lines)}; there are: {', '.join(images) or 'none'}"

    def sensors(self, tree: TransformTree) -> Sensors | None:
        """The sensors with their calibration; None while camera_info is waited for. Raises DsegError."""
        missing = [info for info in self._wanted.values() if info not in self._infos]
        self.problem = f"waiting for {', '.join(missing)}" if missing else ""
        if missing and (not self._infos or time.monotonic() - self._first_info < _PATIENCE):
            return None
        cameras, notes = self._calibrated()
        if not cameras:
            raise DsegError(f"no calibrated camera: {'; '.join(notes)}")
        return self._found(cameras, tree, notes)

    def late(self, tree: TransformTree) -> Sensors | None:
        """All sensors with those cameras that have come since they were asked for; None where none has.

        `problem` is which are still left out.
        """
        if len(self._known) == len(self._options.cameras or self._wanted):
            return None
        missing = [name for name in self._options.cameras if name not in self._wanted]
        if missing:
            topics = self._published()
            kinds, infos = ({t.name: t.type for t in topics}, {t.name for t in topics if t.type == INFO_TYPE})
            there = {name: info_topic(name) for name in missing if kinds.get(name) in IMAGE_TYPES}
            there = {name: info for name, info in there.items() if info in infos}
            self._wanted |= there
            self._listen(there.values())
            self.topics |= {self._names[name]: (name, kinds[name]) for name in there}
        cameras, notes = self._calibrated()
        more = len(cameras) > len(self._known)
        return self._found(cameras, tree, notes) if more else None

    def _calibrated(self) -> tuple[list[CameraTopic], list[str]]:
        """The cameras whose camera_info has come, in the user's order, and notes on those that are left out."""
        cameras, notes, left_out = [], list(self.notes), list[str]()
        for topic in self._options.cameras or self._wanted:
            info = self._wanted.get(topic, info_topic(topic))
            try:
                if topic not in self._wanted:
                    raise DsegError(f"nobody publishes it with {info} beside it")
                if info not in self._infos:
                    raise DsegError(f"{info} has no message")
                calibration = camera_from_message(self._infos[info], is_rectified(topic))
            except DsegError as error:
                left_out.append(f"{topic} is left out: {error}; start the camera: it is taken in when it comes")
            else:
                cameras.append(CameraTopic(self._names[topic], topic, calibration))
        self.problem = "; ".join(left_out)
        return cameras, [*notes, *left_out]

    def _found(self, cameras: Sequence[CameraTopic], tree: TransformTree, notes: Sequence[str]) -> Sensors:
        self._known = tuple(camera.topic for camera in cameras)
        for info in [self._wanted[topic] for topic in self._known]:
            if info in self._subscriptions:
                self._node.destroy_subscription(self._subscriptions.pop(info))
        absent = tuple(name for topic, name in self._names.items() if topic not in self._known)
        return Sensors(self._lidar, tuple(cameras), tree, tuple(notes), self._others, absent)

    def close(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions = {}

    def _published(self) -> list[Topic]:
        """Topics that somebody else publishes, but for what segmenters and recorders make of the sensors."""
        kinds: Mapping[str, list[str]] = dict(self._node.get_topic_names_and_types())
        made = [name.removesuffix(mark) + "/" for mark in _MARKS for name in kinds if name.endswith(mark)]
        others = (self._node.get_fully_qualified_name() + "/", TRUTH_PREFIX, *made)
        found = []
        for name, types in sorted(kinds.items()):
            publishers = 0 if name.startswith(others) else self._node.count_publishers(name)
            found += [Topic(name, kind, publishers) for kind in types if publishers and self._is_installed(name, kind)]
        return found

    def _is_installed(self, topic: str, kind: str) -> bool:
        """Whether a topic can be subscribed to, as far as that is not certain: messages of video are an extra."""
        if kind in VIDEO_TYPES and topic not in self._options.cameras:
            try:
                message_type(kind)
            except DsegError as error:
                note = f"{topic} is left out: {error}"
                self._node.get_logger().warning(note, once=True)
                return False
        return True

    def _only_odometry(self, topics: Sequence[Topic]) -> str:
        found = [topic.name for topic in topics if topic.type == ODOMETRY_TYPE]
        if len(found) > 1:
            self.notes.append(f"odometry is left out: the parameter odometry chooses one of {', '.join(found)}")
        return found[0] if len(found) == 1 else ""

    def _listen(self, infos: Iterable[str]) -> None:
        def take(info: str, message: Any) -> None:
            self._infos[info] = message
            self._first_info = min(self._first_info, time.monotonic())

        for info in set(infos) - self._subscriptions.keys():
            self._subscriptions[info] = self._node.create_subscription(
                CameraInfo, info, lambda m, info=info: take(info, m), _INFO_QOS
            )
