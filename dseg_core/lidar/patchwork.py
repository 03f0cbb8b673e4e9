"""Ground by Patchwork++ (Lee et al. 2022), of the package pypatchworkpp, in the place of our own."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dseg_core.errors import DsegError
from dseg_core.lidar.ground import GROUND, NONE, OBJECT
from dseg_core.lidar.ground_of_points import height_under_sensor
from dseg_core.lidar.packages import pypatchworkpp
from dseg_core.lidar.points import Points

_FARTHEST = 120.0  # metres, as far as our own ground reaches
_WORDS = re.compile(rb"PatchWorkpp[^\n]*\n?")
_making = threading.Lock()


def ground_by_patchwork(points: Points, slope: float, height: float = 0.0) -> NDArray[np.uint8]:
    """Tell ground from objects. Nearer than 2.7 m nothing is ground for it.

    Each sweep is told apart by itself: what Patchwork++ would learn from the sweeps before depends on which these
    were, and frames are made by several threads.

    Args:
        points: z up.
        slope: Steepest ground, radians, by which the sensor's height is found.
        height: Of the sensor over the ground, metres; 0 takes where flat points near the vehicle are most frequent.

    Returns:
        uint8 (N,): NONE (no measurement), GROUND or OBJECT.

    Raises:
        DsegError: pypatchworkpp cannot be imported, or the height is not given and not found.
    """
    library = pypatchworkpp()
    kind = np.where(points.distance > 0, np.uint8(OBJECT), np.uint8(NONE))
    measured = np.flatnonzero(kind)
    if not len(measured):
        return kind
    height = height or -height_under_sensor(points, slope)
    if not height > 0:
        what = "the LiDAR's height is not known: no flat points lie below it within 20 m"
        raise DsegError(what, fix="Give --proposals.sensor-height, or use --proposals.ground own")
    model = _model(library, height)
    model.estimateGround(np.c_[points.axes.T[measured], np.zeros(len(measured))])
    kind[measured[model.getGroundIndices()]] = GROUND
    return kind


def _model(library: Any, height: float) -> Any:
    parameters = library.Parameters()
    parameters.sensor_height = height
    parameters.max_range = _FARTHEST
    with _making, _without_words():
        return library.patchworkpp(parameters)


@contextmanager
def _without_words() -> Iterator[None]:
    """Take out what the library says from C++ whenever it is made, which no option of it switches off.

    It is made anew for each sweep, see `ground_by_patchwork`, and its words would fill a terminal or a log. For that
    instant, file descriptor 1 of the whole process leads into memory. What other threads write meanwhile is passed on
    behind it, unchanged and in its order; only a process that is started in that very instant keeps the memory as its
    output.
    """
    kept, memory = os.dup(1), os.memfd_create("patchwork")
    os.dup2(memory, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.lseek(memory, 0, os.SEEK_SET)
        with os.fdopen(memory, "rb") as written, os.fdopen(kept, "wb") as out:
            out.write(_WORDS.sub(b"", written.read()))
