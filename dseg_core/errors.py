"""The one exception a user is meant to read."""

from __future__ import annotations

import unicodedata
from pathlib import Path


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


def printable(line: str) -> str:
    """A line with control characters as escapes: names in bags and on disks may hold what a terminal obeys."""
    return "".join(repr(c)[1:-1] if unicodedata.category(c).startswith("C") else c for c in line)


def one_line(error: BaseException) -> str:
    """Another library's error in one line; where it has no words, what it is called."""
    return " ".join(str(error).split()) or type(error).__name__
