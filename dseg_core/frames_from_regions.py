"""Frames from chosen sweeps and images."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
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
from dseg_core.image_sizes import fitted
from dseg_core.lidar.beams_note import beams_note
from dseg_core.lidar.by_beams import no_beams
from dseg_core.lidar.packages import check_packages
from dseg_core.lidar.rows import rows_of
from dseg_core.measured_share import blind_note
from dseg_core.messages import (
    VideoImage,
    encoded_from_message,
    encoding_note,
    image_from_message,
    sweep_from_message,
)
from dseg_core.near_points import NearWatch
from dseg_core.proposals_from_sweep import proposals_from_sweep
from dseg_core.records import EncodedImage, Frame, Sweep, View
from dseg_core.regions_from_pair import regions_from_pair
from dseg_core.sensors_from_bag import CameraTopic, Sensors
from dseg_core.stage_options import RecordOptions, TopicOptions
from dseg_core.sweeps_aggregated import filled, options_for, told_together
from dseg_core.sweeps_merged import SweepPart, merged_regions, merged_sweep, with_common_ids
from dseg_core.tilt_of_sensor import tilt_note
from dseg_core.tilt_of_sweeps import TiltWatch
from dseg_core.transforms import Matrix, TransformError, inverse

NO_TRANSFORM = "no transform to the LiDAR"
"""Why an image is of no use whose frame is not connected with the sweep's."""

LOG = logging.getLogger("dseg.record")


@dataclass(frozen=True)
class Made:
    """What became of a sweep and its images.

    `frame`: None when no image could be used. `unusable`: why not, by camera. `motion`: per camera of the frame, the
    reason why the vehicle's motion is not in its transform, None where it is. `notes`: what else people should know of
    its images, `sweep_notes`: of its sweeps.
    `unconnected`: of the unusable, the cameras that no transform connects with the LiDAR. `merged`: the other LiDARs
    whose sweeps are in it.
    """

    frame: Frame | None
    unusable: Mapping[str, str]
    motion: Mapping[str, str | None]
    notes: tuple[str, ...] = ()
    sweep_notes: tuple[str, ...] = ()
    unconnected: Mapping[str, TransformError] = field(default_factory=dict)
    merged: tuple[str, ...] = ()


class FrameMaker:
    """Frames from the sweeps and images that pairing has chosen; the recorder calls it live as well, from any thread.

    Args:
        drive: The frames' drive.
        sensors: Calibration and transforms.
        options: Everything that `record` can be told.
        logs: Whether what people should know of a sensor's sweeps is logged at once, too.

    Raises:
        DsegError: A mask of the vehicle cannot be used; a library that proposals need is missing.
    """

    def __init__(self, drive: str, sensors: Sensors, options: RecordOptions, logs: bool = True) -> None:
        check_packages(options.proposals)
        self.drive, self.sensors, self.options = drive, sensors, options
        self._cameras = {camera.name: camera for camera in sensors.cameras}
        sizes = {c.name: (c.calibration.width, c.calibration.height) for c in sensors.cameras}
        self.ego = Ego(options.ego, sizes, sensors.absent)
        """What of the vehicle itself is left out."""
        self._tilts, self._nears = TiltWatch(sensors.tree), NearWatch()
        self._logs = logs
        self.said: set[str] = set()
        """What was logged once, and is not again."""
        self.of_sensors: set[str] = set()
        """Those notes on sweeps that hold for all of a sensor's, however many they came with."""

    def frame(
        self,
        sweep: Sweep,
        images: Mapping[str, Any],
        others: Mapping[str, Sweep] | None = None,
        before: Sequence[Sweep] = (),
    ) -> Made:
        """One frame of a sweep as measured and of Image messages, CompressedImage messages or VideoImages, by camera.

        `others`: sweeps of other LiDARs, by name, which are merged with it. `before`: earlier sweeps of its own LiDAR,
        which it is told with; their points are not in the frame.

        Raises:
            TransformError: The frame of the vehicle's box, or the level one, is not connected with the LiDAR.
        """
        views: list[View] = []
        unusable, motion, notes, unconnected = {}, {}, list[str](), {}
        earlier, sweep_notes = self._earlier(sweep, before)
        parts = {"": SweepPart(sweep, self._street(sweep, len(earlier)), np.eye(4))}
        sweep_notes += self._sweep_notes(sweep)
        for name, other in (others or {}).items():
            try:
                parts[name] = self._part(sweep, other, len(earlier))
                sweep_notes += self._sweep_notes(other)
            except TransformError as error:
                unusable[name], unconnected[name] = NO_TRANSFORM, error
        if earlier:
            now, earlier = told_together(list(parts.values()), earlier, self.options.proposals)
            parts = dict(zip(parts, now, strict=True))
        elif len(parts) > 1:
            common = with_common_ids(list(parts.values()), self.options.proposals.merge)
            parts = dict(zip(parts, common, strict=True))
        whole, proposals = merged_sweep(list(parts.values())) if len(parts) > 1 else (sweep, parts[""].proposals)
        for name, message in images.items():
            try:
                view, why, note = self._view(self._cameras[name], message, list(parts.values()), earlier)
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
        merged = tuple(name for name in parts if name)
        return Made(frame, unusable, motion, tuple(notes), tuple(sweep_notes), unconnected, merged)

    def _notes(self, camera: str, message: Any, fitted: str) -> list[str]:
        """What people should know of an image that is used. `fitted`: of its calibration, perhaps nothing."""
        coded = encoding_note(getattr(message, "encoding", ""))
        return [note for note in (fitted, coded and f"{self._cameras[camera].topic}: {coded}") if note]

    def _sweep_notes(self, sweep: Sweep) -> list[str]:
        """What people should know of a sweep; the first time for its sensor, it is logged as well."""
        options = self.options.proposals
        near = self._nears.note(sweep, self._without_ego)
        self.of_sensors.add(near)
        notes = [blind_note(sweep), near]
        if not options.level:
            tilt = tilt_note(self.sensors.tree, sweep.frame_id) or self._tilts.note(sweep)
            self.of_sensors.add(tilt)
            notes.append(tilt)
        if options.method == "auto" or (options.method == "range_image" and rows_of(sweep) is not None):
            notes.append(beams_note(sweep))
        for note in notes:
            if self._logs and note and note not in self.said:
                self.said.add(note)
                LOG.warning(note)
        return [note for note in notes if note]

    def _without_ego(self, sweep: Sweep) -> Sweep:
        """To look at, beside making a frame of it. Raises TransformError."""
        return self.ego.without_ego(sweep, self.sensors.tree, counted=False)

    def _street(self, sweep: Sweep, earlier: int) -> NDArray[np.uint16]:
        """A sweep's proposals, none on the vehicle itself, told with `earlier` sweeps. Raises TransformError."""
        return self._proposals(self.ego.without_ego(sweep, self.sensors.tree), self._R_level(sweep), earlier)

    def _R_level(self, sweep: Sweep) -> Matrix | None:
        """As `proposals_from_sweep` takes it. Raises TransformError."""
        level = self.options.proposals.level
        return self.sensors.tree.lookup(level, sweep.frame_id, sweep.stamp_ns)[:3, :3] if level else None

    def _part(self, first: Sweep, sweep: Sweep, earlier: int) -> SweepPart:
        """Another LiDAR's sweep with its own proposals. Raises TransformError."""
        tree = self.sensors.tree
        T = tree.lookup_compensated(first.frame_id, first.stamp_ns, sweep.frame_id, [sweep.stamp_ns])[0][0]
        return SweepPart(sweep, self._street(sweep, earlier), T)

    def _earlier(self, first: Sweep, before: Sequence[Sweep]) -> tuple[list[SweepPart], list[str]]:
        """Earlier sweeps with their own proposals, as far as the vehicle's motion since is known, and a note if not."""
        parts, notes = list[SweepPart](), list[str]()
        for sweep in before:
            stamps = first.frame_id, first.stamp_ns, sweep.frame_id, [sweep.stamp_ns]
            (T, *_), why = self.sensors.tree.lookup_compensated(*stamps)
            if why is None:
                parts.append(SweepPart(sweep, self._street(sweep, len(before)), T))
            else:
                notes = [f"not told with earlier sweeps (proposals.aggregate): {why}"]
        return parts, notes

    def _view(
        self, camera: CameraTopic, message: Any, parts: Sequence[SweepPart], earlier: Sequence[SweepPart]
    ) -> tuple[View, str | None, str]:
        """The view, why the vehicle's motion is not in it, and a note about its calibration."""
        image, size = self._encoded(camera.name, message)
        calibration, note = fitted(camera, size)
        T_start, _, why = self._transforms(image, parts[0].sweep)
        painted = []
        for part in (*parts, *earlier):
            T_part, T_part_end, _ = self._transforms(image, part.sweep)
            painted.append(self._regions(part.sweep, part.proposals, calibration, T_part, T_part_end))
        eye = inverse(T_start)[:3, 3]
        regions = painted[0] if len(parts) == 1 else merged_regions(painted[: len(parts)], parts, eye)
        if earlier:
            regions = filled(regions, merged_regions(painted[len(parts) :], earlier, eye))
        regions = self.ego.clear(camera.name, regions)
        return View(camera.name, image, regions, calibration, T_start, why is None), why, note

    # What takes time, in methods of its own, so that an account can do without.

    def _proposals(self, sweep: Sweep, R_level: Matrix | None, earlier: int) -> NDArray[np.uint16]:
        return proposals_from_sweep(sweep, options_for(self.options.proposals, earlier), R_level)

    def _encoded(self, camera: str, message: Any) -> tuple[EncodedImage, tuple[int, int]]:
        return _encoded(message, self.options)

    def _regions(
        self, sweep: Sweep, proposals: NDArray[np.uint16], camera: Camera, T_start: Matrix, T_end: Matrix | None
    ) -> NDArray[np.uint16]:
        R_level = self._R_level(sweep)
        hangs = R_level is not None and bool(R_level[2, 2] < 0)
        return regions_from_pair(sweep, proposals, camera, T_start, self.options.regions, T_end, hangs)

    def _transforms(self, image: EncodedImage, sweep: Sweep) -> tuple[Matrix, Matrix | None, str | None]:
        """T_image_sweep for the sweep's stamp and its point farthest from that, and why motion is not in them."""
        ends = [sweep.stamp_ns]
        if sweep.farthest_ns:
            ends.append(sweep.stamp_ns + sweep.farthest_ns)
        T, why = self.sensors.tree.lookup_compensated(image.frame_id, image.stamp_ns, sweep.frame_id, ends)
        return T[0], T[1] if len(T) > 1 else None, why


class AccountMaker(FrameMaker):
    """Says of frames all that FrameMaker says, but finds no proposals and no regions."""

    def _proposals(self, sweep: Sweep, R_level: Matrix | None, earlier: int) -> NDArray[np.uint16]:
        if self.options.proposals.method == "range_image" and rows_of(sweep) is None:
            raise no_beams(sweep)
        return np.zeros(len(sweep), np.uint16)

    def _regions(
        self, sweep: Sweep, proposals: NDArray[np.uint16], camera: Camera, T_start: Matrix, T_end: Matrix | None
    ) -> NDArray[np.uint16]:
        return np.zeros((camera.height, camera.width), np.uint16)


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
        raise DsegError("cloud without measured points" if sweep.left_out else "cloud without points")
    return sweep
