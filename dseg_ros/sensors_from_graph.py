"""Which topics of the running system make frames, and how its cameras are calibrated; chosen as from a bag."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo

from dseg_core.bag import Topic
from dseg_core.errors import DsegError
from dseg_core.messages import VIDEO_TYPES, camera_from_message
from dseg_core.sensors_from_bag import (
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
from dseg_core.topic_names import is_rectified
from dseg_core.transforms import TransformTree
from dseg_core.transforms_from_bag import ODOMETRY_TYPE

_SETTLED = 2.0  # s without change in what is chosen, where topics are not named
_MARKS = ("/pipeline_latency_ms", "/boxes")  # topics that tell a segmenter's and a recorder's namespace
_PATIENCE = 5.0  # s for camera_info, once some cameras have sent it
_INFO_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class SensorsFromGraph:
    """Looks for sensors until they are known; to be asked again and again.

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
        self._lidar, self._others = "", dict[str, str]()
        self._since = self._first_info = float("inf")
        self._infos: dict[str, Any] = {}
        self._subscriptions: list[Any] = []

    def choose(self) -> bool:
        """Look at the graph; True as soon as `topics` are chosen."""
        topics = self._published()
        try:
            lidar, self._others = chosen_lidar("", topics, self._options), other_lidars("", topics, self._options)
            images, notes = chosen_images("", topics, self._options)
            wanted = calibrated("", images, topics, notes)
            left_out = [name for name in self._options.cameras if name not in wanted]
            if left_out:
                raise DsegError("; ".join(note for note in notes if note.startswith(left_out[0])))
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
        kinds = {topic.name: topic.type for topic in topics}
        self.notes = notes
        self.topics = {name: (topic, kinds[topic]) for topic, name in camera_names(wanted).items()}
        self.topics |= {name: (topic, kinds[topic]) for name, topic in ({LIDAR: lidar} | self._others).items()}
        self.odometry = self.odometry or self._only_odometry(topics)
        self._listen()
        return True

    def sensors(self, tree: TransformTree) -> Sensors | None:
        """The sensors with their calibration; None while camera_info is waited for. Raises DsegError."""
        missing = [info for info in self._wanted.values() if info not in self._infos]
        self.problem = f"waiting for {', '.join(missing)}" if missing else ""
        if missing and (not self._infos or time.monotonic() - self._first_info < _PATIENCE):
            return None
        names, cameras = camera_names(self._wanted), []
        notes = list(self.notes)
        for topic, info in self._wanted.items():
            try:
                if info in missing:
                    raise DsegError(f"{info} has no message; start the camera, then deactivate and activate the node")
                calibration = camera_from_message(self._infos[info], is_rectified(topic))
            except DsegError as error:
                notes.append(f"{topic} is left out: {error}")
                self.topics.pop(names[topic], None)
            else:
                cameras.append(CameraTopic(names[topic], topic, calibration))
        self.close()
        if not cameras:
            raise DsegError(f"no calibrated camera: {'; '.join(notes)}")
        return Sensors(self._lidar, tuple(cameras), tree, tuple(notes), self._others)

    def close(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def _published(self) -> list[Topic]:
        """Topics that somebody else publishes, but for what segmenters and recorders make of the sensors."""
        kinds: Mapping[str, list[str]] = dict(self._node.get_topic_names_and_types())
        made = [name.removesuffix(mark) + "/" for mark in _MARKS for name in kinds if name.endswith(mark)]
        others = (self._node.get_fully_qualified_name() + "/", TRUTH_PREFIX, *made)
        found = []
        for name, types in sorted(kinds.items()):
            publishers = 0 if name.startswith(others) else self._node.count_publishers(name)
            found += [Topic(name, kind, publishers) for kind in types if publishers and kind not in VIDEO_TYPES]
        return found

    def _only_odometry(self, topics: Sequence[Topic]) -> str:
        found = [topic.name for topic in topics if topic.type == ODOMETRY_TYPE]
        if len(found) > 1:
            self.notes.append(f"odometry is left out: the parameter odometry chooses one of {', '.join(found)}")
        return found[0] if len(found) == 1 else ""

    def _listen(self) -> None:
        def take(info: str, message: Any) -> None:
            if info not in self._infos:
                self._infos[info] = message
                self._first_info = min(self._first_info, time.monotonic())

        for info in set(self._wanted.values()):
            self._subscriptions.append(
                self._node.create_subscription(CameraInfo, info, lambda m, info=info: take(info, m), _INFO_QOS)
            )
