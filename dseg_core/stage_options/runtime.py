"""Options of `dseg export` and `dseg segment`: from a run to masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dseg_core.errors import OptionError
from dseg_core.options import Options, option


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
    merge: str = option(
        "likeliest",
        "what clusters of one name decide: likeliest, the name of the likeliest cluster; sum, the name whose clusters "
        "are likeliest together",
        choices=("likeliest", "sum"),
    )
    frames: Path | None = option(None, "frames to compare with torch on; none: those it was trained on")
    check_frames: int = option(8, "images to compare on", minimum=1)

    def __post_init__(self) -> None:
        """Check the size. Raises OptionError."""
        super().__post_init__()
        for name in ("height", "width"):
            if 0 < getattr(self, name) < 16:
                raise OptionError(f"{name} = {getattr(self, name)} must be 0 or at least 16 px")


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
