"""HTML without a template: every element escapes its text, so that nothing that comes from data is ever markup."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

from dseg_core.reporting.style import STYLE

_VOID = frozenset({"meta", "img", "br", "hr", "source", "line", "path", "rect", "circle", "polyline"})


class Html(str):
    """Text that is markup already; everything else is escaped by `tag`."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """One element. Children are escaped unless they are `Html`; None children and attributes are left out.

    Attribute names: a trailing underscore is dropped (`class_`), other underscores become dashes (`aria_label`).
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not children:
        return Html(
            f"<{name}{written}/>" if name not in ("meta", "img", "br", "hr", "source") else f"<{name}{written}>"
        )
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[object]) -> Html:
    """Put children one after the other, escaped unless they are `Html`."""
    return Html(
        "".join(c if isinstance(c, Html) else html.escape(str(c), quote=False) for c in children if c is not None)
    )


def data_uri(mime: str, data: bytes) -> str:
    """The bytes as an address inside the page."""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def figure(content: Html, caption: object, class_: str | None = None) -> Html:
    """Something to look at, with what one sees below it."""
    return tag("figure", content, tag("figcaption", caption), class_=class_)


def picture(webp: bytes, alt: str, width: int, height: int, class_: str | None = None) -> Html:
    """An embedded WebP image. `width`, `height`: its own pixels, so that the page does not jump while it loads."""
    return tag("img", src=data_uri("image/webp", webp), alt=alt, width=width, height=height, class_=class_)


def table(
    header: Sequence[object], rows: Iterable[Sequence[object]], numbers_from: int = 1, class_: str | None = None
) -> Html:
    """A table that scrolls sideways on small screens. Columns from `numbers_from` on are set right, as numbers."""

    def cell(index: int, child: object, name: str) -> Html:
        if isinstance(child, Html) and child.startswith(("<td", "<th")):
            return child
        return tag(name, child, class_="n" if index >= numbers_from else None)

    head = tag("tr", *(cell(i, h, "th") for i, h in enumerate(header)))
    body = [tag("tr", *(cell(i, c, "td") for i, c in enumerate(row))) for row in rows]
    return tag(
        "div", tag("table", tag("thead", head), tag("tbody", *body), class_=class_), class_="scroll", tabindex="0"
    )


def details(summary: str, *children: object) -> Html:
    """Something long, closed until the reader wants it."""
    return tag("details", tag("summary", summary), *children)


def section(identity: str, title: str, *children: object) -> Html:
    """One chapter of the report, reachable as `#identity`."""
    return tag("section", tag("h2", title), *children, id=identity)


def absent(sentence: str) -> Html:
    """What is said where a section has no data."""
    return tag("p", sentence, class_="absent")


GENERATOR = "dseg report"
"""Tells our pages from a person's own, which are not written over."""


def page(title: str, subtitle: str, sections: Sequence[tuple[str, str, Html]]) -> str:
    """The whole document. `sections`: (id, title for the table of contents, markup)."""
    links = [tag("a", name, href=f"#{identity}") for identity, name, _ in sections]
    body = [
        tag("header", tag("h1", title), tag("p", subtitle), tag("nav", *links, aria_label="Sections")),
        tag("main", *(markup for _, _, markup in sections)),
    ]
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="generator", content=GENERATOR),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(STYLE)),
    ]
    return "<!DOCTYPE html>\n" + tag("html", tag("head", *head), tag("body", *body), lang="en") + "\n"
