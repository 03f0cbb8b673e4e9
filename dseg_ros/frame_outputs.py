"""The recorder's topics for people who watch: the newest frame, computed only where somebody subscribes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from dseg_core.boxes_from_proposals import Boxes, boxes_from_proposals
from dseg_core.errors import DsegError
from dseg_core.image_codecs import decode, region_colors
from dseg_core.overlay import laid_over
from dseg_core.records import REGION_NONE, Frame, View
from dseg_ros.conversions import cloud_to_ros, image_to_ros, packed_rgb
from dseg_ros.newest import NewestOnly

_OPACITY = 0.35


class FrameOutputs:
    """Publishes `~/points`, `~/boxes` and `~/overlay/CAMERA` of the newest frame, in a thread of its own.

    Args:
        node: Whose topics these are.
        failed: Called in the thread with what went wrong with it.
    """

    def __init__(self, node: Node, failed: Callable[[Exception], None]) -> None:
        self._node = node
        self._points = node.create_publisher(PointCloud2, "~/points", 1)
        self._boxes = node.create_publisher(MarkerArray, "~/boxes", 1)
        self._overlays: dict[str, Publisher] = {}
        self._worker = NewestOnly(self._publish, "frame outputs", failed)

    def offer_cameras(self, names: list[str]) -> None:
        """Offer overlays of these cameras; in the node's thread."""
        for name in names:
            if name not in self._overlays:
                topic = name.replace("-", "_").replace(".", "_")
                self._overlays[name] = self._node.create_publisher(Image, f"~/overlay/{topic}", 1)

    def show(self, frame: Frame) -> None:
        """Publish a frame, unless a newer one comes first; from any thread."""
        with self._unless_ended():
            if any(publisher.get_subscription_count() for publisher in self._all()):
                self._worker.offer(frame)

    def close(self) -> None:
        """Withdraw the topics."""
        self._worker.stop()
        for publisher in self._all():
            self._node.destroy_publisher(publisher)
        self._overlays = {}

    def _all(self) -> list[Publisher]:
        return [self._points, self._boxes, *self._overlays.values()]

    @contextlib.contextmanager
    def _unless_ended(self) -> Iterator[None]:
        """A signal may end ROS at any time, while frames are still written: rclpy raises RuntimeErrors then."""
        try:
            yield
        except RuntimeError:
            if self._node.context.ok():
                raise

    def _publish(self, frame: Frame) -> None:
        with self._unless_ended():
            self._publish_wanted(frame)

    def _publish_wanted(self, frame: Frame) -> None:
        header = header_to_ros(frame.stamp_ns, frame.sweep.frame_id)
        if self._points.get_subscription_count():
            self._points.publish(points_to_ros(header, frame))
        if self._boxes.get_subscription_count():
            self._boxes.publish(boxes_to_ros(header, boxes_from_proposals(frame.sweep.xyz, frame.proposals)))
        for view in frame.views:
            publisher = self._overlays.get(view.camera)
            if publisher is not None and publisher.get_subscription_count():
                self._publish_overlay(publisher, view)

    def _publish_overlay(self, publisher: Publisher, view: View) -> None:
        try:
            # In the colours of ~/points.
            colors, where = region_colors(view.regions), view.regions != REGION_NONE
            picture = laid_over(decode(view.image), colors, where, strength=0.5)
        except DsegError as error:
            self._node.get_logger().warning(f"no overlay of {view.camera}: {error}", throttle_duration_sec=10.0)
            return
        publisher.publish(image_to_ros(header_to_ros(view.stamp_ns, view.image.frame_id), picture))


def header_to_ros(stamp_ns: int, frame_id: str) -> Header:
    """std_msgs/Header of a stamp in nanoseconds."""
    return Header(stamp=Time(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9), frame_id=frame_id)


def points_to_ros(header: Header, frame: Frame) -> PointCloud2:
    """The sweep's points with the fields proposal and rgb, a colour for each proposal."""
    colors = region_colors(frame.proposals)
    columns: dict[str, Any] = {axis: frame.sweep.xyz[:, i] for i, axis in enumerate("xyz")}
    return cloud_to_ros(header, columns | {"rgb": packed_rgb(colors), "proposal": frame.proposals})


def boxes_to_ros(header: Header, boxes: Boxes) -> MarkerArray:
    """A see-through cube for each object, after one that takes away those of the frame before."""
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    colors = region_colors(boxes.ids) / 255
    rows = zip(boxes.ids, boxes.centers, boxes.quaternions(), np.maximum(boxes.sizes, 0.01), colors, strict=True)
    for number, center, quaternion, size, color in rows:
        x, y, z, w = quaternion.tolist()
        pose = Pose(position=Point(**_axes(center)), orientation=Quaternion(x=x, y=y, z=z, w=w))
        red, green, blue = color.tolist()
        markers.append(
            Marker(
                header=header,
                ns="proposals",
                id=int(number),
                type=Marker.CUBE,
                action=Marker.ADD,
                pose=pose,
                scale=Vector3(**_axes(size)),
                color=ColorRGBA(r=red, g=green, b=blue, a=_OPACITY),
            )
        )
    return MarkerArray(markers=markers)


def _axes(values: Any) -> dict[str, float]:
    return dict(zip("xyz", values.tolist(), strict=True))
