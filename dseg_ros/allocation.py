"""How memory for large messages is had from the system."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of <malloc.h>
_LARGEST, _KEPT = 32 << 20, 64 << 20


def keep_large_blocks() -> None:
    """Have glibc reuse the memory of images and clouds; elsewhere nothing is done.

    By itself it maps each one anew and gives it back after use, and the system fills every page with zeros: most of
    the time that rclpy takes for a message. Variables of the environment that choose otherwise are respected.
    """
    if any(name in os.environ for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "DSEG_PLAIN_MALLOC")):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_MMAP_THRESHOLD, _LARGEST)
    mallopt(_TRIM_THRESHOLD, _KEPT)
