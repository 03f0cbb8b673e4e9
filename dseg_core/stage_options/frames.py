"""Options of the commands on recorded frames."""

from __future__ import annotations

from dataclasses import dataclass

from dseg_core.options import Options, option


@dataclass(frozen=True)
class FrameCheckOptions(Options):
    """`dseg check`: whether recorded frames are whole and make sense."""

    deep: bool = option(
        True, "decode every image and check regions and calibration; else checksums, counts, stamps and points only"
    )
    least_share: float = option(
        1.0, "warn where a camera's regions cover less of its images", unit="%", minimum=0, maximum=100
    )
    least_agreement: float = option(
        50.0,
        "least share of a frame's projected points, of those that fall on a region, that fall on their own",
        unit="%",
        minimum=0,
        maximum=100,
    )
