"""Options of `dseg export` and `dseg segment`: from a run to engines and masks."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from dseg_core.errors import DsegError, OptionError
from dseg_core.options import Options, option
from dseg_core.runtime.size_range import SizeRange
from dseg_core.stage_options.engine import BACKENDS, ENGINE_SUFFIXES, EngineOptions

_LEAST = 16  # px, of a side of the images


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
    sizes: tuple[str, ...] = option(
        (),
        "for images of any size in a range, instead of height and width: the smallest, the usual and the largest, as "
        "640x360,1280x720,1920x1080",
    )
    batch: int = option(1, "images that it gets at once, such as one of each camera", minimum=1, maximum=64)
    fit: str = option(
        "trained",
        "how images are brought to the network's size; trained: as its training did; stretch; letterbox, which keeps "
        "their aspect and fills margins with the mean colour",
        choices=("trained", "stretch", "letterbox"),
    )
    confidence: bool = option(True, "give the confidence of each pixel too")
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
    precision: str = option(
        "fp32",
        "of the network's arithmetic; fp16 keeps layer norms, soft-max and logits in 32 bits; int8 and fp8 are "
        "calibrated on recorded images and made for TensorRT, fp8 for GPUs from compute capability 8.9 on",
        choices=("fp32", "fp16", "int8", "fp8"),
    )
    calibration_frames: int = option(32, "int8, fp8: images to calibrate on, others than those compared on", minimum=1)
    max_miou_loss: float | None = option(
        None,
        "most mIoU that may be lost, as a share (0.02 is 2 percentage points), with torch's fp32 masks for the truth, "
        "and with the labels beside torch's own; with more the export fails; none: 0.02 for fp16, 0.1 for int8 and "
        "fp8; fp32 must give torch's class in 99.9 % of pixels",
        minimum=0,
        maximum=1,
    )
    clear_margin: float = option(
        0.2,
        "a pixel's class is clear when its probability, of 1, is so much above the second one's",
        minimum=0,
        maximum=1,
    )
    max_clear_wrong: float | None = option(
        None,
        "largest share of the clear pixels (0.001 is 0.1 %) that may have another class than torch gives; with more, "
        "or where none is clear, the export fails; none: 0.001 for fp16, 0.01 for int8 and fp8",
        minimum=0,
        maximum=1,
    )
    max_confidence_error: float | None = option(
        None,
        "most that the confidence, of 1, may be from torch's in the mean (0.005 is half a percentage point), and a "
        "tenth of what it may be in any one pixel; with more the export fails; none: 0.002 for fp32, 0.005 for fp16, "
        "0.03 for int8 and fp8",
        minimum=0,
        maximum=1,
    )

    engine: str = option(
        "none",
        "build an engine of the model too, for the GPU that is here, keep it for `dseg segment` and the node, and "
        "compare its masks with the model's",
        choices=("none", "tensorrt", "tensorrt_rtx"),
    )
    capability: str = option(
        "",
        "build it for all GPUs of this compute capability, such as 8.9, which need not be here; tensorrt_rtx only: "
        "tensorrt builds for the GPU that is here",
    )
    build_only: bool = option(False, "do not run the engine that is built")
    engine_out: Path | None = option(
        None, "file to write the engine to as well; what it is goes to FILE.json beside it"
    )
    build: EngineOptions = EngineOptions()

    def __post_init__(self) -> None:
        """Check the size and what belongs to the engine. Raises OptionError."""
        super().__post_init__()
        self._check_engine()
        for name in ("height", "width"):
            if 0 < getattr(self, name) < _LEAST:
                raise OptionError(f"{name} = {getattr(self, name)} must be 0 or at least {_LEAST} px")
        if self.size_range is not None and (self.height or self.width):
            raise OptionError("sizes goes without height and width", fix="Give the one or the others")

    @property
    def size_range(self) -> SizeRange | None:
        """`sizes`, or None where there are none. Raises OptionError."""
        if not self.sizes:
            return None
        fix = "Give the smallest, the usual and the largest size, such as 640x360,1280x720,1920x1080"
        found = [re.fullmatch("([0-9]{1,5})x([0-9]{1,5})", text) for text in self.sizes]
        sizes = [(int(match[2]), int(match[1])) for match in found if match]
        if len(self.sizes) != 3 or len(sizes) != 3:
            raise OptionError(f"sizes = {','.join(self.sizes)} is not three sizes", fix=fix)
        if min(sizes[0]) < _LEAST:
            raise OptionError(f"sizes = {','.join(self.sizes)} must be at least {_LEAST} px", fix=fix)
        try:
            return SizeRange(*sizes)
        except DsegError as error:
            raise OptionError(error.what, fix=error.fix) from None

    @property
    def chosen_fit(self) -> str | None:
        """`fit`, or None where it is as trained."""
        return None if self.fit == "trained" else self.fit

    def _check_engine(self) -> None:
        if self.engine == "none":
            given = [name for name in ("capability", "build_only", "engine_out") if getattr(self, name)]
            if given:
                raise OptionError(
                    f"{given[0]} is about an engine", fix="Say which with --engine tensorrt or tensorrt_rtx"
                )
        if self.capability and self.engine == "tensorrt":
            raise OptionError(
                f"capability = {self.capability!r}: tensorrt builds only for the GPU of the machine that it runs on",
                fix="Run it without --capability on the vehicle itself; --engine tensorrt_rtx builds for desktop RTX "
                "cards that are not here",
            )
        if self.capability and not re.fullmatch(r"[1-9][0-9]?\.[0-9]", self.capability):
            raise OptionError(f"capability = {self.capability!r} must be like 8.9")
        if self.capability and not self.build_only:
            raise OptionError("an engine for other GPUs cannot be run here", fix="Add --build-only")
        if self.engine_out is not None and self.engine_out.suffix not in ENGINE_SUFFIXES:
            raise OptionError(f"engine_out = {self.engine_out} must end in {' or '.join(ENGINE_SUFFIXES)}")

    def without_engine(self) -> ExportOptions:
        """What decides the model file; engines are made of it."""
        return replace(self, engine="none", capability="", build_only=False, engine_out=None, build=EngineOptions())


@dataclass(frozen=True)
class SegmentOptions(Options):
    """`dseg segment`: masks from a model."""

    out: Path = option(Path("masks"), "folder for masks, overlay video and bag")
    topics: tuple[str, ...] = option((), "bags: image topics; none takes one of each camera")
    backend: str = option(
        "auto",
        "what runs the model; auto: torch for the folder of a run, else the first of the next that can run here",
        choices=BACKENDS,
    )
    threads: int = option(0, "threads of the CPU; 0: all cores that it may use", minimum=0)
    video: bool = option(True, "write an overlay video of each camera")
    bag: bool = option(True, "bags: write a bag with mask topics")
    rate: float = option(10.0, "folders: images per second of the overlay video", unit="Hz", minimum=0.1, maximum=1000)
    strength: float = option(0.5, "how much the mask covers the image in the overlay", minimum=0, maximum=1)
    engine: EngineOptions = EngineOptions()
