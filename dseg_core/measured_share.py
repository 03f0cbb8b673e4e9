"""How many of a sweep's points are measurements at all."""

from __future__ import annotations

from dseg_core.lidar.points import points_of
from dseg_core.records import Sweep

NOT_MEASURED = "NaN, infinite, < 0.3 m or > 10 km"
_HARDLY = 0.02
_MOST = 0.2  # more is measured in every street, where half of an organised cloud may be sky
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
    """What people should know of a sweep that measured little or hardly anything; empty for others."""
    share = measured_share(sweep, _SAMPLE)
    if share >= _MOST:
        return ""
    if share >= _HARDLY:
        what = f"fewer than {_MOST:.0%} of the points of {sweep.frame_id} are measurements ({NOT_MEASURED})"
        return f"{what}, so objects are missed: check the LiDAR's driver, unless it looks into open sky"
    return f"hardly any point of {sweep.frame_id} is a measurement ({NOT_MEASURED}): check the LiDAR's driver"
