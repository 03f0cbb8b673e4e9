"""How values of several sensors are spread, a strip each over one axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dseg_core.reporting.charts import short, ticks
from dseg_core.reporting.page import Html, tag

_WIDTH, _ROW, _TOP, _BOTTOM, _GLYPH = 900, 34, 8, 42, 7.2
_BINS = 150


@dataclass(frozen=True, eq=False)
class Strip:
    """One sensor's values, float64 (n,), n >= 1, and what is written behind them. `band`: where they may be."""

    name: str
    values: NDArray[np.float64]
    words: str
    band: tuple[float, float] | None = None


def strips(found: Sequence[Strip], x_label: str, alt: str) -> Html:
    """A histogram per strip, each as high as its fullest bin, on a shared axis with zero marked; the band is shaded."""
    left = 16 + _GLYPH * max(len(strip.name) for strip in found)
    right = _WIDTH - 16 - _GLYPH * max(len(strip.words) for strip in found)
    ends = [0.0, *(v for s in found for v in (s.values.min(), s.values.max(), *(s.band or ())))]
    low, high = float(min(ends)), float(max(ends))
    margin = 0.04 * max(high - low, 1e-3)
    low, high = low - margin, high + margin
    bottom = _TOP + _ROW * len(found)

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    parts: list[Html] = []
    for number, strip in enumerate(found):
        y = _TOP + _ROW * number
        if strip.band is not None:
            start, end = map(x, strip.band)
            parts.append(tag("rect", x=f"{start:.1f}", y=y + 4, width=f"{end - start:.1f}", height=_ROW - 5,
                             class_="band"))  # fmt: skip
        parts.append(tag("line", x1=f"{left:.0f}", x2=f"{right:.0f}", y1=y + _ROW - 1, y2=y + _ROW - 1, class_="grid"))
        counts, edges = np.histogram(strip.values, _BINS, (low, high))
        for count, edge in zip(counts, edges[:-1], strict=True):
            if count:
                height = max(3.0, (_ROW - 8) * count / counts.max())
                parts.append(
                    tag(
                        "rect",
                        x=f"{x(edge):.1f}",
                        y=f"{y + _ROW - 1 - height:.1f}",
                        width=f"{max((right - left) / _BINS, 3.0):.1f}",
                        height=f"{height:.1f}",
                        stroke="none",
                        class_=f"bar c{number % 7}",
                    )
                )
        parts.append(tag("text", strip.name, x=f"{left - 10:.0f}", y=y + _ROW - 9, text_anchor="end", class_="name"))
        parts.append(tag("text", strip.words, x=f"{right + 10:.0f}", y=y + _ROW - 9))
    parts.append(tag("line", x1=f"{x(0):.1f}", x2=f"{x(0):.1f}", y1=_TOP, y2=bottom, class_="zero"))
    for value in ticks(low, high, 8):
        parts.append(tag("line", x1=f"{x(value):.1f}", x2=f"{x(value):.1f}", y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(tag("text", short(value), x=f"{x(value):.1f}", y=bottom + 17, text_anchor="middle"))
    parts.append(tag("text", x_label, x=f"{(left + right) / 2:.0f}", y=bottom + 36, text_anchor="middle"))
    box = f"0 0 {_WIDTH} {bottom + _BOTTOM}"
    return tag("svg", tag("title", alt), *parts, viewBox=box, role="img", aria_label=alt)
