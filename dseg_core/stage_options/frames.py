"""Options of the commands on recorded frames."""

from __future__ import annotations

from dataclasses import dataclass

from dseg_core.options import Options, option

FORMATS = ("cityscapes", "webdataset")


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


@dataclass(frozen=True)
class ExportFramesOptions(Options):
    """`dseg export-frames`: recorded frames as a data set for other trainers."""

    format: str = option(
        "cityscapes", "layout of the data set: Cityscapes' folders, or shards of WebDataset", choices=FORMATS
    )
    labels: str | None = option("default", "pseudo-labels under FRAMES/labels/; none writes images and regions only")
    val_share: float = option(
        0.2, "share of the drives, always whole ones, that are for validation", minimum=0, maximum=1
    )
    shard_size: int = option(512, "webdataset: a new shard is begun at this size", unit="MB", minimum=1)
    points: bool = option(False, "webdataset: the sweep's points, their intensities and their proposals, too")
