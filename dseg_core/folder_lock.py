"""One run at a time in a folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dseg_core.errors import DsegError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder, made when missing, for this process; the system lets go of it when the process ends in any way.

    Raises:
        DsegError: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DsegError(
                "another run is writing here", where=folder, fix="Wait for it, or use another folder"
            ) from None
        yield
