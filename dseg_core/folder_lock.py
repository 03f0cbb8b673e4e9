"""One run at a time in a folder."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from dseg_core.errors import DsegError
from dseg_core.progress import of_file


@contextmanager
def locked(folder: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a folder, made when missing, for this process; the system lets go of it when the process ends in any way.

    Args:
        folder: To hold.
        waiting: Called ten times a second while another holds it; what it raises ends the waiting. None: no waiting.

    Raises:
        DsegError: Another process, or another thread, holds it, and there is no `waiting`; or it cannot be locked.
    """
    while True:
        with of_file(folder):
            folder.mkdir(parents=True, exist_ok=True)
            file = (folder / ".lock").open("a")
        with file:
            _take(file, folder, waiting)
            if _is_there(folder / ".lock", file):
                yield
                return


def _is_there(path: Path, file: TextIO) -> bool:
    """Whether a file is still that of its name: who held it before may have removed it, and another made one."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _take(file: TextIO, folder: Path, waiting: Callable[[], None] | None) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if waiting is None:
                raise DsegError(
                    "another run is writing here", where=folder, fix="Wait for it, or use another folder"
                ) from None
        except OSError as error:  # of a network's file system without locks
            raise DsegError(f"cannot be locked: {error.strerror}", where=folder, fix="Use another folder") from None
        waiting()
        time.sleep(0.1)
