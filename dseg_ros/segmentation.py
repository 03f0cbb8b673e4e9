"""From an image's message to the published mask, and what that takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image

from dseg_core.image_codecs import decode
from dseg_core.image_sizes import aspect_note
from dseg_core.messages import encoded_from_message, image_from_message, stamp_ns
from dseg_core.runtime.predictor import Pixels
from dseg_ros.diagnostics import Health, Spread
from dseg_ros.image_camera import ImageCamera
from dseg_ros.live_model import LiveModel
from dseg_ros.mask_outputs import NEED_CAMERA, MaskOutputs
from dseg_ros.node_options import SegmenterOptions
from dseg_ros.point_painter import SeenMask

_SQUEEZED = "masks may be wrong; export the model for this size"


class Segmentation:
    """Segments images, computes only what somebody subscribes to, and counts.

    Args:
        node: For its clock.
        options: The node's, as they are now.
        model: What segments.
        outputs: Where masks go.
        seen: Called with each mask of a camera that is known.
    """

    def __init__(
        self,
        node: LifecycleNode,
        options: Callable[[], SegmenterOptions],
        model: LiveModel,
        outputs: MaskOutputs,
        seen: Callable[[SeenMask], None],
    ) -> None:
        self._node, self._options, self._model, self._outputs, self._seen = node, options, model, outputs, seen
        self._masks, self._unwanted = 0, 0
        self._sizes: tuple[tuple[int, ...], ...] = ()
        self._aspect = ""
        self._spreads = {name: Spread() for name in ("latency", "processing", "model", "node")}

    def segment(self, message: Any, cameras: ImageCamera) -> None:
        """Segment an image; in one thread.

        Args:
            message: An Image or CompressedImage.
            cameras: Its topic's.

        Raises:
            DsegError: The image is of no use.
        """
        predictor, outputs, options = self._model.predictor, self._outputs, self._options()
        wanted = outputs.wanted()
        if not wanted or predictor is None:
            self._unwanted += 1
            return
        began = time.perf_counter()
        rgb = _pixels(message)
        decoded = time.perf_counter()
        found = predictor.predict(rgb, own_size=options.mask_size == "model")
        modelled = time.perf_counter()
        self._look_at_aspect(rgb.shape[:2], predictor.size)
        height, width = found.mask.shape
        camera = cameras.camera(rgb.shape[:2]) if NEED_CAMERA & wanted else None
        camera = None if camera is None else camera.scaled(width, height)
        mask = outputs.publish(wanted, message.header, rgb, found, predictor.classes, camera, options)
        if camera is not None:
            self._seen(SeenMask(stamp_ns(message), mask, camera, predictor.classes))
        whole, in_model = 1e3 * (time.perf_counter() - began), 1e3 * (modelled - decoded)
        latency = (self._node.get_clock().now().nanoseconds - stamp_ns(message)) / 1e6
        self._masks += 1
        for name, value in zip(self._spreads, (latency, whole, in_model, whole - in_model), strict=True):
            self._spreads[name].add(value)
        outputs.publish_times(wanted, {"processing_time_ms": whole, "pipeline_latency_ms": latency})

    def _look_at_aspect(self, size: tuple[int, ...], target: tuple[int, int] | None) -> None:
        """Say once for each size that things look squeezed to the model."""
        if (sizes := (size, target or size)) != self._sizes:
            self._sizes, self._aspect = sizes, aspect_note((size[0], size[1]), target, _SQUEEZED) if target else ""
            if self._aspect:
                self._node.get_logger().warning(self._aspect)

    def latency(self) -> str:
        """From stamp to mask, in words."""
        return self._spreads["latency"].words()

    def add_health(self, found: Health) -> None:
        """Counts and times."""
        found.values |= {
            "masks": str(self._masks),
            "images nobody wanted a mask of": str(self._unwanted),
            **{f"{name} time": spread.words() for name, spread in self._spreads.items()},
        }
        if self._aspect:
            found.warnings.append(self._aspect)
        predictor = self._model.predictor
        if predictor is not None and not predictor.backend.contract.confidence:
            asked = {"min_confidence"} if self._options().min_confidence else set()
            asked |= {"~/confidence"} & {f"~/{name}" for name in self._outputs.wanted()}
            if asked:
                what = " and ".join(sorted(asked))
                found.warnings.append(f"no {what}: the model was exported with --confidence false")


def _pixels(message: Any) -> Pixels:
    """A message's image, uint8 (H, W, 3) RGB. Raises DsegError."""
    return image_from_message(message).rgb if isinstance(message, Image) else decode(encoded_from_message(message))
