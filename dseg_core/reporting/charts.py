"""Charts as inline SVG: they follow the page's colours (light, dark, print) and stay sharp."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dseg_core.reporting.page import Html, tag

_WIDTH, _HEIGHT = 520, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 20, 16, 44
_DASHES = (None, "6 3", "2 3", "8 3 2 3")


@dataclass(frozen=True, eq=False)
class Series:
    """One line: `x` and `y` float64 (n,), n >= 1."""

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]


@dataclass(frozen=True)
class _Axes:
    """Data ranges and where they lie in the drawing, in SVG units."""

    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x0) / (self.x1 - self.x0) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (_HEIGHT - _TOP - _BOTTOM)


def curves(series: Sequence[Series], x_label: str, y_label: str, alt: str, smooth: int = 0) -> Html:
    """Lines over a common axis, with a key; `smooth` > 1 draws each as it is, faintly, under its running mean."""
    axes = _axes(series)
    drawn: list[Html] = []
    for index, line in enumerate(series):
        paint = {"class_": f"c{index % 7}", "fill": "none", "style": "fill:none"}
        if smooth > 1 and len(line.y) > 2 * smooth:
            drawn.append(
                tag("polyline", points=_points(axes, line.x, line.y), **{**paint, "class_": f"c{index % 7} faint"})
            )
            x, y = _running_mean(line, smooth)
        else:
            x, y = line.x, line.y
        drawn.append(tag("polyline", points=_points(axes, x, y), stroke_dasharray=_DASHES[index % 4], **paint))
    key: list[Html] = []
    place = _LEFT + 8.0
    for index, line in enumerate(series):
        key.append(tag("line", x1=f"{place:.0f}", x2=f"{place + 20:.0f}", y1=9, y2=9, stroke_width=2,
                       stroke_dasharray=_DASHES[index % 4], class_=f"c{index % 7}"))  # fmt: skip
        key.append(tag("text", line.name, x=f"{place + 25:.0f}", y=13))
        place += 40 + 6.6 * len(line.name)
    return _drawing(alt, [*_frame(axes, x_label, y_label), *drawn, *key])


def _axes(series: Sequence[Series]) -> _Axes:
    x = np.concatenate([line.x for line in series])
    y = np.concatenate([line.y for line in series])
    y = y[np.isfinite(y)]
    # A few wild first values must not flatten everything that follows.
    top = float(np.quantile(y, 0.995)) if len(y) else 1.0
    bottom = min(0.0, float(y.min())) if len(y) else 0.0
    x0, x1 = float(x.min()), float(x.max())
    return _Axes(x0, x1 if x1 > x0 else x0 + 1, bottom, bottom + max(top - bottom, 1e-9) * 1.1)


def _running_mean(line: Series, window: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    kernel = np.ones(window) / window
    return np.convolve(line.x, kernel, "valid"), np.convolve(line.y, kernel, "valid")


def _points(axes: _Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    stride = max(1, len(x) // 600)
    kept = np.isfinite(y[::stride])
    low, high = axes.y0, axes.y1
    pairs = zip(x[::stride][kept], np.clip(y[::stride][kept], low, high), strict=True)
    return " ".join(f"{axes.x(a):.1f},{axes.y(b):.1f}" for a, b in pairs)


def _frame(axes: _Axes, x_label: str, y_label: str) -> list[Html]:
    """Grid, ticks and labels."""
    parts: list[Html] = []
    bottom = _HEIGHT - _BOTTOM
    for value in ticks(axes.y0, axes.y1, 4):
        y = f"{axes.y(value):.1f}"
        parts.append(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", short(value), x=_LEFT - 6, y=f"{axes.y(value) + 4:.1f}", text_anchor="end"))
    for value in ticks(axes.x0, axes.x1, 6):
        x = f"{axes.x(value):.1f}"
        parts.append(tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(tag("text", short(value), x=x, y=bottom + 17, text_anchor="middle"))
    parts.append(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=bottom, y2=bottom, class_="axis"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(tag("text", x_label, x=f"{middle:.0f}", y=_HEIGHT - 6, text_anchor="middle"))
    turn = f"rotate(-90 12 {(_TOP + bottom) / 2:.0f})"
    parts.append(tag("text", y_label, x=12, y=f"{(_TOP + bottom) / 2:.0f}", text_anchor="middle", transform=turn))
    return parts


def _drawing(alt: str, parts: Sequence[Html]) -> Html:
    return tag("svg", tag("title", alt), *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=alt)


def _nice_step(at_least: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(at_least))
    return next((power * m for m in (1, 2, 5) if power * m >= at_least * (1 - 1e-9)), power * 10)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from `low` to `high`, roughly `about` of them."""
    step = _nice_step((high - low) / about)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number as ticks have it."""
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value / 1000:.4g}k"
