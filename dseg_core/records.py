"""The records that stages hand to each other. All frozen; arrays in them are never written to.

Units: metres, radians, nanoseconds (ROS header clock), RGB. Transforms are named `T_target_source`: 4x4 float64, a
point in `source` coordinates is moved to `target` coordinates by `T_target_source @ [x, y, z, 1]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dseg_core.cameras import Camera

UNLABELLED = 255
"""In pseudo-labels and masks: no class. 0 is ground, 1.. are clusters."""

REGION_NONE, REGION_GROUND, REGION_FIRST_OBJECT = 0, 1, 2
"""Ids in proposals and regions."""


@dataclass(frozen=True, eq=False)
class Image:
    """A decoded image. `rgb`: uint8 (H, W, 3). `frame_id`: the camera's optical frame (z forward, x right)."""

    stamp_ns: int
    frame_id: str
    rgb: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image as it is stored and sent: `data` is one whole JPEG or PNG file, `format` is "jpeg" or "png"."""

    stamp_ns: int
    frame_id: str
    format: str
    data: bytes


@dataclass(frozen=True, eq=False)
class Sweep:
    """One LiDAR scan, as measured (not motion-compensated), in the LiDAR's own frame, x forward, z up.

    `xyz`: float32 (N, 3), metres, NaN rows dropped by the reader. `intensity`: float32 (N,) or None, as the driver
    scales it. `ring`: uint16 (N,) beam index, in the driver's order, or None. `time_ns`: int64 (N,), the point's time
    minus `stamp_ns`, or None. `rows`: height of an organised cloud, points then row by row, or 0. `left_out`: how many
    points of the message are not here because they were no measurements. `ring_of_cells`: whether `ring` is not the
    driver's, but the row or column of an organised cloud of which points are left out.
    """

    stamp_ns: int
    frame_id: str
    xyz: NDArray[np.float32]
    intensity: NDArray[np.float32] | None = None
    ring: NDArray[np.uint16] | None = None
    time_ns: NDArray[np.int64] | None = None
    rows: int = 0
    left_out: int = 0
    ring_of_cells: bool = False

    def __len__(self) -> int:
        return len(self.xyz)

    @property
    def farthest_ns(self) -> int:
        """The point time that is farthest from the stamp, signed: drivers stamp a sweep's start or its end."""
        if self.time_ns is None or not len(self):
            return 0
        first, last = int(self.time_ns.min()), int(self.time_ns.max())
        return last if last >= -first else first


@dataclass(frozen=True, eq=False)
class View:
    """What one camera saw of a frame.

    `camera`: its name, made from its topic. `image`: as recorded. `regions`: uint16 (H, W), ids of the frame's
    proposals (0 none, 1 ground, 2.. objects). `calibration`: intrinsics of this image. `T_image_sweep`: float64 (4, 4),
    from the sweep's frame at the sweep's stamp to the optical frame at the image's stamp. `motion_compensated`: whether
    the vehicle's motion between the two stamps is in it.
    """

    camera: str
    image: EncodedImage
    regions: NDArray[np.uint16]
    calibration: Camera
    T_image_sweep: NDArray[np.float64]
    motion_compensated: bool = False

    @property
    def stamp_ns(self) -> int:
        """The image's stamp."""
        return self.image.stamp_ns


@dataclass(frozen=True, eq=False)
class Frame:
    """One sweep, its proposals, and what each paired camera saw.

    `drive`: name of the bag it comes from. `proposals`: uint16 (N,), an id per point of the sweep (0 none, 1 ground,
    2.. objects).
    """

    drive: str
    sweep: Sweep
    proposals: NDArray[np.uint16]
    views: tuple[View, ...]

    @property
    def stamp_ns(self) -> int:
        """The sweep's stamp; unique within a drive."""
        return self.sweep.stamp_ns


@dataclass(frozen=True, order=True)
class ViewKey:
    """Names one view in a folder of frames. `stamp_ns` is the sweep's (the frame's), not the image's."""

    drive: str
    stamp_ns: int
    camera: str

    def __str__(self) -> str:
        return f"{self.drive}/{self.stamp_ns}/{self.camera}"
