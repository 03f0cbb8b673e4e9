"""How often something went wrong, by reason: few reasons, however different the numbers in them are."""

from __future__ import annotations

import re
from collections import Counter

from dseg_core.errors import printable

_NUMBERS = re.compile(r"(?<![A-Za-z_0-9])[0-9]+(\.[0-9]+)?")  # 17.5 ms, but not camera_2 or rgb8
_KINDS = 20
_OTHERS = "other reasons"


class Reasons(Counter[str]):
    """Counts by reason. Reasons that differ in numbers only, as stamps and sizes, are one, told as the first was.

    What there is no end of in messages, like names, makes `other reasons` in the end: a node runs for weeks.
    """

    def __init__(self) -> None:
        super().__init__()
        self._first: dict[str, str] = {}

    def add(self, reason: str) -> bool:
        """Count one; whether it is the first of its kind, and so worth a line in the log."""
        kind = _NUMBERS.sub("0", reason)
        if kind not in self._first and len(self._first) >= _KINDS:
            kind = reason = _OTHERS
        told = self._first.setdefault(kind, printable(reason))
        self[told] += 1
        return self[told] == 1
