"""The nodes' options: their ROS parameters, their files in config/ and their documentation come from these classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dseg_core.options import Options, option
from dseg_core.stage_options import EngineOptions, LiveOptions
from dseg_core.stage_options.engine import BACKENDS


@dataclass(frozen=True)
class QosOptions(Options):
    """Quality of service of the sensors' subscriptions."""

    reliability: str = option(
        "best_effort",
        "best_effort fits every publisher; reliable asks for what was lost again, and only of reliable publishers",
        choices=("best_effort", "reliable"),
    )
    depth: int = option(1, "messages that wait in the middleware", minimum=1, maximum=1000)


@dataclass(frozen=True)
class SegmenterOptions(Options):
    """`ros2 run dseg_ros segmenter`: images to masks, live.

    `LIVE` names the options that may change while the node runs.
    """

    LIVE = ("model", "backend", "threads", "min_confidence", "overlay_strength")

    autostart: bool = option(True, "configure and activate at start, without a lifecycle manager")
    model: Path | None = option(None, "model.onnx of `dseg export`; may change while the node runs")
    backend: str = option("auto", "what runs the model", choices=BACKENDS)
    threads: int = option(0, "of the CPU for the model; 0 takes all cores that the node may use", minimum=0)
    image_transport: str = option(
        "raw", "compressed subscribes IMAGE/compressed (JPEG, PNG) instead", choices=("raw", "compressed")
    )
    mask_size: str = option("image", "size of masks: the image's, or the model's own", choices=("image", "model"))
    min_confidence: float = option(
        0.0, "pixels whose class is less probable are unlabelled (255) in the mask", minimum=0, maximum=1
    )
    overlay_strength: float = option(0.5, "share of the colour mask in the overlay", minimum=0, maximum=1)
    engine: EngineOptions = EngineOptions()
    qos: QosOptions = QosOptions()
    calibration: Path | None = option(None, "file with transforms (YAML), where there is no /tf_static")
    point_tolerance: float = option(
        0.06, "farthest in time that a cloud may be from the mask that paints it", unit="s", minimum=0, maximum=10
    )
    tf_timeout: float = option(0.1, "longest wait for /tf of a cloud's and its mask's stamps", unit="s", minimum=0)
    label_info_period: float = option(5.0, "time between two label_info", unit="s", minimum=0.1)
    diagnostics_period: float = option(1.0, "time between two /diagnostics", unit="s", minimum=0.1)


@dataclass(frozen=True)
class QueuedQosOptions(QosOptions):
    """The same where every message counts."""

    depth: int = option(5, "messages that wait in the middleware", minimum=1, maximum=1000)


@dataclass(frozen=True)
class RecorderOptions(LiveOptions):
    """`ros2 run dseg_ros recorder`: sensors to frames, live.

    `LIVE` names the options that may change while the node runs.
    """

    LIVE = ()

    autostart: bool = option(True, "configure and activate at start, without a lifecycle manager")
    qos: QueuedQosOptions = QueuedQosOptions()
    diagnostics_period: float = option(1.0, "time between two /diagnostics", unit="s", minimum=0.1)


NODES: dict[str, type[Options]] = {"recorder": RecorderOptions, "segmenter": SegmenterOptions}
"""The options of every executable."""
