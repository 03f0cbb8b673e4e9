"""How many of a sweep's points are measurements at all."""

from __future__ import annotations

from dseg_core.lidar.points import points_of
from dseg_core.records import Sweep

NOT_MEASURED = "NaN, infinite, < 0.3 m or > 10 km"
_LEAST = 0.02  # into the open sky, too, a LiDAR measures more
_SAMPLE = 16  # every so manieth point tells whether hardly any is


def measured_share(sweep: Sweep, every: int = 1) -> float:
    """The share of the points of a sweep's message that are measurements, 0 to 1; 1 for none at all.

    Args:
        sweep: As measured.
        every: So manieth point alone is looked at.
    """
    looked = sweep.xyz[::every]
    if not len(sweep) + sweep.left_out:
        return 1.0
    share = points_of(looked).measured / len(looked) if len(looked) else 0.0
    return share * len(sweep) / (len(sweep) + sweep.left_out)


def blind_note(sweep: Sweep) -> str:
    """What people should know of a sweep that measured hardly anything; empty for others."""
    if measured_share(sweep, _SAMPLE) >= _LEAST:
        return ""
    return f"hardly any point of {sweep.frame_id} is a measurement ({NOT_MEASURED}): check the LiDAR's driver"
