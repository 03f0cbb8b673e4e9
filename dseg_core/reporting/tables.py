"""Score tables, confusion matrices, legends and headline numbers as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dseg_core.class_table import ClassTable
from dseg_core.reporting.page import Html, join, table, tag


def tiles(numbers: Sequence[tuple[str, str]]) -> Html:
    """Headline numbers: (number, what it counts)."""
    return tag(
        "div", *(tag("div", tag("b", n), tag("span", words), class_="tile") for n, words in numbers), class_="tiles"
    )


def percent(share: float | None, digits: int = 1) -> str:
    """A share as per cent without the sign, or a dash where there is none (a class that does not occur)."""
    return "–" if share is None or not np.isfinite(share) else f"{100 * share:.{digits}f}"


def class_bars(rows: Mapping[str, Sequence[float | None]], columns: Sequence[str]) -> Html:
    """Per-class IoU: a row a class, a column a source, a bar for the last column. `rows`: name -> shares 0..1."""

    def bar(share: float | None) -> Html:
        width = 100 * share if share is not None and np.isfinite(share) else 0.0
        return tag("td", tag("i", style=f"width:{width:.1f}%"), class_="bar", aria_hidden="true")

    body = [(name, *map(percent, shares), bar(shares[-1])) for name, shares in rows.items()]
    return table(("class", *columns, tag("th", columns[-1])), body)


def confusion(matrix: NDArray[np.int64], rows: Sequence[str], columns: Sequence[str], first: str) -> Html:
    """A confusion matrix, int64 (rows, columns), as shares of each row in per cent; the same name is framed."""
    totals = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(totals, 1)
    body = []
    for name, line, total in zip(rows, shares, totals[:, 0], strict=True):
        cells = [
            tag(
                "td",
                f"{100 * share:.0f}" if total else "–",
                class_="hit" if column == name else None,
                style=f"--v:{min(0.62 * share, 0.62):.3f}",
            )
            for column, share in zip(columns, line, strict=True)
        ]
        body.append((tag("th", name, scope="row"), *cells))
    return table((tag("th", first), *columns), body, class_="matrix")


def legend(classes: ClassTable, used: NDArray[np.bool_] | None = None, unlabelled: bool = True) -> Html:
    """Colour and name of each class, and the hatch of `unlabelled`; `used` (bool (len,)) leaves out the others."""
    items = [
        tag("li", tag("span", class_="swatch", style="background:rgb({},{},{})".format(*entry.color)), entry.name)
        for entry in classes.entries
        if used is None or used[entry.id]
    ]
    hatch = tag("li", tag("span", class_="swatch hatch"), "unlabelled") if unlabelled else None
    return tag("ul", *items, hatch, class_="legend")


def facts(rows: Sequence[tuple[str, object]]) -> Html:
    """A table of names and values that are text."""
    return table(("", ""), [(name, value) for name, value in rows], numbers_from=9, class_="facts")


def sentences(*parts: str) -> Html:
    """A paragraph a part."""
    return join(tag("p", part) for part in parts)
