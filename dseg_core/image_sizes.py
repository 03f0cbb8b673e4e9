"""Sizes of images, as (height, width): what stretching does to their aspect, and which size suits a network."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from dseg_core.errors import DsegError

if TYPE_CHECKING:
    from dseg_core.cameras import Camera
    from dseg_core.sensors_from_bag import CameraTopic

Size = tuple[int, int]

SAME_ASPECT = 0.2
"""Up to this change of width over height a network that never saw it does as well."""

SAME_SHAPE = 0.01
"""By how much the aspect of images may differ from their camera_info's: more means that they were cropped."""

_AREA = 640 * 192
_MULTIPLE = 32  # the deepest features' stride, and whole patches of every vision transformer


def usual_size(sizes: Iterable[Size]) -> Size:
    """The most frequent size, of equally frequent ones the first."""
    return Counter(sizes).most_common(1)[0][0]


def aspect_note(size: Size, target: Size, why: str) -> str:
    """A warning, with `why` it matters, where images of `size` are stretched to `target` too unevenly; else nothing."""
    change = abs(math.log(size[1] / size[0] * target[0] / target[1]))
    if change <= math.log(1 + SAME_ASPECT):
        return ""
    return (
        f"WARNING: {size[1]}x{size[0]} stretched to {target[1]}x{target[0]} changes the aspect by "
        f"{math.expm1(change):.0%}: {why}"
    )


def network_size(image: Size, height: int = 0, width: int = 0) -> Size:
    """The size of a network's input for images of a size: their aspect, about 123 000 pixels, multiples of 32.

    Args:
        image: Of the images.
        height: 0, or the height that was chosen.
        width: 0, or the width that was chosen.
    """
    if height and width:
        return height, width
    aspect = image[1] / image[0]
    if height or width:
        return height or _near(width / aspect), width or _near(height * aspect)

    def unlike(size: Size) -> float:
        return 2 * abs(math.log(size[1] / size[0] / aspect)) + abs(math.log(size[0] * size[1] / _AREA))

    heights = range(_MULTIPLE, 4096 + 1, _MULTIPLE)
    return min(((h, _near(w)) for h in heights for w in (h * aspect, _AREA / h)), key=unlike)


def _near(length: float) -> int:
    return min(max(round(length / _MULTIPLE), 1) * _MULTIPLE, 4096)


def fitted(camera: CameraTopic, size: tuple[int, int]) -> tuple[Camera, str]:
    """The calibration for images of (width, height), and a note when it had to be scaled.

    Raises:
        DsegError: Another shape than the camera_info's: cropped, so that nobody knows where.
    """
    known, (width, height) = camera.calibration, size
    if (known.width, known.height) == size:
        return known, ""
    sizes = f"images of {width}x{height}, but camera_info of {known.width}x{known.height}"
    if abs(width * known.height / (height * known.width) - 1) > SAME_SHAPE:
        raise DsegError(sizes)
    return known.scaled(width, height), f"{camera.topic} has {sizes}: its calibration was scaled"
