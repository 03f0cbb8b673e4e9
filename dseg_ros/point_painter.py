"""The LiDAR's points painted with the classes of the masks: pairs of clouds and masks, joined through TF."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2

from dseg_core.cameras import Camera
from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.messages import stamp_ns, sweep_from_message
from dseg_core.pairs_from_bag import Dropped, Event, Pairing, SweepDone
from dseg_core.points_from_mask import points_from_mask
from dseg_core.records import UNLABELLED
from dseg_core.stage_options import PairingOptions
from dseg_core.transforms import TransformError
from dseg_ros.conversions import cloud_to_ros, packed_rgb
from dseg_ros.reasons import Reasons
from dseg_ros.transform_subscriber import TransformSubscriber

_WAITING = 8  # clouds and masks; more means that painting is too slow
_GRAY = 110  # of points without a class


@dataclass(frozen=True, eq=False)
class SeenMask:
    """A mask, uint8 (H, W), with what it takes to find its pixels. `camera`: of the mask's size."""

    stamp_ns: int
    mask: NDArray[np.uint8]
    camera: Camera
    classes: ClassTable


class PointPainter:
    """A thread that paints each cloud from the mask nearest to it in time.

    `painted` counts clouds; `dropped` clouds by reason; `unmoved` painted ones without the vehicle's motion, by reason.

    Args:
        transforms: Where everything is.
        tolerance: Between a cloud and a mask [s].
        tf_timeout: Longest wait for transforms [s].
        publish: Called in the thread with each painted cloud.
        failed: Called in the thread, which then ends, with an error that is none of the clouds'.
    """

    def __init__(
        self,
        transforms: TransformSubscriber,
        tolerance: float,
        tf_timeout: float,
        publish: Callable[[PointCloud2], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._transforms, self._tf_timeout, self._publish, self._failed = transforms, tf_timeout, publish, failed
        self._pairing = Pairing(["camera"], PairingOptions(tolerance=tolerance, queue=_WAITING), "lidar")
        self.painted, self.dropped, self.unmoved = 0, Reasons(), Reasons()
        self._queue: queue.Queue[Any] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._run, name="painter", daemon=True)
        self._thread.start()

    def add_cloud(self, cloud: PointCloud2) -> None:
        """Have a cloud painted. Returns at once."""
        self._put(cloud)

    def add_mask(self, mask: SeenMask) -> None:
        """A mask that clouds may be painted from. Returns at once."""
        self._put(mask)

    def stop(self) -> None:
        """Wait for the cloud that is being painted, and end."""
        while True:
            try:
                self._queue.put_nowait(None)
                break
            except queue.Full:
                self._drop_oldest()
        self._thread.join()

    def _put(self, item: Any) -> None:
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self._drop_oldest()
            self._put(item)

    def _drop_oldest(self) -> None:
        try:
            if isinstance(self._queue.get_nowait(), PointCloud2):
                self.dropped.add("painting is too slow")
        except queue.Empty:
            pass

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                self._take(item)
        except Exception as error:
            self._failed(error)

    def _take(self, item: Any) -> None:
        events: list[Event]
        if isinstance(item, SeenMask):
            events = self._pairing.push_image("camera", item.stamp_ns, item)
        else:
            events = self._pairing.push_sweep(stamp_ns(item), item)
        for event in events:
            if isinstance(event, SweepDone):
                self._paint(event.sweep, event.pairs["camera"].image)
            elif isinstance(event, Dropped) and event.sensor == "lidar":
                self.dropped.add(event.reason.replace("image", "mask"))

    def _paint(self, cloud: PointCloud2, seen: SeenMask) -> None:
        try:
            sweep = sweep_from_message(cloud)
            last = sweep.stamp_ns + max(0, sweep.farthest_ns)
            ends = (seen.camera.frame_id, seen.stamp_ns, sweep.frame_id, last)
            self._transforms.wait(lambda: self._transforms.connects(*ends), self._tf_timeout)
            tree, times = self._transforms.tree, [sweep.stamp_ns, sweep.stamp_ns + sweep.farthest_ns]
            T, why = tree.lookup_compensated(*ends[:3], times)
        except TransformError as error:
            self.dropped.add(error.what)
            return
        except DsegError as error:
            self.dropped.add(f"bad cloud: {error.what}")
            return
        if why is not None:
            self.unmoved.add(why)
        classes = points_from_mask(sweep, seen.mask, seen.camera, *T)
        palette = seen.classes.palette()
        palette[UNLABELLED] = _GRAY
        columns: dict[str, NDArray[Any]] = dict(zip("xyz", sweep.xyz.T, strict=True))
        columns |= {"rgb": packed_rgb(palette[classes]), "class": classes}
        self.painted += 1
        self._publish(cloud_to_ros(cloud.header, columns))
