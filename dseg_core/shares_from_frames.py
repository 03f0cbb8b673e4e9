"""What share of a drive's points became ground and objects, and in whose images none lies: no picture shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dseg_core.lidar.points import points_of
from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND, Frame, View

LOOKS = 4
"""Frames of a drive that are looked at."""
MOUNTING = "Check the mounting in /tf_static: optical frames look along z, x to the right"

_LEAST_GROUND = 0.05  # of the points; on streets it is a quarter to a half
_LEAST_OBJECTS = 0.005  # on streets they are half of the points; on an empty field there is still a tree
_FARTHEST = 500.0  # metres that half of a sweep's points are never away
MOST_IN_BOX = 0.5  # of the points; roofs and bonnets have a tenth
_SAMPLE = 16  # every so manieth point tells how far they are


def spread(count: int, total: int) -> list[int]:
    """At most `count` of `total` numbers, evenly."""
    return sorted({int((i + 0.5) * total / count) for i in range(count)})


def shares_from_frames(frames: Iterable[Frame]) -> dict[str, Any]:
    """Over some frames of a drive, as plain JSON types.

    Returns:
        `ground` and `objects`: their shares of all measured points, 0 to 1, 0 where none is measured. `distance_m`: the
        median over all points, however far. `seen` and `unseen`: cameras in whose images points lie, or none does.
        Nothing without frames.
    """
    measured = ground = objects = 0
    away, seen = [np.zeros(0)], dict[str, bool]()
    for frame in frames:
        measured += points_of(frame.sweep.xyz).measured
        ground += int(np.count_nonzero(frame.proposals == REGION_GROUND))
        objects += int(np.count_nonzero(frame.proposals >= REGION_FIRST_OBJECT))
        away.append(np.linalg.norm(frame.sweep.xyz[::_SAMPLE].astype(np.float64), axis=1))
        for view in frame.views:
            seen[view.camera] = seen.get(view.camera, False) or _sees(view, frame)
    if len(away) == 1:
        return {}
    distance = np.concatenate(away)
    return {
        "ground": round(ground / max(measured, 1), 4),
        "objects": round(objects / max(measured, 1), 4),
        "distance_m": round(float(np.median(distance)), 1) if len(distance) else 0.0,
        "seen": [camera for camera, any_point in seen.items() if any_point],
        "unseen": [camera for camera, any_point in seen.items() if not any_point],
    }


def _sees(view: View, frame: Frame) -> bool:
    """Whether any of the frame's points lies in the view's image, painted or not."""
    if view.regions.any():
        return True
    T, points = view.T_image_sweep, points_of(frame.sweep.xyz)
    xyz = frame.sweep.xyz[points.distance > 0]
    return bool(view.calibration.project(xyz @ T[:3, :3].T + T[:3, 3])[1].any())


def told_of_shares(shares: Mapping[str, Any]) -> Iterator[str]:
    """A line for what can hardly be right of `shares_from_frames`; what is missing there is right.

    `in_box`, if there, is the share of points that the vehicle's own box took: what little it leaves tells nothing.
    """
    ground, objects = shares.get("ground", 1.0), shares.get("objects", 1.0)
    distance = shares.get("distance_m", 0.0)
    if shares.get("in_box", 0.0) > MOST_IN_BOX:
        return
    few = [f"{ground:.0%} of the points are ground"] * (ground < _LEAST_GROUND)
    few += [f"{objects:.1%} of the points are of objects"] * (objects < _LEAST_OBJECTS)
    if distance > _FARTHEST:
        what = " and ".join([f"half of the points are farther away than {distance:.0f} m", *few])
        yield f"{what}: see that the LiDAR's coordinates are metres, not millimetres"
    elif len(few) == 2:
        yield (
            f"only {few[0]} and {objects:.1%} are of objects: see that the LiDAR's coordinates are metres with z up, "
            "and what options of --proposals leave over"
        )
    elif ground < _LEAST_GROUND:
        yield (
            f"only {few[0]}: see that z points up in the LiDAR's frame, or name one in which it does, --proposals.level"
        )
    elif few:
        yield (
            f"only {few[0]}: see that z is a height in metres, and --proposals.kerb and --proposals.min-points are not "
            "too large"
        )


def told_of_box(share: float) -> str:
    """A line about the share of points that the vehicle's own box takes."""
    what = f"--ego.box takes {share:.1%} of the points"
    if share <= MOST_IN_BOX:
        return what
    return f"{what}: see that it holds the vehicle only, corners in metres in the frame --ego.frame or the LiDAR's"


def told_of_unseen(cameras: Sequence[str]) -> str:
    """A line about cameras in whose images no point lies."""
    return f"no point of the sweeps lies in an image of {', '.join(cameras)}"
