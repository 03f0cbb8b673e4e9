"""What people should know of a sweep's beams."""

from __future__ import annotations

from dseg_core.lidar.rows import found_rows
from dseg_core.records import Sweep

_BY_DISTANCE = "so objects are told by distance (proposals.method euclidean)"
_OF_ONE = "its points may be those of several: record each LiDAR's own topic (--topics.lidar, --topics.other-lidars)"


def beams_note(sweep: Sweep) -> str:
    """What a sweep's beams are not known by, though they are named, or that it shows none; empty where all is usual."""
    found, lidar = found_rows(sweep), sweep.frame_id
    if found.rows is not None and found.refused:
        return f"rings of {lidar} do not fit its points, beams are told by {found.source}: check its driver"
    if found.rows is not None:
        return ""
    if found.refused:
        return f"points of {lidar} show no beams of one LiDAR, {_BY_DISTANCE}; {_OF_ONE}"
    return f"points of {lidar} show no beams, {_BY_DISTANCE}"
