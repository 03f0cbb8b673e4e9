"""Options of `dseg evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dseg_core.options import Options, option


@dataclass(frozen=True)
class EvaluateOptions(Options):
    """`dseg evaluate`: scores against truth."""

    labels: str = option("default", "which labels of the frames are scored as pseudo-labels")
    fit_on: Path | None = option(
        None,
        "frames (or image/label folder) on which pseudo-classes are matched with truth classes, and the baseline is "
        "fitted; none halves DATA by drive",
    )
    truth: tuple[Path, ...] = option((), "bags with the truth of DATA's frames; none takes those the frames name")
    fit_truth: tuple[Path, ...] = option((), "the same for the frames of fit_on")
    match_by: str = option("pixels", "what one-to-one matching maximises", choices=("pixels", "iou"))
    ground_classes: tuple[str, ...] = option(
        ("road", "pavement", "sidewalk", "terrain", "lane", "parking", "ground"), "truth classes that merge to ground"
    )
    sky_classes: tuple[str, ...] = option(("sky",), "truth classes that no LiDAR can label")
    baseline: bool = option(True, "score k-means on colour alone, with as many clusters, beside the networks")
    baseline_seeds: int = option(3, "seeds of the baseline; the best is shown", minimum=1)
    capacity: bool = option(False, "train the same network on the truth of the fitting frames; takes a training's time")


@dataclass(frozen=True)
class ScoreProposalsOptions(Options):
    """`dseg score-proposals`: proposals and regions against truth."""

    truth: tuple[Path, ...] = option((), "bags with the truth of the frames; none takes those the frames name")
    boxes: str = option("", "topic of annotated boxes in those bags: a MarkerArray of cubes with the sweeps' stamps")
    smallest: int = option(10, "objects of fewer points are not scored", minimum=1)
    smallest_pixels: int = option(100, "objects of fewer pixels are not scored", minimum=1)
    cases: int = option(
        12, "pictures of objects that were not found, those of most points first", minimum=0, maximum=100
    )
    ground_classes: tuple[str, ...] = option(
        ("road", "pavement", "sidewalk", "terrain", "lane", "parking", "ground"), "truth classes that are ground"
    )
    background_classes: tuple[str, ...] = option(
        ("building", "wall", "fence", "bridge", "tunnel", "ego", "sky"),
        "truth classes of large structures, whose extent geometry cannot tell; proposals of them are not scored",
    )
    vehicle_classes: tuple[str, ...] = option(
        ("car", "van", "truck", "bus", "vehicle"), "truth classes that ground is scored beneath"
    )
