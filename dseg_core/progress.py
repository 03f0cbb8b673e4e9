"""Progress bars, and the summary every run ends with."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dseg_core.options import Options

T = TypeVar("T")


def progress(
    items: Iterable[T], what: str, total: int | None = None, unit: str = "it", note: Callable[[], str] | None = None
) -> Iterator[T]:
    """Iterate with a bar on stderr: live on a terminal, a line every 20 s elsewhere (logs stay readable).

    `note` is asked after every item for words to show behind the bar.
    """
    from tqdm import tqdm

    interval = 0.1 if sys.stderr.isatty() else 20.0
    bar = tqdm(items, desc=what, total=total, unit=unit, mininterval=interval, dynamic_ncols=True, leave=True)
    for item in bar:
        yield item
        if note is not None:
            bar.set_postfix_str(note(), refresh=False)


@dataclass(frozen=True)
class Summary:
    """What a run made.

    `text`: one paragraph for people. `results`: the numbers, plain JSON types. `problems`: what went wrong though
    the run went on to its end, a line each; with any, the command's exit status is 1.
    """

    text: str
    results: dict[str, Any]
    problems: tuple[str, ...] = ()

    def write(self, folder: Path, command: str, options: Options) -> Summary:
        """Write `folder/summary.json` (whole or not at all) and return self."""
        content = {"command": command, "options": options.to_dict(), "results": self.results, "text": self.text}
        if self.problems:
            content["problems"] = list(self.problems)
        write_whole(folder / "summary.json", (json.dumps(content, indent=2) + "\n").encode())
        return self


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all: temporary file beside it, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until a folder's names are on the disk: a renamed file is lost in a power cut before that."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
