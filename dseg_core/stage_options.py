"""The options of every stage. Light to import: the command line reads its help from here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dseg_core.options import Options, option


@dataclass(frozen=True)
class SimulateOptions(Options):
    """`dseg simulate`: streets, sensors and truth."""

    seed: int = option(0, "first world's seed; world i uses seed + i", minimum=0)
    worlds: int = option(1, "worlds; more than one makes OUT a folder of bags, one a world", minimum=1)
    sweeps: int = option(20, "sweeps per world", minimum=1)


@dataclass(frozen=True)
class PairingOptions(Options):
    """How images are paired with sweeps."""

    tolerance: float = option(0.05, "largest distance between an image's stamp and its reference", unit="s", minimum=0)


@dataclass(frozen=True)
class ProposalOptions(Options):
    """How a sweep is split into ground and objects."""

    angle: float = option(
        10.0, "smallest beta angle that joins two neighbouring points", unit="deg", minimum=0, maximum=90
    )
    min_points: int = option(20, "proposals with fewer points are dropped", minimum=1)


@dataclass(frozen=True)
class RegionOptions(Options):
    """How proposals become image regions."""

    fill: int = option(8, "farthest that a projected point labels pixels around it", unit="px", minimum=0)


@dataclass(frozen=True)
class StoreOptions(Options):
    """How frames are written."""

    jpeg_quality: int = option(95, "quality of raw images' JPEG", minimum=1, maximum=100)


@dataclass(frozen=True)
class RecordOptions(Options):
    """`dseg record`: bags to frames."""

    pairing: PairingOptions = PairingOptions()
    proposals: ProposalOptions = ProposalOptions()
    regions: RegionOptions = RegionOptions()
    store: StoreOptions = StoreOptions()


@dataclass(frozen=True)
class LabelOptions(Options):
    """`dseg label`: features, clusters, pseudo-labels."""

    name: str = option("default", "the labels' folder under FRAMES/labels/")
    clusters: int = option(30, "pseudo-classes besides ground (k of k-means)", minimum=1, maximum=253)
    seed: int = option(0, "seed of k-means", minimum=0)
    clusters_from: Path | None = option(
        None, "a labels folder of other frames whose clusters are used instead of fitting"
    )


@dataclass(frozen=True)
class TrainOptions(Options):
    """`dseg train`: teacher, then student."""

    labels: str = option("default", "which labels under FRAMES/labels/ to learn from")
    seed: int = option(0, "seed of initialisation, sampling and augmentation", minimum=0)


@dataclass(frozen=True)
class EvaluateOptions(Options):
    """`dseg evaluate`: scores against truth."""

    labels: str = option("default", "which labels of the frames are scored as pseudo-labels")


@dataclass(frozen=True)
class ExportOptions(Options):
    """`dseg export`: student to ONNX."""

    name_classes: Path | None = option(None, "classes.yaml that names the clusters; none takes the run's own")


@dataclass(frozen=True)
class SegmentOptions(Options):
    """`dseg segment`: masks from a model."""

    out: Path = option(Path("masks"), "folder for masks, overlay video and bag")


@dataclass(frozen=True)
class ReportOptions(Options):
    """`dseg report`: one page about what exists; sections without data are left out with a sentence."""

    frames: Path | None = option(None, "folder of frames the run was trained on")
    test_frames: Path | None = option(None, "folder of frames used for nothing but scores and pictures")
    labels: str = option("default", "which labels of the frames are shown")
    run: Path | None = option(None, "training run")
    masks: Path | None = option(None, "folder written by `dseg segment`")
    commands: Path | None = option(None, "text file with the command lines to print under 'how to reproduce'")
    title: str = option("Semantic segmentation without labels", "the page's heading")
    samples: int = option(4, "frames shown as pictures", minimum=1, maximum=24)
    video_limit: float = option(
        3.0, "overlay videos up to this size are embedded, larger ones shown as stills", unit="MB", minimum=0
    )


@dataclass(frozen=True)
class DemoOptions(Options):
    """`dseg demo`: the whole way on a simulated drive."""

    profile: str = option(
        "demo", "demo: 100 sweeps, about 8 minutes on 2 cores; small: a minute, for tests", choices=("demo", "small")
    )
    seed: int = option(0, "which simulated worlds, and the seed of clustering and training", minimum=0, maximum=10000)
