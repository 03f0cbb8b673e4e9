"""Options of `dseg view`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dseg_core.errors import OptionError
from dseg_core.options import Options, option


@dataclass(frozen=True)
class ViewOptions(Options):
    """`dseg view`: frames in Rerun's viewer."""

    save: Path | None = option(
        None,
        "write an .rrd file instead of opening a window; none, where there is no display: FRAMES.rrd beside the frames",
    )
    connect: str = option("", "address of a viewer that runs, such as rerun+http://HOST:9876/proxy")
    drive: str = option("", "show this drive only")
    every: int = option(1, "show every Nth frame of each drive", minimum=1)
    max_frames: int = option(0, "show so many frames of each drive; 0 shows all", minimum=0)

    def __post_init__(self) -> None:
        """Check where to. Raises OptionError."""
        super().__post_init__()
        if self.save is not None and self.connect:
            raise OptionError("save and connect are two places", fix="Give one of them")
        if self.save is not None and self.save.suffix != ".rrd":
            raise OptionError(f"save = {str(self.save)!r} must end in .rrd, as Rerun's files do")
