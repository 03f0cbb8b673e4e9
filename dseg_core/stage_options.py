"""The options of every stage. Light to import: the command line reads its help from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dseg_core.errors import OptionError
from dseg_core.options import Options, option


@dataclass(frozen=True)
class SimulateOptions(Options):
    """`dseg simulate`: streets, sensors and truth."""

    seed: int = option(0, "first world's seed; world i uses seed + i", minimum=0)
    worlds: int = option(1, "worlds; more than one makes OUT a folder of bags, one a world", minimum=1)
    sweeps: int = option(20, "sweeps per world", minimum=1)
    storage: str = option("mcap", "storage of the bags", choices=("mcap", "sqlite3"))
    width: int = option(640, "image width", unit="px", minimum=16)
    height: int = option(192, "image height", unit="px", minimum=16)
    field: float = option(81.0, "horizontal field of view of the cameras", unit="deg", minimum=20, maximum=130)
    cameras: tuple[float, ...] = option((0.0,), "one camera for each yaw, to the left of forward", unit="deg")
    camera_rate: float = option(10.0, "images per second of each camera", unit="Hz", minimum=0.1)
    camera_offset: float = option(
        0.015, "first image after the first sweep's stamp; the beam looks ahead 15 % of its turn after it", unit="s"
    )
    stamp_error: float = option(0.0, "how much later than the truth images are stamped", unit="s")
    samples: int = option(2, "rays per pixel edge (anti-aliasing)", minimum=1, maximum=4)
    image_noise: float = option(2.5, "standard deviation of a pixel's noise", unit="of 255", minimum=0)
    beams: int = option(64, "beams of the LiDAR: 16, 32 or 64", minimum=16, maximum=64)
    columns: int = option(1800, "columns of a sweep, per turn", minimum=90, maximum=4000)
    lidar_rate: float = option(10.0, "turns of the LiDAR per second", unit="Hz", minimum=0.5)
    reach: float = option(100.0, "farthest LiDAR return", unit="m", minimum=5)
    range_noise: float = option(0.02, "standard deviation of a range", unit="m", minimum=0)
    dropout: float = option(0.005, "share of returns lost besides the weak ones", minimum=0, maximum=1)
    apart: float = option(
        0.6, "how far the LiDAR sits behind and above the front camera", unit="m", minimum=0.3, maximum=1.5
    )
    speed: float = option(8.0, "vehicle speed", unit="m/s", minimum=0, maximum=40)
    traffic: float = option(1.0, "moving vehicles, as a factor of the usual number", minimum=0, maximum=5)


@dataclass(frozen=True)
class PairingOptions(Options):
    """How images are paired with sweeps."""

    tolerance: float = option(0.05, "largest distance between an image's stamp and its reference", unit="s", minimum=0)
    reference: str = option(
        "stamp",
        "what images are compared with: the sweep's header stamp, or when the beam crosses the camera's axis",
        choices=("stamp", "crossing"),
    )
    offsets: tuple[str, ...] = option((), "constant offsets CAMERA:SECONDS, subtracted from that camera's stamps")
    queue: int = option(120, "images of one camera that may wait for a sweep", minimum=2)
    patience: float = option(2.0, "a camera that is this far behind the LiDAR is not waited for", unit="s", minimum=0)

    def constant_offsets_ns(self, cameras: Sequence[str]) -> dict[str, int]:
        """The constant offset of each camera in nanoseconds. Raises OptionError."""
        found = dict.fromkeys(cameras, 0)
        for entry in self.offsets:
            camera, _, seconds = entry.rpartition(":")
            if camera not in found:
                raise OptionError(f"pairing.offsets = {entry!r}: no camera {camera!r}; there are {', '.join(cameras)}")
            try:
                found[camera] = round(float(seconds) * 1e9)
            except (ValueError, OverflowError):
                raise OptionError(f"pairing.offsets = {entry!r} must be CAMERA:SECONDS") from None
        return found


@dataclass(frozen=True)
class ProposalOptions(Options):
    """How a sweep is split into ground and objects."""

    method: str = option(
        "auto",
        "by beams, or by distance where the points have none; auto chooses",
        choices=("auto", "range_image", "euclidean"),
    )
    columns: int = option(
        0, "cells of the range image per turn; 0 takes the points' own spacing", minimum=0, maximum=16384
    )
    angle: float = option(10.0, "smallest beta that joins two points", unit="deg", minimum=0, maximum=90)
    gap: float = option(1.0, "largest step in range between joined points", unit="m", minimum=0)
    hole: int = option(3, "empty cells that joined points may have between them", minimum=0, maximum=32)
    ground_slope: float = option(9.0, "steepest ground", unit="deg", minimum=0, maximum=45)
    kerb: float = option(0.2, "highest kerb that ground climbs", unit="m", minimum=0)
    distance: float = option(0.4, "voxel size that joins points without beams", unit="m", minimum=0.01)
    min_points: int = option(20, "objects with fewer points are no proposals", minimum=1)


@dataclass(frozen=True)
class RegionOptions(Options):
    """How proposals become image regions."""

    fill: int = option(24, "farthest that a point paints around it", unit="px", minimum=1)
    fill_without_beams: float = option(3.0, "the same for points whose spacing is not known", unit="px", minimum=0.5)
    spread: float = option(1.4, "size of a point's patch in units of the beams' spacing", minimum=0.1, maximum=3)
    surface: float = option(
        0.02, "patches within this share of their depth are one surface, where the nearer centre wins", minimum=0
    )
    enclosed: float = option(
        0.8,
        "ground seen between two points of one nearer object, each at most so far away on it, is hidden (windows)",
        unit="m",
        minimum=0,
    )
    hole: int = option(4, "gaps inside a region that are closed, in a row or column", unit="px", minimum=0, maximum=64)


@dataclass(frozen=True)
class StoreOptions(Options):
    """How frames are written."""

    image_format: str = option(
        "jpeg", "how raw images are stored; compressed ones stay as they are", choices=("jpeg", "png")
    )
    jpeg_quality: int = option(95, "quality of raw images' JPEG", minimum=1, maximum=100)


@dataclass(frozen=True)
class TopicOptions(Options):
    """Which topics frames are made from."""

    lidar: str = option("", "topic of the points; none takes the only PointCloud2 there is")
    cameras: tuple[str, ...] = option((), "image topics; none takes all that have a camera_info beside them")
    calibration: Path | None = option(None, "file with transforms (YAML), for bags without /tf_static")


@dataclass(frozen=True)
class RecordOptions(Options):
    """`dseg record`: bags to frames."""

    every: int = option(1, "keep every Nth frame", minimum=1)
    max_frames: int = option(0, "stop after so many frames of each bag; 0 keeps all", minimum=0)
    topics: TopicOptions = TopicOptions()
    pairing: PairingOptions = PairingOptions()
    proposals: ProposalOptions = ProposalOptions()
    regions: RegionOptions = RegionOptions()
    store: StoreOptions = StoreOptions()


@dataclass(frozen=True)
class FeatureWeights(Options):
    """How much each block of features counts in k-means; a block of weight w has variance w * w in all."""

    image: float = option(1.0, "weight of the backbone's features", minimum=0)
    shape: float = option(1.0, "weight of the 3D descriptors", minimum=0)
    color: float = option(0.6, "weight of colour and texture", minimum=0)


@dataclass(frozen=True)
class FeatureOptions(Options):
    """What is measured of each region."""

    blocks: tuple[str, ...] = option(
        ("shape", "color"),
        "blocks of features; image separates best but needs a backbone's weights",
        choices=("image", "shape", "color"),
    )
    min_pixels: int = option(40, "smaller regions stay unlabelled", unit="px", minimum=1)
    backbone: str = option("vit_small_patch16_224.dino", "image: timm's name of the backbone")
    backbone_weights: Path | None = option(
        None, "image: the backbone's .safetensors file; none takes timm's weights from the hub"
    )
    crop_size: int = option(224, "image: side that a region's crop is resized to", unit="px", minimum=16)
    crop_margin: float = option(0.1, "image: margin around a region, of its longer side", minimum=0, maximum=2)
    batch: int = option(32, "image: crops at a time", minimum=1)
    device: str = option("auto", "image: torch device; auto takes a GPU where there is one")


@dataclass(frozen=True)
class LabelOptions(Options):
    """`dseg label`: features, clusters, pseudo-labels."""

    name: str = option("default", "the labels' folder under FRAMES/labels/")
    clusters: int = option(30, "pseudo-classes besides ground (k of k-means)", minimum=1, maximum=253)
    seed: int = option(0, "seed of k-means", minimum=0)
    clusters_from: Path | None = option(
        None, "a labels folder of other frames whose clusters are used instead of fitting"
    )
    features: FeatureOptions = FeatureOptions()
    weights: FeatureWeights = FeatureWeights()
    iterations: int = option(50, "k-means: iterations", minimum=1)
    restarts: int = option(5, "k-means: starts, of which the best is kept", minimum=1)
    max_points_per_centroid: int = option(
        10000, "k-means: with more regions than this times k, it fits on a sample", minimum=1
    )
    samples: int = option(24, "crops on a cluster's contact sheet", minimum=1, maximum=200)


@dataclass(frozen=True)
class NetworkOptions(Options):
    """Which network, and the size of its input."""

    kind: str = option(
        "small",
        "small: convolutional, learns in minutes on a CPU; segmenter: a vision transformer",
        choices=("small", "segmenter"),
    )
    height: int = option(192, "height that images are resized to, a multiple of 4", unit="px", minimum=32, maximum=4096)
    width: int = option(640, "width that images are resized to, a multiple of 4", unit="px", minimum=32, maximum=8192)
    channels: int = option(32, "small: channels at stride 4; deeper stages have 2, 4 and 6 times as many", minimum=8)
    backbone: str = option("vit_small_patch16_224.dino", "segmenter: timm's name of a plain vision transformer")
    pretrained: str = option("none", "segmenter: weights of the backbone: none, hub, or a .safetensors file")
    head: str = option("mask", "segmenter: mask transformer or linear layer", choices=("mask", "linear"))
    head_layers: int = option(1, "segmenter: layers of the mask transformer", minimum=1, maximum=12)


@dataclass(frozen=True)
class AugmentationOptions(Options):
    """How images are varied while training; targets are moved with them."""

    flip: float = option(0.5, "how often an image is mirrored left to right", minimum=0, maximum=1)
    smallest: float = option(0.8, "smallest random scale; the margin is unlabelled", minimum=0.2, maximum=1)
    largest: float = option(1.5, "largest random scale; what sticks out is cropped", minimum=1, maximum=5)
    colour: float = option(0.3, "strength of changes of brightness, contrast and saturation", minimum=0, maximum=1)


@dataclass(frozen=True)
class FitOptions(Options):
    """One training: steps, optimiser, loss."""

    steps: int = option(1000, "optimiser steps", minimum=1)
    batch: int = option(2, "images per step", minimum=1)
    learning_rate: float | None = option(
        None,
        "highest learning rate, reached after the warm-up; none: 0.002 for small, 0.0001 for segmenter",
        minimum=0,
    )
    warmup: int = option(40, "steps in which the learning rate rises", minimum=0)
    weight_decay: float = option(0.01, "decay of matrices and kernels (AdamW)", minimum=0)
    clip: float = option(1.0, "largest norm of the gradient; 0 for no limit", minimum=0)
    balance: str = option(
        "region",
        "what weighs alike in the loss: none (pixels), class (classes by square root of their share), "
        "region (regions by square root of their size)",
        choices=("none", "class", "region"),
    )
    ema: float = option(
        0.0, "decay per step of averaged weights, kept instead of the last ones; 0: none", minimum=0, maximum=0.99999
    )
    log_every: int = option(20, "steps between points of the curves", minimum=1)
    checkpoint_every: int = option(200, "steps between checkpoints", minimum=1)
    augmentation: AugmentationOptions = AugmentationOptions()


@dataclass(frozen=True)
class TargetOptions(Options):
    """What the student learns from the teacher."""

    targets: str = option("soft", "soft: probabilities; hard: the likeliest class", choices=("soft", "hard"))
    constraint: str = option(
        "mean",
        "how predictions become one inside each LiDAR proposal: mean of probabilities, majority of classes, or none",
        choices=("mean", "majority", "none"),
    )
    support: int = option(4, "cells of 4x4 pixels that a proposal needs for that", minimum=1)
    ground: bool = option(False, "treat ground as one proposal too")
    flip: bool = option(True, "average the teacher over the image and its mirror image")
    temperature: float = option(1.0, "divides the teacher's logits before the soft-max", minimum=0.01, maximum=100)


@dataclass(frozen=True)
class DeviceOptions(Options):
    """Where to compute."""

    accelerator: str = option("auto", "hardware, by Lightning's names", choices=("auto", "cpu", "gpu", "cuda", "mps"))
    precision: str = option("32-true", "arithmetic, by Lightning's names", choices=("32-true", "bf16-mixed"))
    threads: int = option(0, "threads of the CPU; 0 leaves it to torch", minimum=0)
    cache: float = option(
        4.0, "memory for decoded images; what does not fit is decoded again each time", unit="GB", minimum=0
    )


@dataclass(frozen=True)
class TrainOptions(Options):
    """`dseg train`: teacher, then student."""

    labels: str = option("default", "which labels under FRAMES/labels/ to learn from")
    seed: int = option(0, "seed of initialisation, sampling and augmentation", minimum=0)
    network: NetworkOptions = NetworkOptions()
    teacher: FitOptions = FitOptions()
    targets: TargetOptions = TargetOptions()
    student: FitOptions = FitOptions()
    student_from: str = option(
        "scratch", "the student's first weights: new ones, or the teacher's", choices=("scratch", "teacher")
    )
    device: DeviceOptions = DeviceOptions()


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
class ExportOptions(Options):
    """`dseg export`: student to ONNX."""

    out: Path | None = option(None, "model file to write; none: RUN/model.onnx")
    name_classes: Path | None = option(
        None,
        "classes.yaml that names the clusters; none takes the run's where it was edited, else the one that the labels "
        "have by now",
    )
    height: int = option(0, "height of the images it will get; 0: of the frames' images", unit="px", minimum=0)
    width: int = option(0, "width of the images it will get; 0: of the frames' images", unit="px", minimum=0)
    decode_stride: int = option(
        4, "classes are decided once per square of so many pixels of the network's input", unit="px", minimum=1
    )
    frames: Path | None = option(None, "frames to compare with torch on; none: those it was trained on")
    check_frames: int = option(8, "images to compare on", minimum=1)


@dataclass(frozen=True)
class SegmentOptions(Options):
    """`dseg segment`: masks from a model."""

    out: Path = option(Path("masks"), "folder for masks, overlay video and bag")
    topics: tuple[str, ...] = option((), "bags: image topics; none takes one of each camera")
    backend: str = option(
        "auto",
        "what runs the model; auto: torch for the folder of a run, else ONNX Runtime",
        choices=("auto", "onnxruntime", "torch"),
    )
    threads: int = option(0, "threads of the CPU; 0: all cores that it may use", minimum=0)
    video: bool = option(True, "write an overlay video of each camera")
    bag: bool = option(True, "bags: write a bag with mask topics")
    rate: float = option(10.0, "folders: images per second of the overlay video", unit="Hz", minimum=0.1, maximum=1000)
    strength: float = option(0.5, "how much the mask covers the image in the overlay", minimum=0, maximum=1)


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
        "demo", "demo: 100 sweeps, about 5 minutes on 2 cores; small: a minute, for tests", choices=("demo", "small")
    )
    seed: int = option(0, "which simulated worlds, and the seed of clustering and training", minimum=0, maximum=10000)
