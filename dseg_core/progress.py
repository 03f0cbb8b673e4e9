"""Progress bars, and the summary every run ends with."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dseg_core.errors import DsegError, system_error
from dseg_core.options import Options

T = TypeVar("T")


def progress(
    items: Iterable[T], what: str, total: int | None = None, unit: str = "it", note: Callable[[], str] | None = None
) -> Iterator[T]:
    """Iterate with a bar on stderr: live on a terminal, a line every 20 s elsewhere (logs stay readable).

    There is no bar where it is known that there is nothing to do. `note` is asked after every item for words to show
    behind the bar.
    """
    if total == 0 or (isinstance(items, Sized) and len(items) == 0):
        yield from items
        return
    from tqdm import tqdm

    interval = 0.1 if sys.stderr.isatty() else 20.0
    bar = tqdm(items, desc=what, total=total, unit=unit, mininterval=interval, dynamic_ncols=True, leave=True)
    for item in bar:
        yield item
        if note is not None:
            bar.set_postfix_str(note(), refresh=False)


@contextmanager
def share_bar(what: str) -> Iterator[Callable[[float], None]]:
    """A bar like that of `progress` for work that tells its share, 0 to 1; none is shown where it tells nothing."""
    from tqdm import tqdm

    bar: Any = None

    def show(share: float) -> None:
        nonlocal bar
        if bar is None:
            interval = 0.1 if sys.stderr.isatty() else 20.0
            form = "{l_bar}{bar}| {elapsed}"
            bar = tqdm(desc=what, total=100, mininterval=interval, dynamic_ncols=True, bar_format=form)
        bar.update(round(100 * share) - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()


@contextmanager
def announced(what: str, after: float = 1.0) -> Iterator[None]:
    """Say on a terminal what goes on, where the block takes longer than so many seconds."""
    timer = threading.Timer(after, lambda: print(f"{what} ...", file=sys.stderr, flush=True))
    if sys.stderr.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


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


_MARKS = {"record.yaml": "record", "run.json": "train", "job.json": "segment", "commands.txt": "demo"}
"""What a command writes first: a run that was cut off has no summary yet."""


def claim(folder: Path, command: str, inputs: Iterable[Path] = ()) -> None:
    """Refuse a folder to write that is read, that is another's, or that takes no files; one that is missing is free.

    Nothing is left there, and where a run was finished nothing is written.

    Args:
        folder: What `command` will write into.
        command: Its name, as in `summary.json`.
        inputs: Folders (or files) that it reads.

    Raises:
        DsegError: `folder` is one of the inputs, a file or a bag, what another command wrote is in it, or it cannot be
            written into.
    """
    from dseg_core.store import read_json  # the command line imports this module at its start

    fix = "Give another folder to write to"
    if any(folder.resolve() == path.resolve() for path in inputs):
        raise DsegError("is what is read", where=folder, fix=fix)
    if folder.is_file():
        raise DsegError("is a file", where=folder, fix=fix)
    summary = folder / "summary.json"
    if summary.is_file():
        owner = read_json(summary).get("command")
        if owner is None:
            raise DsegError("holds a summary.json that is none of dseg's", where=folder, fix=fix)
    else:
        owner = next((name for mark, name in _MARKS.items() if (folder / mark).is_file()), None)
        if owner is None and (folder / "metadata.yaml").is_file():
            raise DsegError("is a bag", where=folder, fix=fix)
    if owner not in (None, command):
        raise DsegError(f"holds what `dseg {owner}` made", where=folder, fix=fix)
    if not summary.is_file():  # what is finished may lie on a disk that is only read
        check_writable(folder)


def check_writable(folder: Path) -> None:
    """See that files can be written into a folder, or that it can be made, before anything takes long.

    Raises:
        DsegError: They cannot; it names the folder that is in the way.
    """
    place = folder
    try:
        while not place.exists():
            place = place.parent
        with tempfile.TemporaryFile(dir=place):  # permissions alone tell little: of root, of disks that are only read
            pass
    except FileNotFoundError:  # of a folder that is there: /proc and the like
        raise DsegError("no files can be made there", where=place, fix="Write elsewhere") from None
    except OSError as error:
        error.filename = str(place)  # not of a file that nobody has heard of
        raise system_error(error) from None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all: temporary file beside it, fsync, rename.

    Raises:
        OSError: Of `path`, whichever step failed.
    """
    with of_file(path):
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
            with suppress(OSError):  # as where the folder could be made, but nothing in it
                temporary.unlink(missing_ok=True)


@contextmanager
def of_file(path: Path) -> Iterator[None]:
    """Have errors of the system in the block name a file: a full disk names none, and temporary names tell nobody."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def sync_folder(folder: Path) -> None:
    """Wait until a folder's names are on the disk: a renamed file is lost in a power cut before that."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
