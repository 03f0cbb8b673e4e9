"""The one exception a user is meant to read."""

from __future__ import annotations

import errno
import unicodedata
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_DENIED = (errno.EACCES, errno.EPERM)


class DsegError(Exception):
    """Something the user can mend: says what, where and how, in one line.

    The library raises it and never exits; the command line prints it and returns 1.

    Args:
        what: What is wrong, with the offending value.
        where: The file, topic or option it was found in.
        fix: What to do about it, as an imperative.
    """

    def __init__(self, what: str, *, where: str | Path = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, str(where), fix
        line = f"{where}: {what}" if where else what
        super().__init__(printable(f"{line}. {fix}" if fix else line))


class OptionError(DsegError):
    """An option that does not exist, has the wrong type or is out of range; the command line returns 2."""


def system_error(error: OSError, where: str | Path = "input or output") -> DsegError:
    """A full disk, a folder of others: in the system's words, with the file that it names, and what to do.

    Args:
        error: Of the system.
        where: The file or folder, where the error names none.
    """
    what, fix = error.strerror or str(error), ""
    if isinstance(error, FileExistsError | NotADirectoryError):
        what, fix = "is a file where a folder is needed", "Give another place"
    elif isinstance(error, IsADirectoryError):
        what, fix = "is a folder where a file is needed", "Give another name"
    elif isinstance(error, FileNotFoundError):
        what, fix = "does not exist", "Give a file that is there"
    elif error.errno in _FULL:
        fix = "Free some space there, or write elsewhere"
    elif error.errno == errno.EFBIG:  # on a full disk there would be room
        fix = "Write to a disk whose file system takes larger files, or raise `ulimit -f`"
    elif error.errno in _DENIED:
        fix = "`ls -ld` shows who may read and write there; allow it, or give another place"
    elif error.errno == errno.EROFS:
        fix = "Write elsewhere"
    elif error.errno == errno.EIO:
        fix = "Look at its disk, which may be full or failing"
    return DsegError(what, where=error.filename or where, fix=fix)


def printable(line: str) -> str:
    """A line with control characters as escapes: names in bags and on disks may hold what a terminal obeys."""
    return "".join(repr(c)[1:-1] if unicodedata.category(c).startswith("C") else c for c in line)
