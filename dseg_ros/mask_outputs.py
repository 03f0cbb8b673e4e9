"""The segmenter's topics: each is computed only when somebody subscribes to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Float64, Header

from dseg_core.cameras import Camera
from dseg_core.class_table import ClassTable
from dseg_core.overlay import paint
from dseg_core.records import UNLABELLED
from dseg_core.runtime.predictor import Pixels, Prediction
from dseg_ros import compat
from dseg_ros.conversions import camera_info_to_ros, image_to_ros, label_info_to_ros
from dseg_ros.node_options import SegmenterOptions
from dseg_ros.topic_watch import LATCHED

_PICTURES = ("mask", "color_mask", "overlay", "confidence")
NEED_CAMERA = {"camera_info", "points"}
TIMES = ("processing_time_ms", "pipeline_latency_ms")


class MaskOutputs:
    """Publishers below the node's name, from its making to `close`. May be used from any thread."""

    def __init__(self, node: LifecycleNode) -> None:
        self._node = node
        make: Callable[..., Publisher] = node.create_publisher
        self._out = {name: make(Image, f"~/{name}", 1) for name in _PICTURES}
        self._out |= {name: make(Float64, f"~/{name}", 10) for name in TIMES}
        self._out["camera_info"] = make(CameraInfo, "~/camera_info", 1)
        self._out["points"] = make(PointCloud2, "~/points", 1)
        self._label_info: Publisher | None = None
        if compat.LabelInfo is None:
            node.get_logger().warning(compat.missing("vision_msgs", "there is no label_info"))
        else:
            self._label_info = make(compat.LabelInfo, "~/label_info", LATCHED)

    def wanted(self) -> set[str]:
        """The topics that somebody subscribes to, without label_info."""
        return {name for name, publisher in self._out.items() if publisher.get_subscription_count()}

    def publish(
        self,
        wanted: set[str],
        header: Header,
        rgb: Pixels,
        found: Prediction,
        classes: ClassTable,
        camera: Camera | None,
        options: SegmenterOptions,
    ) -> Pixels:
        """Publish what is wanted of one image.

        Args:
            wanted: Names of topics.
            header: The image's.
            rgb: uint8 (H, W, 3).
            found: Mask and confidence, uint8 (h, w); without a confidence, nothing is unconfident.
            classes: Of the mask.
            camera: Of the mask's size; None without camera_info.
            options: Of the node.

        Returns:
            The mask as it is published, uint8 (h, w), with 255 where it is not confident.
        """
        mask, least = found.mask, round(255 * options.min_confidence)
        if least and found.confidence is not None:
            mask = np.where(found.confidence < least, np.uint8(UNLABELLED), mask)
        if "mask" in wanted:
            self._out["mask"].publish(image_to_ros(header, mask))
        if camera is not None and "camera_info" in wanted:
            self._out["camera_info"].publish(camera_info_to_ros(header, camera))
        if "confidence" in wanted and found.confidence is not None:
            self._out["confidence"].publish(image_to_ros(header, found.confidence))
        if "color_mask" in wanted:
            self._out["color_mask"].publish(image_to_ros(header, classes.palette()[mask]))
        if "overlay" in wanted:
            if rgb.shape[:2] != mask.shape:
                rgb = np.asarray(cv2.resize(rgb, mask.shape[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
            self._out["overlay"].publish(image_to_ros(header, paint(rgb, mask, classes, options.overlay_strength)))
        return mask

    def publish_points(self, cloud: PointCloud2) -> None:
        """Publish a painted cloud."""
        self._out["points"].publish(cloud)

    def publish_times(self, wanted: set[str], milliseconds: Mapping[str, float]) -> None:
        """Publish those of `TIMES` that are wanted."""
        for name in wanted.intersection(TIMES):
            self._out[name].publish(Float64(data=milliseconds[name]))

    def publish_labels(self, classes: ClassTable) -> None:
        """Publish what the masks' ids are called, also for who comes later."""
        if self._label_info is not None:
            header = Header(stamp=self._node.get_clock().now().to_msg())
            self._label_info.publish(label_info_to_ros(header, classes))

    def close(self) -> None:
        """Withdraw the topics."""
        found: list[Any] = [*self._out.values(), *([self._label_info] if self._label_info else [])]
        for publisher in found:
            self._node.destroy_publisher(publisher)
        self._out, self._label_info = {}, None
