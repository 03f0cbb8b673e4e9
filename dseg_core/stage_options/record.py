"""Options of `dseg record`: pairing, topics, the vehicle itself, what is recorded and stored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dseg_core.errors import OptionError
from dseg_core.options import Options, option
from dseg_core.stage_options.proposals import ProposalOptions, RegionOptions

_VELODYNES = (
    *("auto", "HDL64E_S1", "HDL64E_S2", "HDL64E_S3", "HDL32E", "VLP32A", "VLP32B", "VLP32C", "VLP16", "PuckHiRes"),
    "VLS128",
)


_OTHERS = "Name the topics of further LiDARs, each once, or leave it out"


@dataclass(frozen=True)
class PairingOptions(Options):
    """How images are paired with sweeps."""

    tolerance: float = option(0.05, "largest distance between an image's stamp and its reference", unit="s", minimum=0)
    reference: str = option(
        "stamp",
        "what images are compared with: the sweep's header stamp, or when the beam crosses the camera's axis",
        choices=("stamp", "crossing"),
    )
    offsets: tuple[str, ...] = option((), "constant offsets CAMERA:SECONDS, subtracted from that camera's stamps")
    queue: int = option(
        120, "images of one camera that may wait; with more, sweeps wait no longer for other cameras", minimum=2
    )
    patience: float = option(2.0, "a camera that is this far behind the LiDAR is not waited for", unit="s", minimum=0)
    jump: float = option(1.0, "stamps that run backwards by more are a clock that was set back", unit="s", minimum=0)

    def __post_init__(self) -> None:
        """Check the offsets. Raises OptionError."""
        super().__post_init__()
        self.known_offsets_ns([])

    def constant_offsets_ns(self, cameras: Sequence[str]) -> dict[str, int]:
        """The constant offset of each camera in nanoseconds. Raises OptionError."""
        found = self.known_offsets_ns(cameras)
        for entry in self.offsets:
            camera = entry.rpartition(":")[0]
            if camera not in found:
                raise OptionError(f"pairing.offsets = {entry!r}: no camera {camera!r}; there are {', '.join(cameras)}")
        return found

    def known_offsets_ns(self, cameras: Sequence[str]) -> dict[str, int]:
        """The same where some drive lacks a camera that has an offset. Raises OptionError for no CAMERA:SECONDS."""
        found = dict.fromkeys(cameras, 0)
        for entry in self.offsets:
            camera, _, seconds = entry.rpartition(":")
            try:
                offset_ns = round(float(seconds) * 1e9)
            except (ValueError, OverflowError):
                raise OptionError(f"offsets = {entry!r} must be CAMERA:SECONDS") from None
            if camera in found:
                found[camera] = offset_ns
        return found


@dataclass(frozen=True)
class StoreOptions(Options):
    """How frames are written."""

    image_format: str = option(
        "jpeg", "how raw images are stored; compressed ones stay as they are", choices=("jpeg", "png")
    )
    jpeg_quality: int = option(95, "quality of raw images' JPEG", minimum=1, maximum=100)


@dataclass(frozen=True)
class TopicOptions(Options):
    """Which topics frames are made from."""

    lidar: str = option(
        "",
        "topic of the points; none takes the only PointCloud2 or Livox CustomMsg there is, else the only VelodyneScan",
    )
    other_lidars: tuple[str, ...] = option(
        (), "topics of further LiDARs, whose points and proposals are merged into the sweeps of the first"
    )
    cameras: tuple[str, ...] = option((), "image topics; none takes all that have a camera_info beside them")
    calibration: Path | None = option(None, "file with transforms (YAML); they count more than those of the bag")
    velodyne_model: str = option("auto", "sensor of a VelodyneScan; auto asks its packets", choices=_VELODYNES)
    velodyne_calibration: Path | None = option(
        None, "a Velodyne's own angles and offsets, as its ROS driver's YAML; none takes its model's"
    )

    def __post_init__(self) -> None:
        """Check that no topic is two LiDARs. Raises OptionError."""
        super().__post_init__()
        for number, topic in enumerate(self.other_lidars):
            if topic == self.lidar:
                raise OptionError(f"other_lidars = {topic!r} is the topic of lidar already", fix=_OTHERS)
            if topic in self.other_lidars[:number]:
                raise OptionError(f"other_lidars names {topic!r} twice", fix=_OTHERS)


@dataclass(frozen=True)
class EgoOptions(Options):
    """What of the vehicle itself the sensors see; it is in no proposal and no region."""

    box: tuple[float, ...] = option(
        (), "box around the vehicle, x y z of one corner and of the opposite one; points in it are none", unit="m"
    )
    frame: str = option("", "the frame that the box is given in; none is the LiDAR's")
    masks: tuple[str, ...] = option((), "images CAMERA:FILE.png of the camera's size, not black where the vehicle is")

    def __post_init__(self) -> None:
        """Check the box. Raises OptionError."""
        super().__post_init__()
        if len(self.box) not in (0, 6):
            raise OptionError(f"box = {list(self.box)} must be six numbers: x, y, z of two opposite corners")
        if self.frame and not self.box:
            raise OptionError(f"frame = {self.frame!r} is of no use without a box")

    def mask_files(self, cameras: Sequence[str]) -> dict[str, Path]:
        """The mask of each camera that has one. Raises OptionError."""
        found = {}
        for entry in self.masks:
            camera, _, path = entry.partition(":")
            if camera not in cameras or not path:
                raise OptionError(f"ego.masks = {entry!r} must be CAMERA:FILE; cameras are {', '.join(cameras)}")
            found[camera] = Path(path)
        return found


_ABSOLUTE = 1e8  # seconds: later ones are stamps, not times since a bag's start
_FARTHEST = 4e9  # seconds: before and after all that a bag can hold


@dataclass(frozen=True)
class FrameOptions(Options):
    """What frames are made of, from a bag or live."""

    every: int = option(1, "keep every Nth frame", minimum=1)
    min_distance: float = option(0.0, "least way driven from one frame to the next", unit="m", minimum=0)
    min_speed: float = option(0.0, "slower is standstill, of which nothing is kept", unit="m/s", minimum=0)
    topics: TopicOptions = TopicOptions()
    pairing: PairingOptions = PairingOptions()
    proposals: ProposalOptions = ProposalOptions()
    regions: RegionOptions = RegionOptions()
    ego: EgoOptions = EgoOptions()
    store: StoreOptions = StoreOptions()


@dataclass(frozen=True)
class SelectionOptions(FrameOptions):
    """Which parts of bags become frames. Times are log times: seconds since the bag's start, or stamps (beyond 1e8)."""

    max_frames: int = option(0, "stop after so many frames of each bag; 0 keeps all", minimum=0)
    windows: tuple[str, ...] = option((), "times to record, START:END; either may be left out", unit="s")
    events: tuple[float, ...] = option((), "moments to record around", unit="s")
    before: float = option(10.0, "time before each event", unit="s", minimum=0)
    after: float = option(5.0, "time after each event", unit="s", minimum=0)

    def __post_init__(self) -> None:
        """Check the windows. Raises OptionError."""
        super().__post_init__()
        self.windows_ns(0, 0)

    def windows_ns(self, start_ns: int, end_ns: int) -> list[tuple[int, int]]:
        """The chosen times [ns] of a bag that starts and ends so, sorted and merged; the whole bag without any.

        Raises:
            OptionError: A window that is none.
        """

        def moment(seconds: float) -> int:
            return ns(seconds) + (0 if abs(seconds) > _ABSOLUTE else start_ns)

        def ns(seconds: float) -> int:
            return round(max(-_FARTHEST, min(seconds, _FARTHEST)) * 1e9)

        found = [(moment(e) - ns(self.before), moment(e) + ns(self.after)) for e in self.events]
        for window in self.windows:
            first, colon, last = window.partition(":")
            try:
                begin, end = (float(part) if part.strip() else None for part in (first, last))
            except ValueError:
                begin, end, colon = None, None, ""
            known = [part for part in (begin, end) if part is not None]
            if not colon or any(map(math.isnan, known)) or (len(known) == 2 and known[1] <= known[0]):
                raise OptionError(f"windows = {window!r} must be START:END in seconds, with END later")
            found.append((start_ns if begin is None else moment(begin), end_ns if end is None else moment(end)))
        if not found:
            return [(start_ns, end_ns)]
        merged: list[tuple[int, int]] = []
        for begin_ns, last_ns in sorted(found):
            if merged and begin_ns <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(last_ns, merged[-1][1]))
            else:
                merged.append((begin_ns, last_ns))
        return merged


@dataclass(frozen=True)
class RecordOptions(SelectionOptions):
    """`dseg record`: bags to frames."""

    workers: int = option(1, "bags recorded at a time, each by a process of its own", minimum=1)
    threads: int = option(0, "threads that make frames of one bag; 0: this machine's cores, at most 4", minimum=0)
    ray_address: str = option("", "address of a Ray cluster that records the bags, such as auto or ray://HOST:10001")
    view: bool = option(False, "show each frame in Rerun's viewer as it is written; without a display in OUT.rrd")

    def __post_init__(self) -> None:
        """Check that what shows the frames gets them. Raises OptionError."""
        super().__post_init__()
        if self.view and (self.workers > 1 or self.ray_address):
            other = "ray_address" if self.ray_address else f"workers = {self.workers}"
            raise OptionError(f"view = true does not go with {other}", fix="See the frames later with `dseg view`")

    def of_frames(self) -> RecordOptions:
        """The same without what says only how the work is done: folders made with equal ones hold equal frames."""
        return replace(self, workers=1, threads=0, ray_address="", view=False)
