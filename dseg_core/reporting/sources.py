"""What a report is made from: the folders that exist, opened once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dseg_core.errors import DsegError
from dseg_core.stage_options import ReportOptions
from dseg_core.store import FrameStore


@dataclass(frozen=True)
class Frames:
    """A folder of frames that the page shows. `summary`: of the `record` run that wrote it."""

    path: Path
    store: FrameStore
    summary: dict[str, Any]

    @classmethod
    def open(cls, path: Path | None) -> Frames | None:
        """Open a folder, or nothing where none was given. Raises DsegError when it is not a folder of frames."""
        if path is None:
            return None
        store, summary = FrameStore(path), read_summary(path)
        if "drives" not in summary["results"]:
            raise DsegError(
                f"summary.json is of `dseg {summary['command']}`, not of recording",
                where=path,
                fix="Record again into a folder of its own, and train into another",
            )
        return cls(path, store, summary)


@dataclass(frozen=True)
class Sources:
    """Everything given. `run`, `masks`: folders of `dseg train`, `dseg segment`; None where none was given."""

    options: ReportOptions
    frames: Frames | None
    test: Frames | None
    run: Path | None
    masks: Path | None

    @classmethod
    def open(cls, options: ReportOptions) -> Sources:
        """Open the given folders. Raises DsegError when one does not hold what its option says."""
        for name, path in (("run", options.run), ("masks", options.masks)):
            if path is not None and not path.is_dir():
                raise DsegError("is not a folder", where=path, fix=f"--{name} wants the folder that the stage wrote.")
        if options.masks is not None and (command := read_summary(options.masks).get("command")) != "segment":
            fix = "--masks wants the folder that `dseg segment` wrote"
            raise DsegError(f"holds what `dseg {command}` made", where=options.masks, fix=fix)
        return cls(
            options,
            Frames.open(options.frames),
            Frames.open(options.test_frames),
            options.run,
            options.masks,
        )

    @property
    def shown(self) -> Frames | None:
        """The frames that masks are shown on: those not trained on, where there are any."""
        return self.test or self.frames


def read_summary(folder: Path) -> dict[str, Any]:
    """The `summary.json` of a finished run: command, options, results, text. Raises DsegError without one."""
    path = folder / "summary.json"
    try:
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DsegError("has no summary.json", where=folder, fix="Let the stage that writes it finish first.") from None
    except json.JSONDecodeError as error:
        raise DsegError(f"is not JSON: {error}", where=path, fix="Run the stage that writes it again.") from None
    return summary
