"""How often something went wrong, by reason: few reasons, however different the numbers in them are."""

from __future__ import annotations

from collections import Counter

from dseg_core.errors import printable
from dseg_core.kinds_of_reasons import KindsOfReasons

_MOST = 20


class Reasons(Counter[str]):
    """Counts by reason, of one kind each, see `KindsOfReasons`."""

    def __init__(self) -> None:
        super().__init__()
        self._kinds = KindsOfReasons(_MOST)

    def add(self, reason: str) -> bool:
        """Count one; whether it is the first of its kind, and so worth a line in the log."""
        told = printable(self._kinds.told(reason))
        self[told] += 1
        return self[told] == 1
