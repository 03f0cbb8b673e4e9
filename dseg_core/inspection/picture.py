"""The picture to look at: a sweep over its image, as the calibration is and as it would be corrected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dseg_core.inspection.calibration_check import Example

_NEAREST, _FARTHEST = 3.0, 60.0  # metres, ends of the colours
_NAMED = (3, 5, 10, 20, 40, 60)  # metres that the legend shows
_FONT, _STRIP = cv2.FONT_HERSHEY_SIMPLEX, 26
_NARROWEST = 800  # pixels of a panel
_EMPTY = np.zeros((1, 1, 3), np.uint8)
_EDGE = (255, 255, 255)
_COLORS = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]  # (256, 3) RGB


def picture(examples: Mapping[str, Example], verdicts: Mapping[str, Any], corrections: Mapping[str, Any]) -> Any:
    """For each camera its image with the sweep's points, coloured by depth, and its depth edges in white; a legend.

    Args:
        examples: By camera.
        verdicts: As `CalibrationCheck.judge` gives them.
        corrections: By camera, as `Alignment` has them; shown beside it for verdicts that are wrong.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    wrong = any(verdict["verdict"] == "wrong" for verdict in verdicts.values())
    panels = []
    for name, example in examples.items():
        verdict = verdicts[name]
        panels.append(_panel(example, np.zeros(4), f"{name} as it is: score {verdict['score']:g}"))
        if verdict["verdict"] == "wrong":
            panels.append(_panel(example, corrections[name], f"{name} corrected: score {verdict['best_score']:g}"))
        elif wrong:
            panels.append(_EMPTY)
    columns = 2 if wrong or len(panels) > 2 else 1
    panels += [_EMPTY] * (-len(panels) % columns)
    width = max(panel.shape[1] for panel in panels)
    rows = []
    for i in range(0, len(panels), columns):
        height = max(len(panel) for panel in panels[i : i + columns])
        rows.append(np.concatenate([_framed(panel, height, width) for panel in panels[i : i + columns]], axis=1))
    return np.concatenate([_legend(rows[0].shape[1]), *rows])


def _legend(width: int) -> NDArray[np.uint8]:
    """What the colours mean, uint8 (26, width, 3)."""
    strip = np.full((_STRIP, width, 3), 24, np.uint8)
    left = _written(strip, "points, by depth:", 8)
    for metres in _NAMED:
        strip[8:19, left : left + 22] = _by_depth(np.array([float(metres)]))
        left = _written(strip, f"{metres} m", left + 27)
    strip[8:19, left + 8 : left + 12] = _EDGE
    _written(strip, "depth edges of the sweep", left + 18)
    return strip


def _written(strip: NDArray[np.uint8], words: str, left: int) -> int:
    """Write on a strip; returns where the next may begin."""
    cv2.putText(strip, words, (left, 18), _FONT, 0.5, (235, 235, 235), 1, cv2.LINE_AA)
    return left + 10 + int(cv2.getTextSize(words, _FONT, 0.5, 1)[0][0])


def _by_depth(metres: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Red near, blue far, by the logarithm, uint8 (N, 3)."""
    share = np.log(np.clip(metres, _NEAREST, _FARTHEST) / _NEAREST) / np.log(_FARTHEST / _NEAREST)
    return np.asarray(_COLORS[np.round(240 - 215 * share).astype(np.uint8)])  # both ends of the map are nearly black


def _framed(panel: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    return np.pad(panel, ((0, height - panel.shape[0]), (0, width - panel.shape[1]), (0, 0)))


def _panel(example: Example, correction: NDArray[np.float64], title: str) -> NDArray[np.uint8]:
    scale = max(1, -(-_NARROWEST // example.rgb.shape[1]))
    grey = cv2.cvtColor(cv2.cvtColor(example.rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    shown = cv2.addWeighted(example.rgb, 0.35, grey, 0.45, 0)
    shown = cv2.resize(shown, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    uv, depth = _seen(example.points, example.velocity, example, correction)
    for (u, v), color in zip(_pixels(uv, scale), _by_depth(depth), strict=True):
        shown[v : v + 1, u : u + 2] = color
    uv, _ = _seen(example.edges.xyz, example.edges.velocity, example, correction)
    for u, v in _pixels(uv, scale):
        shown[max(v - 1, 0) : v + 2, u : u + 2] = _EDGE
    strip = np.full((_STRIP, shown.shape[1], 3), 24, np.uint8)
    cv2.putText(strip, title, (8, 18), _FONT, 0.55, (235, 235, 235), 1, cv2.LINE_AA)
    return np.concatenate([strip, shown])


def _pixels(uv: NDArray[np.float64], scale: int) -> NDArray[np.int64]:
    return np.asarray(((uv + 0.5) * scale - 0.5).round().astype(np.int64).clip(0))


def _seen(
    xyz: NDArray[np.float32], velocity: NDArray[np.float32], example: Example, correction: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    R = cv2.Rodrigues(np.asarray(correction[:3]))[0]
    moved = (xyz + correction[3] * velocity) @ R.T
    uv, visible = example.pinhole.project(moved)
    order = np.argsort(-moved[visible, 2])  # the nearest last, on top
    return uv[visible][order], moved[visible, 2][order]
