"""Frames from chosen sweeps and images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from dseg_core.cameras import Camera
from dseg_core.ego import Ego
from dseg_core.errors import DsegError
from dseg_core.image_codecs import encode
from dseg_core.image_sizes import SAME_SHAPE
from dseg_core.messages import (
    VideoImage,
    encoded_from_message,
    encoding_note,
    image_from_message,
    sweep_from_message,
)
from dseg_core.proposals_from_sweep import proposals_from_sweep
from dseg_core.records import EncodedImage, Frame, Sweep, View
from dseg_core.regions_from_pair import regions_from_pair
from dseg_core.sensors_from_bag import CameraTopic, Sensors
from dseg_core.stage_options import RecordOptions, TopicOptions
from dseg_core.sweeps_merged import SweepPart, merged_regions, merged_sweep, with_common_ids
from dseg_core.transforms import Matrix, TransformError, inverse

NO_TRANSFORM = "no transform to the LiDAR"
"""Why an image is of no use whose frame is not connected with the sweep's."""


@dataclass(frozen=True)
class Made:
    """What became of a sweep and its images.

    `frame`: None when no image could be used. `unusable`: why not, by camera. `motion`: per camera of the frame, the
    reason why the vehicle's motion is not in its transform, None where it is. `notes`: what else people should know.
    `unconnected`: of the unusable, the cameras that no transform connects with the LiDAR. `merged`: the other LiDARs
    whose sweeps are in it.
    """

    frame: Frame | None
    unusable: Mapping[str, str]
    motion: Mapping[str, str | None]
    notes: tuple[str, ...] = ()
    unconnected: Mapping[str, TransformError] = field(default_factory=dict)
    merged: tuple[str, ...] = ()


class FrameMaker:
    """Frames from the sweeps and images that pairing has chosen; the recorder calls it live as well, from any thread.

    Args:
        drive: The frames' drive.
        sensors: Calibration and transforms.
        options: Everything that `record` can be told.

    Raises:
        DsegError: A mask of the vehicle cannot be used.
    """

    def __init__(self, drive: str, sensors: Sensors, options: RecordOptions) -> None:
        self.drive, self.sensors, self.options = drive, sensors, options
        self._cameras = {camera.name: camera for camera in sensors.cameras}
        sizes = {c.name: (c.calibration.width, c.calibration.height) for c in sensors.cameras}
        self._ego = Ego(options.ego, sizes, sensors.absent)

    def frame(self, sweep: Sweep, images: Mapping[str, Any], others: Mapping[str, Sweep] | None = None) -> Made:
        """One frame of a sweep as measured and of Image messages, CompressedImage messages or VideoImages, by camera.

        `others`: sweeps of other LiDARs, by name, which are merged with it.

        Raises:
            TransformError: The frame of the vehicle's box is not connected with the LiDAR.
        """
        views: list[View] = []
        unusable, motion, notes, unconnected = {}, {}, list[str](), {}
        parts = {"": SweepPart(sweep, self._street(sweep), np.eye(4))}
        for name, other in (others or {}).items():
            try:
                parts[name] = self._part(sweep, other)
            except TransformError as error:
                unusable[name], unconnected[name] = NO_TRANSFORM, error
        if len(parts) > 1:
            common = with_common_ids(list(parts.values()), self.options.proposals.distance)
            parts = dict(zip(parts, common, strict=True))
        whole, proposals = merged_sweep(list(parts.values())) if len(parts) > 1 else (sweep, parts[""].proposals)
        for name, message in images.items():
            try:
                view, why, note = self._view(self._cameras[name], message, list(parts.values()))
            except TransformError as error:
                unusable[name], unconnected[name] = NO_TRANSFORM, error
                notes.append(f"{self._cameras[name].topic}: {error.what}")
            except DsegError as error:
                unusable[name] = error.what
            else:
                views.append(view)
                motion[name] = why
                notes += self._notes(name, message, note)
        frame = Frame(self.drive, whole, proposals, tuple(views)) if views else None
        return Made(frame, unusable, motion, tuple(notes), unconnected, tuple(name for name in parts if name))

    def known(self, cloud: Any, images: Mapping[str, Any], others: Collection[str] = ()) -> Made:
        """The account of a frame that was made before of these messages: what `frame` says of it, without making it.

        Raises:
            DsegError: As `frame`.
        """
        sweep, motion, notes = readable_sweep(cloud, self.options.topics), {}, list[str]()
        for name, message in images.items():
            image, size = _encoded(message, self.options)
            _, note = _fitted(self._cameras[name], size)
            _, _, motion[name] = self._transforms(image, sweep)
            notes += self._notes(name, message, note)
        return Made(None, {}, motion, tuple(notes), merged=tuple(others))

    def _notes(self, camera: str, message: Any, fitted: str) -> list[str]:
        """What people should know of an image that is used. `fitted`: of its calibration, perhaps nothing."""
        coded = encoding_note(getattr(message, "encoding", ""))
        return [note for note in (fitted, coded and f"{self._cameras[camera].topic}: {coded}") if note]

    def _street(self, sweep: Sweep) -> NDArray[np.uint16]:
        """A sweep's proposals, none on the vehicle itself. Raises TransformError."""
        return self._proposals(self._ego.without_ego(sweep, self.sensors.tree))

    def _part(self, first: Sweep, sweep: Sweep) -> SweepPart:
        """Another LiDAR's sweep with its own proposals. Raises TransformError."""
        tree = self.sensors.tree
        T = tree.lookup_compensated(first.frame_id, first.stamp_ns, sweep.frame_id, [sweep.stamp_ns])[0][0]
        return SweepPart(sweep, self._street(sweep), T)

    def _view(self, camera: CameraTopic, message: Any, parts: Sequence[SweepPart]) -> tuple[View, str | None, str]:
        """The view, why the vehicle's motion is not in it, and a note about its calibration."""
        image, size = self._encoded(camera.name, message)
        calibration, note = _fitted(camera, size)
        T_start, _, why = self._transforms(image, parts[0].sweep)
        painted = []
        for part in parts:
            T_part, T_part_end, _ = self._transforms(image, part.sweep)
            painted.append(self._regions(part.sweep, part.proposals, calibration, T_part, T_part_end))
        regions = painted[0] if len(parts) == 1 else merged_regions(painted, parts, inverse(T_start)[:3, 3])
        regions = self._ego.clear(camera.name, regions)
        return View(camera.name, image, regions, calibration, T_start, why is None), why, note

    # What takes time, in methods of its own, so that a rehearsal can do without.

    def _proposals(self, sweep: Sweep) -> NDArray[np.uint16]:
        return proposals_from_sweep(sweep, self.options.proposals)

    def _encoded(self, camera: str, message: Any) -> tuple[EncodedImage, tuple[int, int]]:
        return _encoded(message, self.options)

    def _regions(
        self, sweep: Sweep, proposals: NDArray[np.uint16], camera: Camera, T_start: Matrix, T_end: Matrix | None
    ) -> NDArray[np.uint16]:
        return regions_from_pair(sweep, proposals, camera, T_start, self.options.regions, T_end)

    def _transforms(self, image: EncodedImage, sweep: Sweep) -> tuple[Matrix, Matrix | None, str | None]:
        """T_image_sweep for the sweep's stamp and its point farthest from that, and why motion is not in them."""
        ends = [sweep.stamp_ns]
        if sweep.farthest_ns:
            ends.append(sweep.stamp_ns + sweep.farthest_ns)
        T, why = self.sensors.tree.lookup_compensated(image.frame_id, image.stamp_ns, sweep.frame_id, ends)
        return T[0], T[1] if len(T) > 1 else None, why


def _fitted(camera: CameraTopic, size: tuple[int, int]) -> tuple[Camera, str]:
    """The calibration for images of (width, height), and a note when it had to be scaled.

    Raises:
        DsegError: Another shape than the camera_info's: cropped, so that nobody knows where.
    """
    known, (width, height) = camera.calibration, size
    if (known.width, known.height) == size:
        return known, ""
    sizes = f"images of {width}x{height}, but camera_info of {known.width}x{known.height}"
    if abs(width * known.height / (height * known.width) - 1) > SAME_SHAPE:
        raise DsegError(sizes)
    return known.scaled(width, height), f"{camera.topic} has {sizes}: its calibration was scaled"


def _encoded(message: Any, options: RecordOptions) -> tuple[EncodedImage, tuple[int, int]]:
    """A message's image as it is stored, and its (width, height); a compressed one is passed through untouched."""
    if isinstance(message, VideoImage) or hasattr(message, "encoding"):
        image = message.image() if isinstance(message, VideoImage) else image_from_message(message)
        height, width = image.rgb.shape[:2]
        return encode(image.stamp_ns, image.frame_id, image.rgb, options.store), (width, height)
    encoded = encoded_from_message(message)
    try:
        with PIL.Image.open(BytesIO(encoded.data)) as header:  # reads the header only
            return encoded, header.size
    except OSError:
        raise DsegError(f"broken {encoded.format} image") from None


def readable_sweep(message: Any, topics: TopicOptions) -> Sweep:
    """The sweep of a cloud message. Raises DsegError when it is of no use: broken, empty."""
    sweep = sweep_from_message(message, topics.velodyne_model, topics.velodyne_calibration)
    if not len(sweep):
        raise DsegError("cloud without points")
    return sweep
