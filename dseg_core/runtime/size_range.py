"""The sizes of images that a model takes when they are not fixed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dseg_core.errors import DsegError

Size = tuple[int, int]
"""(height, width) in pixels."""

_NAMES = ("min", "opt", "max")


@dataclass(frozen=True)
class SizeRange:
    """Sizes from `smallest` to `largest`, each side by itself; `usual` is what an engine is made fastest for.

    Raises:
        DsegError: A size below 1 x 1, or one that is not between the two others.
    """

    smallest: Size
    usual: Size
    largest: Size

    def __post_init__(self) -> None:
        for low, usual, high in zip(self.smallest, self.usual, self.largest, strict=True):
            if not 1 <= low <= usual <= high:
                raise DsegError(
                    f"the sizes {self} do not grow", fix="Give the smallest, the usual and the largest, in this order"
                )

    def __str__(self) -> str:
        return ", ".join(f"{width}x{height}" for height, width in (self.smallest, self.usual, self.largest))

    def fit(self, size: Size) -> Size:
        """The size that an image of `size` is brought to: its own if that is in the range, else the nearest by scale.

        The aspect is kept as far as the range allows.
        """
        if self.holds(size):
            return size
        shrink = min(1.0, *(high / side for high, side in zip(self.largest, size, strict=True)))
        grow = max(1.0, *(low / side for low, side in zip(self.smallest, size, strict=True)))
        scale = shrink if shrink < 1 else grow
        scaled = [round(scale * side) for side in size]
        height, width = (
            min(max(side, low), high)
            for side, low, high in zip(scaled, self.smallest, self.largest, strict=True)
        )  # fmt: skip
        return height, width

    def holds(self, size: Size) -> bool:
        """Whether images of `size` are taken as they are."""
        return all(a <= side <= b for a, side, b in zip(self.smallest, size, self.largest, strict=True))

    def to_json(self) -> str:
        """`{"min": [H, W], "opt": [H, W], "max": [H, W]}`."""
        sizes = (self.smallest, self.usual, self.largest)
        return json.dumps({name: list(size) for name, size in zip(_NAMES, sizes, strict=True)})

    @classmethod
    def from_json(cls, text: str, where: str | Path) -> SizeRange:
        """The inverse of `to_json`. Raises DsegError."""
        fix = 'It must be like {"min": [360, 640], "opt": [720, 1280], "max": [1080, 1920]}'
        try:
            content = json.loads(text)
            sizes = [content[name] for name in _NAMES]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise DsegError(f"has broken sizes: {text[:80]!r}", where=where, fix=fix) from None
        for size in sizes:
            if not isinstance(size, list) or len(size) != 2 or any(type(side) is not int for side in size):
                raise DsegError(f"has broken sizes: {size!r} is not [height, width]", where=where, fix=fix)
        try:
            return cls(*((height, width) for height, width in sizes))
        except DsegError as error:
            raise DsegError(f"has broken sizes: {error.what}", where=where, fix=error.fix) from None
