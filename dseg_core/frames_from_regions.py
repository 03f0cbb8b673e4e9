"""Frames from chosen sweeps and images, and the account of where every message went."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from dseg_core.errors import DsegError
from dseg_core.image_codecs import encode
from dseg_core.messages import encoded_from_message, image_from_message, sweep_from_message
from dseg_core.proposals_from_sweep import proposals_from_sweep
from dseg_core.records import EncodedImage, Frame, Sweep, View
from dseg_core.regions_from_pair import regions_from_pair
from dseg_core.sensors_from_bag import CameraTopic, Sensors
from dseg_core.stage_options import RecordOptions
from dseg_core.transforms import Matrix, TransformError

_LONGEST_NS = 2**31 - 1  # point times are stored as int32 nanoseconds


@dataclass
class Ledger:
    """Where a drive's messages went: per sensor, paired, surplus, or dropped by reason."""

    paired: Counter[str] = field(default_factory=Counter)
    surplus: Counter[str] = field(default_factory=Counter)
    dropped: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    reused: Counter[str] = field(default_factory=Counter)
    offsets_ns: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    compensated: int = 0
    not_compensated: Counter[str] = field(default_factory=Counter)

    def total(self, sensor: str) -> int:
        """Messages of a sensor that are accounted for."""
        return self.paired[sensor] + self.surplus[sensor] + self.dropped[sensor].total()

    def to_dict(self, messages: Mapping[str, int]) -> dict[str, Any]:
        """Plain JSON types; `messages`: how many the bag has, per sensor."""
        return {
            "sensors": {
                sensor: {
                    "messages": count,
                    "paired": self.paired[sensor],
                    "surplus": self.surplus[sensor],
                    "dropped": dict(self.dropped[sensor]),
                }
                for sensor, count in messages.items()
            },
            "reused": dict(self.reused),
            "offsets_ms": {camera: _spread(offsets) for camera, offsets in self.offsets_ns.items()},
            "motion": {"compensated": self.compensated, "not_compensated": dict(self.not_compensated)},
        }


class FrameMaker:
    """Frames from the sweeps and images that pairing has chosen; the recorder calls it live as well.

    Args:
        drive: The frames' drive.
        sensors: Calibration and transforms.
        options: Everything that `record` can be told.
    """

    def __init__(self, drive: str, sensors: Sensors, options: RecordOptions) -> None:
        self.drive, self.sensors, self.options = drive, sensors, options
        self._cameras = {camera.name: camera for camera in sensors.cameras}

    def frame(self, sweep: Sweep, images: Mapping[str, Any], ledger: Ledger) -> tuple[Frame | None, dict[str, str]]:
        """One frame, or None when no image can be used, and why images could not be used.

        Args:
            sweep: As measured.
            images: sensor_msgs/Image or CompressedImage messages, by camera.
            ledger: Counts whether the vehicle's motion was known.

        Raises:
            TransformError: A camera is not connected with the LiDAR.
        """
        proposals = proposals_from_sweep(sweep, self.options.proposals)
        views, unusable = [], {}
        for name, message in images.items():
            try:
                views.append(self._view(self._cameras[name], message, sweep, proposals, ledger))
            except TransformError:
                raise
            except DsegError as error:
                unusable[name] = error.what
        return (Frame(self.drive, sweep, proposals, tuple(views)) if views else None), unusable

    def _view(
        self, camera: CameraTopic, message: Any, sweep: Sweep, proposals: NDArray[np.uint16], ledger: Ledger
    ) -> View:
        image, (width, height) = _encoded(message, self.options)
        calibration = camera.calibration
        if (width, height) != (calibration.width, calibration.height):
            size = f"{calibration.width}x{calibration.height}"
            raise DsegError(f"image of {width}x{height}, but camera_info of {size}")
        T_start, T_end, moving = self._transforms(image, sweep, ledger)
        regions = regions_from_pair(sweep, proposals, calibration, T_start, self.options.regions, T_end)
        return View(camera.name, image, regions, calibration, T_start, moving)

    def _transforms(self, image: EncodedImage, sweep: Sweep, ledger: Ledger) -> tuple[Matrix, Matrix | None, bool]:
        """T_image_sweep for points of the sweep's stamp and of its last point, and whether motion is in them."""
        tree, ends = self.sensors.tree, [sweep.stamp_ns]
        if sweep.time_ns is not None and len(sweep):
            ends.append(sweep.stamp_ns + int(sweep.time_ns.max()))
        reason, fixed = "no odometry", tree.fixed_frame(sweep.frame_id)
        if fixed is not None:
            try:
                moved = [
                    tree.lookup_moving(image.frame_id, image.stamp_ns, sweep.frame_id, when, fixed) for when in ends
                ]
            except TransformError:
                reason = "odometry does not reach"
            else:
                ledger.compensated += 1
                return moved[0], moved[1] if len(moved) > 1 else None, True
        ledger.not_compensated[reason] += 1
        return tree.lookup(image.frame_id, sweep.frame_id, sweep.stamp_ns), None, False


def _encoded(message: Any, options: RecordOptions) -> tuple[EncodedImage, tuple[int, int]]:
    """A message's image as it is stored, and its (width, height); a compressed one is passed through untouched."""
    if hasattr(message, "encoding"):
        image = image_from_message(message)
        height, width = image.rgb.shape[:2]
        return encode(image.stamp_ns, image.frame_id, image.rgb, options.store), (width, height)
    encoded = encoded_from_message(message)
    try:
        with PIL.Image.open(BytesIO(encoded.data)) as header:  # reads the header only
            return encoded, header.size
    except OSError:
        raise DsegError(f"broken {encoded.format} image") from None


def readable_sweep(message: Any) -> Sweep:
    """The sweep of a PointCloud2 message. Raises DsegError when it is of no use: broken, empty, or with wild times."""
    sweep = sweep_from_message(message)
    if not len(sweep):
        raise DsegError("cloud without points")
    if sweep.time_ns is not None and int(np.abs(sweep.time_ns).max()) > _LONGEST_NS:
        raise DsegError("point times more than 2 s from the header stamp")
    return sweep


def _spread(offsets_ns: list[int]) -> dict[str, Any]:
    """Signed offsets in ms: count, extremes, percentiles, and a histogram of [lower edge, count] in bins of 1 ms."""
    milliseconds = np.array(offsets_ns) / 1e6
    edges, counts = np.unique(np.floor(milliseconds), return_counts=True)
    percentiles = np.percentile(milliseconds, [0, 5, 50, 95, 100])
    names = ("min", "p5", "median", "p95", "max")
    return {
        "count": len(offsets_ns),
        **{name: round(float(value), 3) for name, value in zip(names, percentiles, strict=True)},
        "histogram": [[float(edge), int(count)] for edge, count in zip(edges, counts, strict=True)],
    }
