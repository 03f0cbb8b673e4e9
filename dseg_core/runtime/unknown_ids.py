"""Ids in masks that a model's metadata has no class for: its maker's mistake, which a picture does not show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dseg_core.records import UNLABELLED
from dseg_core.runtime.tensorrt_library import LOG
from dseg_core.words import count


def has_unknown(mask: NDArray[np.uint8], classes: int) -> bool:
    """Whether a mask, uint8 (H, W), has an id that none of `classes` has and that is not unlabelled, 255."""
    # One more, so that 255 becomes 0 and every id that is allowed is at most the number of classes.
    return bool(mask.size) and int((mask + np.uint8(1)).max()) > classes


class UnknownIds:
    """Looks at every mask, in a tenth of a millisecond for a million pixels, and says once what is wrong.

    Args:
        classes: How many the model has; their ids are 0, 1, ... and 255 is unlabelled.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._found: set[int] = set()
        self._masks = 0

    def look(self, mask: NDArray[np.uint8]) -> None:
        """Note a mask's ids, uint8 (H, W)."""
        if not has_unknown(mask, self._classes):
            return
        first = not self._found
        self._masks += 1
        counts = np.bincount(mask.ravel(), minlength=256)
        self._found |= {i for i in range(self._classes, UNLABELLED) if counts[i]}
        if first:
            LOG.warning("%s", self.told())

    def told(self) -> str:
        """What was found, in words, or nothing."""
        if not self._found:
            return ""
        ids = ", ".join(map(str, sorted(self._found)))
        return (
            f"the model's masks have ids of none of its {self._classes} classes: {ids} ({count(self._masks, 'mask')})"
        )
