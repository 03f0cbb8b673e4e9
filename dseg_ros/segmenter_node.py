"""`ros2 run dseg_ros segmenter`: images in, semantic masks out, live."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.subscription import Subscription
from rclpy.timer import Timer
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import Trigger

from dseg_core.errors import DsegError
from dseg_core.messages import stamp_ns
from dseg_core.runtime.cuda_memory import GpuLostError
from dseg_core.topic_names import info_topic, is_rectified
from dseg_ros.diagnostics import Health
from dseg_ros.image_camera import ImageCamera
from dseg_ros.live_model import LiveModel
from dseg_ros.managed_node import INACTIVE, ManagedNode, run
from dseg_ros.mask_outputs import NEED_CAMERA, MaskOutputs
from dseg_ros.newest import NewestOnly
from dseg_ros.node_options import SegmenterOptions
from dseg_ros.point_painting import PointPainting
from dseg_ros.segmentation import Segmentation
from dseg_ros.topic_watch import TopicWatch, sensor_qos

_LOOK_PERIOD = 0.5  # s, between two looks at who subscribes to painted points


@dataclass(frozen=True, eq=False)
class _Parts:
    """What the node consists of from configure to clean-up."""

    model: LiveModel
    outputs: MaskOutputs
    painting: PointPainting
    segmentation: Segmentation


@dataclass(frozen=True, eq=False)
class _Input:
    """What it listens with while it is active."""

    worker: NewestOnly[Any]
    watch: TopicWatch
    camera: ImageCamera
    subscriptions: Sequence[Subscription]
    timers: Sequence[Timer]


class SegmenterNode(ManagedNode[SegmenterOptions]):
    """Segments the newest image, drops older ones, and computes only what somebody subscribes to.

    Subscribes `image` (or `image/compressed`), the `camera_info` beside it (or what `camera_info` is remapped to), and,
    while somebody wants painted points, `points`, /tf and /tf_static. Publishes below its name: mask (mono8, the
    source's stamp and frame_id, 255 unlabelled), color_mask and overlay (rgb8), confidence (mono8, probability times
    255), camera_info of the mask, label_info, points, processing_time_ms, pipeline_latency_ms; and /diagnostics.
    """

    kind, task, live = SegmenterOptions, "segmentation", SegmenterOptions.LIVE

    def __init__(self) -> None:
        self._parts: _Parts | None = None
        self._input: _Input | None = None
        self._replaced = 0  # images, before the node was last activated
        self._expected = False  # to activate itself as soon as there is a model
        super().__init__("segmenter")
        self._opened = self.create_guard_condition(self._settle)
        self.create_service(Trigger, "~/reload_model", self._reload)

    # Lifecycle.

    def set_up(self) -> None:
        """Open the model, or begin to; offer the topics."""
        model = LiveModel(self._opened.trigger)
        ready = model.open(self.options)
        outputs = MaskOutputs(self)
        painting = PointPainting(self, outputs)
        segmentation = Segmentation(self, lambda: self.options, model, outputs, painting.see)
        self._parts = _Parts(model, outputs, painting, segmentation)
        self._expected = self.options.autostart
        self._tell(ready)

    def begin(self) -> None:
        """Subscribe, and start the thread that segments."""
        if self._parts is None:
            return
        model, segmentation, painting = self._parts.model, self._parts.segmentation, self._parts.painting
        self._expected = model.predictor is None
        if self._expected:
            raise DsegError(model.opening or model.refused)
        topic, kind, qos = self.resolve_topic_name("image"), Image, sensor_qos(self.options.qos)
        if self.options.image_transport == "compressed":
            topic, kind = self._remapped("image/compressed") or f"{topic}/compressed", CompressedImage
        infos = self._remapped("camera_info") or info_topic(topic)
        watch = TopicWatch(self, topic, f"sensor_msgs/msg/{kind.__name__}", qos)
        camera = ImageCamera(infos, is_rectified(topic), self.get_logger().warning)

        def segment(message: Any) -> None:
            try:
                segmentation.segment(message, camera)
            except GpuLostError:  # no image is segmented any more: the process ends, so that it is started again
                raise
            except DsegError as error:
                if watch.bad.add(error.what):
                    self.get_logger().warning(f"{topic}: image left out: {error}")

        def take(message: Any) -> None:
            watch.saw(time.monotonic(), stamp_ns(message))
            worker.offer(message)

        worker = NewestOnly(segment, "segmenter", self.fail)
        subscriptions = [
            self.create_subscription(kind, topic, take, qos, event_callbacks=watch.callbacks()),
            self.create_subscription(CameraInfo, infos, camera.take, qos),
        ]
        timers = [
            self.every(_LOOK_PERIOD, painting.follow),
            self.every(self.options.label_info_period, self._tell_labels),
            self.every(self.options.diagnostics_period, self._warn),
        ]
        self._input = _Input(worker, watch, camera, subscriptions, timers)
        self._tell_labels()
        self.get_logger().info(f"segmenting {topic} with {self.options.model}")

    def _remapped(self, topic: str) -> str | None:
        """What the user calls a topic instead; None where it is as it was."""
        found = self.resolve_topic_name(topic)
        return None if found == self.resolve_topic_name(topic, only_expand=True) else found

    def end(self) -> None:
        """Let go of the inputs, and wait for the image that is being segmented."""
        if self._input is not None:
            for timer in self._input.timers:
                self.destroy_timer(timer)
            for subscription in self._input.subscriptions:
                self.destroy_subscription(subscription)
            self._input.worker.stop()
            self._replaced += self._input.worker.replaced
        self._input = None
        if self._parts is not None:
            self._parts.painting.stop()

    def tear_down(self) -> None:
        """Let go of topics and model."""
        if self._parts is not None:
            self._parts.outputs.close()
            self._parts.model.close()
        self._parts = None

    # The model.

    def waits(self) -> str:
        """Why the node cannot be activated yet; it activates itself when it can."""
        model = self._parts.model if self._parts is not None else None
        return model.opening if model is not None and model.predictor is None else ""

    def change(self, options: SegmenterOptions, changed: Sequence[str]) -> None:
        """Take another model while the old one runs on; one that cannot be used changes nothing.

        What takes longer than a second to load or build is taken before that is known: should it fail then, the log and
        the diagnostics say that it is refused and what runs on, while the parameters still name it.
        """
        if self._parts is not None and {"model", "backend", "threads"} & set(changed):
            self._open(self._parts.model, options)

    def _open(self, model: LiveModel, options: SegmenterOptions) -> None:
        """Take a model. Raises DsegError, which is in the log, too: who asked for it may not be who looks after it."""
        try:
            self._tell(model.open(options))
        except DsegError as error:
            self.get_logger().warning(model.refusal(str(error)))
            raise

    def _settle(self) -> None:
        """A model that took long is there, or cannot be."""
        if self._parts is None:
            return
        try:
            if self._parts.model.settle():
                self._tell(ready=True)
        except DsegError as error:
            self.get_logger().error(self._parts.model.refusal(str(error)))

    def _reload(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """The model's file was replaced."""
        try:
            if self._parts is None:
                raise DsegError(f"the node is {self.state}")
            self._open(self._parts.model, self.options)
        except DsegError as error:
            response.success, response.message = False, str(error)
        else:
            response.success, response.message = True, self._parts.model.opening or self._parts.model.name
        return response

    def _tell(self, ready: bool) -> None:
        """There is another model, or one takes long; activate, where this was waited for."""
        if self._parts is None:
            return
        if not ready:
            self.get_logger().info(f"{self._parts.model.opening}; this may take a while")
            return
        self.get_logger().info(f"the model is {self._parts.model.name}")
        self._tell_labels()
        if self._expected and self.state == INACTIVE:
            self._soon(self.trigger_activate)

    # Labels and health.

    def _tell_labels(self) -> None:
        if self._parts is not None and self._parts.model.predictor is not None:
            self._parts.outputs.publish_labels(self._parts.model.predictor.classes)

    def _warn(self) -> None:
        """What is wrong with the images' topic, each thing once."""
        for problem in self._input.watch.new_problems(time.monotonic()) if self._input is not None else ():
            self.get_logger().warning(problem)

    def health(self) -> Health:
        """Rates, latencies, drops and the model."""
        found, parts, now = super().health(), self._parts, time.monotonic()
        if parts is None:
            return found
        parts.model.add_health(found)
        parts.painting.add_health(found)
        parts.segmentation.add_health(found)
        replaced = self._replaced + (self._input.worker.replaced if self._input is not None else 0)
        found.values["images dropped for newer ones"] = str(replaced)
        if self._input is not None:
            watch, camera = self._input.watch, self._input.camera
            found.values |= watch.values(now)
            found.warnings += watch.problems(now)
            found.summary = f"{watch.rate(now):.1f} images/s, latency {parts.segmentation.latency()}"
            wanted = NEED_CAMERA & parts.outputs.wanted()
            if camera.problem and wanted:
                found.warnings.append(f"no {' and no '.join(sorted(wanted))}: {camera.problem}")
        return found


def main(args: Sequence[str] | None = None) -> int:
    """The executable."""
    return run(SegmenterNode, args)
