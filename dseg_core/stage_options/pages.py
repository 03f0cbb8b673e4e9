"""Options of `dseg report` and `dseg demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dseg_core.options import Options, option


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
