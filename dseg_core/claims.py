"""Claims between processes on what they are making in a folder; the system lets go of those of processes that end."""

from __future__ import annotations

import fcntl
import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NAME = "dseg.claims"
_LOOK_AGAIN, _LONGEST = 0.005, 60.0  # seconds; a process that was stopped would hold its claims for ever
_held: set[tuple[Path, int]] = set()
os.register_at_fork(after_in_child=_held.clear)  # the system gives a child none of its parent's locks


@contextmanager
def claim(
    folder: Path, number: int, shared: bool = False, wait: bool = True, meanwhile: Callable[[], None] = lambda: None
) -> Iterator[bool]:
    """Hold one of a folder's numbers for this process; again within itself. For one thread of a process at a time.

    Args:
        folder: It exists.
        number: From 0 to 2**32 - 1.
        shared: With others that share it: for what they read.
        wait: For who holds it, up to a minute.
        meanwhile: Called while it waits; what it raises ends that.

    Yields:
        Whether it is held. Where the file system has no locks, or nothing can be written, it is.
    """
    place, file = (folder, number), _file(folder)
    if file is None or place in _held:
        yield True
        return
    until = time.monotonic() + _LONGEST if wait else 0.0
    while not (is_taken := _take(file, number, shared)) and time.monotonic() < until:
        meanwhile()
        time.sleep(_LOOK_AGAIN)
    if not is_taken:
        yield False
        return
    _held.add(place)
    try:
        yield True
    finally:
        _held.remove(place)
        with suppress(OSError):
            fcntl.lockf(file, fcntl.LOCK_UN, 1, number)


def _take(file: int, number: int, shared: bool) -> bool:
    try:
        fcntl.lockf(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB, 1, number)
    except (BlockingIOError, PermissionError):  # either may tell that another holds it
        return False
    except OSError:  # no locks on this file system
        return True
    return True


@functools.cache
def _file(folder: Path) -> int | None:
    """Its file, open for as long as the process lives: closing it anywhere would let go of all that it holds."""
    try:
        return os.open(folder / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        return None
