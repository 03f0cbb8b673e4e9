"""Options of `dseg inspect`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dseg_core.options import Options, option
from dseg_core.stage_options.record import RecordOptions, SelectionOptions


@dataclass(frozen=True)
class CheckOptions(Options):
    """How the calibration is checked."""

    frames: int = option(40, "frames whose depth edges are compared with the images' edges; 0: no check", minimum=0)
    rotation: float = option(3.0, "largest rotation that is looked for", unit="deg", minimum=0.5, maximum=10)
    offset: float = option(0.12, "largest time offset that is looked for", unit="s", minimum=0, maximum=1)


@dataclass(frozen=True)
class InspectOptions(SelectionOptions):
    """`dseg inspect`: what `dseg record` would do, with the same options."""

    json: bool = option(False, "print one JSON object instead of the report")
    out: Path | None = option(None, "folder for the picture inspect-BAG.png; none is the working folder")
    check: CheckOptions = CheckOptions()

    def of_record(self) -> RecordOptions:
        """The options of the recording that is told about."""
        shared = {name: value for name, value in vars(self).items() if name not in ("json", "out", "check")}
        return RecordOptions(**shared)
