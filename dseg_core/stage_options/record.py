"""Options of `dseg record`: pairing, proposals, regions, what is stored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dseg_core.errors import OptionError
from dseg_core.options import Options, option

_VELODYNES = (
    *("auto", "HDL64E_S1", "HDL64E_S2", "HDL64E_S3", "HDL32E", "VLP32A", "VLP32B", "VLP32C", "VLP16", "PuckHiRes"),
    "VLS128",
)


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
class ProposalOptions(Options):
    """How a sweep is split into ground and objects."""

    method: str = option(
        "auto",
        "by beams, or by distance where the points have none; auto chooses between these; hdbscan: by density",
        choices=("auto", "range_image", "euclidean", "hdbscan"),
    )
    columns: int = option(
        0, "cells of the range image per turn; 0 takes the points' own spacing", minimum=0, maximum=16384
    )
    angle: float = option(10.0, "smallest beta that joins two points of a beam", unit="deg", minimum=0, maximum=90)
    angle_between: float = option(
        25.0, "the same for points of neighbouring beams, which are farther apart", unit="deg", minimum=0, maximum=90
    )
    near: float = option(0.3, "neighbouring points that are nearer to each other are joined", unit="m", minimum=0)
    gap: float = option(1.0, "largest step in range between joined points", unit="m", minimum=0)
    hole: int = option(3, "empty cells that joined points may have between them", minimum=0, maximum=32)
    ground_slope: float = option(9.0, "steepest ground", unit="deg", minimum=0, maximum=45)
    kerb: float = option(0.2, "highest kerb that ground climbs", unit="m", minimum=0)
    distance: float = option(
        0.3, "farthest that joined points are apart where beams are not known", unit="m", minimum=0.02
    )
    fragment: float = option(
        4.0,
        "objects that look no larger and do not stand on the ground join a larger one beside them",
        unit="m2",
        minimum=0,
    )
    fragment_gap: float = option(
        0.4, "farthest that such a fragment is from it, and 1 % of the range", unit="m", minimum=0
    )
    min_points: int = option(8, "objects with fewer points are no proposals", minimum=1)
    distance_rise: float = option(
        0.015,
        "how much farther that is at each metre of range, since beams spread",
        unit="m/m",
        minimum=0,
        maximum=0.04,
    )
    merge: float = option(
        0.4, "objects of several LiDARs are one that have points in one cube of this side", unit="m", minimum=0.01
    )
    ground: str = option(
        "own", "how ground is found; patchwork: by pypatchworkpp, with every method", choices=("own", "patchwork")
    )
    aggregate: int = option(
        0,
        "earlier sweeps that each is told with, moved by the odometry, up to a second before; their points are not "
        "stored",
        minimum=0,
        maximum=9,
    )
    level: str = option(
        "", "frame whose z is up, for a LiDAR that is mounted at more than some degrees; none takes the LiDAR's own"
    )
    sensor_height: float = option(
        0.0, "height of the LiDAR over the ground, for patchwork; 0 finds it in every sweep", unit="m", minimum=0
    )


@dataclass(frozen=True)
class RegionOptions(Options):
    """How proposals become image regions."""

    fill: int = option(24, "farthest that a point paints around it", unit="px", minimum=1)
    fill_without_beams: float = option(3.0, "the same for points whose spacing is not known", unit="px", minimum=0.5)
    spread: float = option(1.4, "size of a point's patch in units of the beams' spacing", minimum=0.1, maximum=3)
    border: float = option(
        1.0, "the same towards a side where the point's proposal ends before something farther", minimum=0.1, maximum=3
    )
    surface: float = option(
        0.02, "patches within this share of their depth are one surface, where the nearer centre wins", minimum=0
    )
    enclosed: float = option(
        1.2,
        "what is seen between points of one nearer object, each at most so far away on it, is hidden (windows, roofs): "
        "ground between two, objects between three or four",
        unit="m",
        minimum=0,
    )
    window: float = option(
        2.0,
        "holes that an object encloses on all four sides are closed up to this width and height; half as high where it "
        "does not above",
        unit="m",
        minimum=0,
    )
    hole: int = option(4, "gaps inside a region that are closed, in a row or column", unit="px", minimum=0, maximum=64)


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

    lidar: str = option("", "topic of the points; none takes the only PointCloud2 there is, else the only VelodyneScan")
    other_lidars: tuple[str, ...] = option(
        (), "topics of further LiDARs, whose points and proposals are merged into the sweeps of the first"
    )
    cameras: tuple[str, ...] = option((), "image topics; none takes all that have a camera_info beside them")
    calibration: Path | None = option(None, "file with transforms (YAML); they count more than those of the bag")
    velodyne_model: str = option("auto", "sensor of a VelodyneScan; auto asks its packets", choices=_VELODYNES)
    velodyne_calibration: Path | None = option(
        None, "a Velodyne's own angles and offsets, as its ROS driver's YAML; none takes its model's"
    )


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
