"""Painting of points while somebody wants it: what it subscribes to comes and goes with its own subscribers."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.subscription import Subscription
from sensor_msgs.msg import PointCloud2

from dseg_core.errors import DsegError
from dseg_ros.diagnostics import Health, numbered
from dseg_ros.managed_node import ManagedNode
from dseg_ros.mask_outputs import MaskOutputs
from dseg_ros.node_options import SegmenterOptions
from dseg_ros.point_painter import PointPainter, SeenMask
from dseg_ros.topic_watch import sensor_qos
from dseg_ros.transform_subscriber import TransformSubscriber


@dataclass(frozen=True, eq=False)
class _Running:
    painter: PointPainter
    transforms: TransformSubscriber
    clouds: Subscription


class PointPainting:
    """Subscribes `points`, /tf and /tf_static while somebody subscribes to painted points.

    Args:
        node: Whose subscriptions these are; what fails unforeseen is its failure.
        outputs: Where painted points go.
    """

    def __init__(self, node: ManagedNode[SegmenterOptions], outputs: MaskOutputs) -> None:
        self._node, self._outputs = node, outputs
        self._running: _Running | None = None
        self._problem = ""  # why points that are wanted cannot be painted

    def follow(self) -> None:
        """Begin or end, as subscribers have come or gone; to be called now and then."""
        wanted = "points" in self._outputs.wanted()
        if wanted and self._running is None:
            self._begin()
        elif not wanted:
            self.stop()

    def see(self, mask: SeenMask) -> None:
        """A mask that clouds may be painted from; from any thread."""
        running = self._running
        if running is not None:
            running.painter.add_mask(mask)

    def stop(self) -> None:
        """End, where it runs."""
        self._problem = ""
        if self._running is not None:
            running, self._running = self._running, None
            self._node.destroy_subscription(running.clouds)
            running.transforms.close()
            running.painter.stop()

    def add_health(self, found: Health) -> None:
        """Counts, and what is wrong."""
        if self._problem:
            found.errors.append(f"cannot paint points: {self._problem}")
        if self._running is not None:
            painter = self._running.painter
            found.values["clouds painted"] = str(painter.painted)
            found.values["clouds dropped"] = numbered(painter.dropped)
            found.values["clouds without the vehicle's motion"] = numbered(painter.unmoved)

    def _begin(self) -> None:
        options = self._node.options
        try:
            transforms = TransformSubscriber(self._node, options.calibration)
        except DsegError as error:
            if not self._problem:
                self._node.get_logger().error(f"cannot paint points: {error}")
            self._problem = str(error)
            return
        self._problem = ""
        publish, fail = self._outputs.publish_points, self._node.fail
        painter = PointPainter(transforms, options.point_tolerance, options.tf_timeout, publish, fail)
        qos = sensor_qos(options.qos)
        clouds = self._node.create_subscription(PointCloud2, "points", painter.add_cloud, qos)
        self._running = _Running(painter, transforms, clouds)
