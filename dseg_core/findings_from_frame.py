"""What is wrong with one recorded frame: ids, stamps, calibration, pictures."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from dseg_core.errors import DsegError
from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND, REGION_NONE, Frame, View

AGAIN = "Remove the part and record its drive again"
_FEWEST = 100  # points on regions below which their agreement says nothing


@dataclass(frozen=True)
class Finding:
    """Something wrong: what, where, how to fix. `stamp_ns`: of the frame it is in. `warning`: it may be meant."""

    what: str
    where: str
    fix: str
    stamp_ns: int | None = None
    warning: bool = False


def of_points(frame: Frame) -> Iterator[Finding]:
    """Findings on a frame's points and proposals."""
    sweep, proposals = frame.sweep, frame.proposals

    def found(what: str, fix: str = AGAIN) -> Finding:
        return Finding(what, f"{frame.drive}/points", fix, frame.stamp_ns)

    if len(proposals) != len(sweep):
        yield found("there are not as many proposal ids as points")
        return
    if not len(sweep):
        yield found("the sweep has no points")
        return
    if not np.isfinite(sweep.xyz).all():
        yield found("points are not finite")
    ids = np.unique(proposals)
    objects = ids[ids >= REGION_FIRST_OBJECT]
    if len(objects) and int(objects[-1]) != REGION_FIRST_OBJECT + len(objects) - 1:
        yield found("proposals' ids have gaps")
    ground = proposals == REGION_GROUND
    if not ground.any() and len(objects):
        yield found("no point is ground (id 1)", "See that z points up in the LiDAR's frame, and record again")
    elif len(objects):
        height = sweep.xyz[:, 2]
        if np.median(height[ground]) > np.median(height[proposals >= REGION_FIRST_OBJECT]):
            yield found("ground (id 1) lies above the objects", "See that z points up in the LiDAR's frame")


def of_view(frame: Frame, view: View, tolerance_ns: int | None, offset_ns: int, agreement: float) -> Iterator[Finding]:
    """Findings on what one camera saw.

    Args:
        frame: The view's frame.
        view: Decoded regions, encoded image.
        tolerance_ns: Largest distance of image and reference stamp, ns; None where it is not known.
        offset_ns: The camera's constant offset.
        agreement: Least share of points on regions that lie on their own proposal's, 0..1.
    """
    calibration, T, regions = view.calibration, view.T_image_sweep, view.regions

    def found(what: str, fix: str = AGAIN) -> Finding:
        return Finding(what, f"{frame.drive}/{view.camera}", fix, frame.stamp_ns)

    if tolerance_ns is not None and abs(view.stamp_ns - frame.stamp_ns - offset_ns) > tolerance_ns:
        yield found("the image's stamp is further from the sweep's than pairing allows")
    try:
        height, width = picture_size(view.image.data)
        if (height, width) != (calibration.height, calibration.width):
            yield found(
                f"the image is {width}x{height}, its calibration {calibration.width}x{calibration.height}",
                "Record with the camera_info of that resolution",
            )
    except DsegError as error:
        yield found(f"the image {error.what}", "Record the drive again; leave the image out if the bag has it so")
    if regions.shape != (calibration.height, calibration.width):
        yield found(
            f"regions are {regions.shape[1]}x{regions.shape[0]}, "
            f"the calibration {calibration.width}x{calibration.height}"
        )
    if not is_rigid(T):
        yield found("T_image_sweep is no rigid transform", "See /tf_static or --topics.calibration, and record again")
        return
    strange = np.setdiff1d(regions, frame.proposals)
    if len(strange[strange != REGION_NONE]):
        yield found("regions have ids that no proposal has")
    share = own_share(frame, view)
    if share is not None and share < agreement:
        yield found("regions do not lie where the points of their proposals are")


def is_rigid(T: NDArray[np.float64]) -> bool:
    """Whether a (4, 4) is finite, a rotation (no mirror, no scale) and a translation."""
    R = T[:3, :3]
    return bool(
        np.isfinite(T).all()
        and np.allclose(R @ R.T, np.eye(3), atol=1e-6)
        and np.linalg.det(R) > 0
        and np.array_equal(T[3], [0, 0, 0, 1])
    )


def own_share(frame: Frame, view: View) -> float | None:
    """Of a frame's points that are projected onto a region, the share on their own proposal's; None for too few."""
    T = view.T_image_sweep
    known = (frame.proposals != REGION_NONE) & np.isfinite(frame.sweep.xyz).all(axis=1)
    xyz = frame.sweep.xyz[known].astype(np.float64) @ T[:3, :3].T + T[:3, 3]  # (n, 3), optical frame
    uv, visible = view.calibration.project(xyz)
    u, v = np.rint(uv[visible]).astype(int).T
    inside = (u >= 0) & (v >= 0) & (u < view.regions.shape[1]) & (v < view.regions.shape[0])
    at = view.regions[v[inside], u[inside]]
    ids = frame.proposals[known][visible][inside]
    hit = at != REGION_NONE
    return float((at[hit] == ids[hit]).mean()) if hit.sum() >= _FEWEST else None


def picture_size(data: bytes) -> tuple[int, int]:
    """Height and width of a JPEG or PNG, after decoding all of it: PIL refuses what OpenCV fills with grey.

    Raises:
        DsegError: It cannot be decoded, or is cut off.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(BytesIO(data), formats=("JPEG", "PNG")) as picture:
                picture.load()
                return picture.height, picture.width
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError, Warning) as error:
        words = re.sub(r" *\(.*?\)", "", str(error))  # numbers of bytes and addresses, which differ from frame to frame
        raise DsegError(f"cannot be decoded: {' '.join(words.split())[:80]}") from None
