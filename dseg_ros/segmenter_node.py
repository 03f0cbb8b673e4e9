"""`ros2 run dseg_ros segmenter`: images in, semantic masks out, live."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_srvs.srv import Trigger

from dseg_core.errors import DsegError
from dseg_core.image_codecs import decode
from dseg_core.messages import encoded_from_message, image_from_message, stamp_ns
from dseg_core.runtime.predictor import Pixels
from dseg_core.topic_names import info_topic, is_rectified
from dseg_ros.diagnostics import Health, Spread, numbered
from dseg_ros.image_camera import ImageCamera
from dseg_ros.live_model import LiveModel
from dseg_ros.managed_node import ManagedNode, run
from dseg_ros.mask_outputs import NEED_CAMERA, MaskOutputs
from dseg_ros.newest import NewestOnly
from dseg_ros.node_options import SegmenterOptions
from dseg_ros.point_painter import PointPainter, SeenMask
from dseg_ros.topic_watch import TopicWatch, sensor_qos
from dseg_ros.transform_subscriber import TransformSubscriber

_LOOK_PERIOD = 0.5  # s, between two looks at who subscribes to painted points


class SegmenterNode(ManagedNode[SegmenterOptions]):
    """Segments the newest image, drops older ones, and computes only what somebody subscribes to.

    Subscribes `image` (or `image/compressed`), the `camera_info` beside it (or what `camera_info` is remapped to), and,
    while somebody wants painted points, `points`, /tf and /tf_static. Publishes below its name: mask (mono8, the
    source's stamp and frame_id, 255 unlabelled), color_mask and overlay (rgb8), confidence (mono8, probability times
    255), camera_info of the mask, label_info, points, processing_time_ms, pipeline_latency_ms; and /diagnostics.
    """

    kind, task, live = SegmenterOptions, "segmentation", SegmenterOptions.LIVE

    def __init__(self) -> None:
        self._model: LiveModel | None = None
        self._outputs: MaskOutputs | None = None
        self._worker: NewestOnly[Any] | None = None
        self._watch: TopicWatch | None = None
        self._painting: tuple[PointPainter, TransformSubscriber, Subscription] | None = None
        self._camera: ImageCamera | None = None
        self._unpainted = ""  # why points that are wanted cannot be painted
        self._masks, self._idle, self._replaced = 0, 0, 0
        self._spreads = {name: Spread() for name in ("latency", "processing", "model", "node")}
        super().__init__("segmenter")
        self.create_service(Trigger, "~/reload_model", self._reload)

    # Lifecycle.

    def set_up(self) -> None:
        """Open the model, and offer the topics."""
        self._model = LiveModel(self.options.model, self.options.backend, self.options.threads)
        self._outputs = MaskOutputs(self)

    def begin(self) -> None:
        """Subscribe, and start the thread that segments."""
        topic, kind, qos = self.resolve_topic_name("image"), Image, sensor_qos(self.options.qos)
        if self.options.image_transport == "compressed":
            topic, kind = self._remapped("image/compressed") or f"{topic}/compressed", CompressedImage
        infos = self._remapped("camera_info") or info_topic(topic)
        self._watch = watch = TopicWatch(self, topic, f"sensor_msgs/msg/{kind.__name__}", qos)
        self._worker = worker = NewestOnly(self._segment, "segmenter", self.fail)
        self._camera = ImageCamera(infos, is_rectified(topic), self.get_logger().warning)

        def take(message: Any) -> None:
            watch.saw(time.monotonic(), stamp_ns(message))
            worker.offer(message)

        self._inputs = [
            self.create_subscription(kind, topic, take, qos, event_callbacks=watch.callbacks()),
            self.create_subscription(CameraInfo, infos, self._camera.take, qos),
        ]
        self._periodic = [
            self.every(_LOOK_PERIOD, self._follow_subscribers),
            self.every(self.options.label_info_period, self._tell_labels),
            self.every(self.options.diagnostics_period, self._warn),
        ]
        self._tell_labels()
        self.get_logger().info(f"segmenting {topic} with {self.options.model}")

    def _remapped(self, topic: str) -> str | None:
        """What the user calls a topic instead; None where it is as it was."""
        found = self.resolve_topic_name(topic)
        return None if found == self.resolve_topic_name(topic, only_expand=True) else found

    def end(self) -> None:
        """Let go of the inputs, and wait for the image that is being segmented."""
        for timer in self._periodic:
            self.destroy_timer(timer)
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        if self._worker is not None:
            self._worker.stop()
            self._replaced += self._worker.replaced
        self._worker = self._watch = self._camera = None
        self._stop_painting()

    def tear_down(self) -> None:
        """Let go of topics and model."""
        if self._outputs is not None:
            self._outputs.close()
        self._model = self._outputs = None

    def change(self, options: SegmenterOptions, changed: Sequence[str]) -> None:
        """Take another model while the old one runs on; one that cannot be used changes nothing."""
        if self._model is not None and {"model", "backend", "threads"} & set(changed):
            self._model.swap(options.model, options.backend, options.threads)
            self._tell_labels()
            self.get_logger().info(f"the model is now {self._model.name}")

    def _reload(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """The model's file was replaced."""
        try:
            if self._model is None:
                raise DsegError(f"the node is {self.state}")
            self.change(self.options, ["model"])
        except DsegError as error:
            response.success, response.message = False, str(error)
        else:
            response.success, response.message = True, self._model.name
        return response

    # In the worker's thread.

    def _segment(self, message: Any) -> None:
        model, outputs, watch, cameras = self._model, self._outputs, self._watch, self._camera
        if model is None or outputs is None or watch is None or cameras is None:
            return
        wanted, predictor = outputs.wanted(), model.predictor
        if not wanted:
            self._idle += 1
            return
        began = time.perf_counter()
        try:
            rgb = _pixels(message)
            decoded = time.perf_counter()
            found = predictor.predict(rgb, own_size=self.options.mask_size == "model")
        except DsegError as error:
            self._leave_out(watch, error)
            return
        modelled = time.perf_counter()
        height, width = found.mask.shape
        camera = cameras.camera(rgb.shape[:2]) if NEED_CAMERA & wanted else None
        camera = None if camera is None else camera.scaled(width, height)
        mask = outputs.publish(wanted, message.header, rgb, found, predictor.classes, camera, self.options)
        painting = self._painting
        if painting is not None and camera is not None:
            painting[0].add_mask(SeenMask(stamp_ns(message), mask, camera, predictor.classes))
        whole, in_model = 1e3 * (time.perf_counter() - began), 1e3 * (modelled - decoded)
        latency = (self.get_clock().now().nanoseconds - stamp_ns(message)) / 1e6
        self._masks += 1
        for name, value in zip(self._spreads, (latency, whole, in_model, whole - in_model), strict=True):
            self._spreads[name].add(value)
        outputs.publish_times(wanted, {"processing_time_ms": whole, "pipeline_latency_ms": latency})

    def _leave_out(self, watch: TopicWatch, error: DsegError) -> None:
        if watch.bad.add(error.what):
            self.get_logger().warning(f"{watch.topic}: image left out: {error}")

    # In the executor's thread.

    def _tell_labels(self) -> None:
        if self._outputs is not None and self._model is not None:
            self._outputs.publish_labels(self._model.predictor.classes)

    def _warn(self) -> None:
        """What is wrong with the images' topic, each thing once."""
        for problem in self._watch.new_problems(time.monotonic()) if self._watch is not None else ():
            self.get_logger().warning(problem)

    def _follow_subscribers(self) -> None:
        """Points are painted while somebody wants them."""
        wanted = self._outputs is not None and "points" in self._outputs.wanted()
        if wanted and self._painting is None and self._outputs is not None:
            try:
                transforms = TransformSubscriber(self, self.options.calibration)
            except DsegError as error:
                if not self._unpainted:
                    self.get_logger().error(f"cannot paint points: {error}")
                self._unpainted = str(error)
                return
            self._unpainted = ""
            tolerance, timeout = self.options.point_tolerance, self.options.tf_timeout
            painter = PointPainter(transforms, tolerance, timeout, self._outputs.publish_points, self.fail)
            qos = sensor_qos(self.options.qos)
            clouds = self.create_subscription(PointCloud2, "points", painter.add_cloud, qos)
            self._painting = painter, transforms, clouds
        elif not wanted:
            self._stop_painting()

    def _stop_painting(self) -> None:
        self._unpainted = ""
        if self._painting is not None:
            painter, transforms, clouds = self._painting
            self._painting = None
            self.destroy_subscription(clouds)
            transforms.close()
            painter.stop()

    def health(self) -> Health:
        """Rates, latencies, drops and the model."""
        now, watch, model = time.monotonic(), self._watch, self._model
        found = super().health()
        if self._unpainted:
            found.errors.append(f"cannot paint points: {self._unpainted}")
        if model is not None:
            found.values |= {"model": model.name, "backend": model.predictor.backend.name}
            if model.refused:
                found.warnings.append(f"another model was refused, {model.name} runs on: {model.refused}")
        replaced = self._replaced + (self._worker.replaced if self._worker else 0)
        found.values |= {
            "masks": str(self._masks),
            "images dropped for newer ones": str(replaced),
            "images nobody wanted a mask of": str(self._idle),
            **{f"{name} time": spread.words() for name, spread in self._spreads.items()},
        }
        if watch is not None:
            found.values |= watch.values(now)
            found.warnings += watch.problems(now)
            found.summary = f"{watch.rate(now):.1f} images/s, latency {self._spreads['latency'].words()}"
        wanted = NEED_CAMERA & self._outputs.wanted() if self._outputs is not None else set()
        if self._camera is not None and self._camera.problem and wanted:
            found.warnings.append(f"no {' and no '.join(sorted(wanted))}: {self._camera.problem}")
        if self._painting is not None:
            painter = self._painting[0]
            found.values["clouds painted"] = str(painter.painted)
            found.values["clouds dropped"] = numbered(painter.dropped)
            found.values["clouds without the vehicle's motion"] = numbered(painter.unmoved)
        return found


def _pixels(message: Any) -> Pixels:
    """A message's image, uint8 (H, W, 3) RGB. Raises DsegError."""
    return image_from_message(message).rgb if isinstance(message, Image) else decode(encoded_from_message(message))


def main(args: Sequence[str] | None = None) -> int:
    """The executable."""
    return run(SegmenterNode, args)
