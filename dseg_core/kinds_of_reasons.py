"""Few reasons, however different the numbers in them are: what is counted by reason has an end."""

from __future__ import annotations

import re

OTHERS = "other reasons"
_NUMBERS = re.compile(r"(?<![A-Za-z_0-9])[0-9]+(\.[0-9]+)?")  # 17.5 ms, but not camera_2 or rgb8
MOST = 200
"""As many as many cameras may have, each a few of its own."""


class KindsOfReasons:
    """Reasons that differ in numbers only, as stamps and sizes, are one, told as the first was.

    What there is no end of in messages, like names, makes `other reasons` in the end: a node runs for weeks.

    Args:
        most: Kinds that are told apart.
    """

    def __init__(self, most: int = MOST) -> None:
        self._first: dict[str, str] = {}
        self._most = most

    def told(self, reason: str) -> str:
        """The first reason of its kind."""
        kind = _NUMBERS.sub("0", reason)
        if kind not in self._first and len(self._first) >= self._most:
            kind = reason = OTHERS
        return self._first.setdefault(kind, reason)
