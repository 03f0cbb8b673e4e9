"""Overlay videos inside the page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from dseg_core.reporting import pictures
from dseg_core.reporting.page import Html, data_uri, figure, tag
from dseg_core.reporting.selection import evenly
from dseg_core.reporting.sources import Sources


def videos(sources: Sources) -> Iterator[Html]:
    """Each overlay video where it is small enough, else stills from it."""
    for path in sorted(sources.masks.rglob("*.mp4")) if sources.masks is not None else ():
        limit = sources.options.video_limit
        if path.stat().st_size <= limit * 1e6:
            yield figure(_player(path), f"{path.name}: the exported model on a drive, mask over image.")
            continue
        stills = [pictures.embedded(still, f"Still of {path.name}", 560) for still in _stills(path, 4)]
        yield figure(
            tag("div", *stills, class_="row by2"),
            f"Stills of {path.name} ({path.stat().st_size / 1e6:.0f} MB; up to {limit:g} MB are embedded).",
        )


def _player(path: Path) -> Html:
    """The video with room below it for the player's controls, which else hide the legend."""
    still = next(_stills(path, 1), None)
    height, width = (9, 16) if still is None else still.shape[:2]
    player = tag(
        "video",
        src=data_uri("video/mp4", path.read_bytes()),
        controls="controls",
        muted="muted",
        loop="loop",
        preload="metadata",
        playsinline="playsinline",
    )
    return tag("div", player, class_="player", style=f"aspect-ratio:{width}/{height}")


def _stills(path: Path, count: int) -> Iterator[pictures.Rgb]:
    capture = cv2.VideoCapture(str(path))
    try:
        total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        for index in evenly(range(total), count):
            capture.set(cv2.CAP_PROP_POS_FRAMES, index)
            read, bgr = capture.read()
            if read:
                yield np.asarray(bgr[..., ::-1], dtype=np.uint8)
    finally:
        capture.release()
