"""The report's building blocks: escaping, charts, pictures."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dseg_core.class_table import ClassTable
from dseg_core.records import ViewKey
from dseg_core.reporting import charts, page, pictures, tables
from dseg_core.reporting.selection import evenly, spread


class Collected(HTMLParser):
    """Every element with its attributes, and all text."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@given(st.text(), st.text())
def test_text_and_attributes_survive_as_text(text: str, attribute: str) -> None:
    """Whatever the data holds, the parsed page has one element with exactly that text and attribute."""
    parsed = Collected(page.tag("p", text, title=attribute))
    assert [name for name, _ in parsed.elements] == ["p"]
    as_read = attribute.replace("\r\n", "\n")
    assert parsed.elements[0][1]["title"] in (attribute, as_read)
    assert "".join(parsed.text) == text


def test_markup_in_data_is_not_markup_anywhere() -> None:
    hostile = '/cam"><script>alert(1)</script>'
    series = charts.Series(hostile, np.arange(3.0), np.arange(3.0))
    classes = ClassTable.of_names([hostile], [(1, 2, 3)])
    parts = [
        page.table([hostile], [[hostile]]),
        page.section("x", hostile, hostile),
        page.details(hostile, hostile),
        charts.curves([series], hostile, hostile, hostile),
        charts.histogram(np.arange(3.0), hostile, hostile),
        tables.legend(classes),
        tables.tiles([(hostile, hostile)]),
        tables.confusion(np.eye(1, dtype=np.int64), [hostile], [hostile], hostile),
        tables.class_bars({hostile: [0.5]}, [hostile]),
        pictures.embedded(np.zeros((4, 4, 3), np.uint8), hostile),
    ]
    whole = page.page(hostile, hostile, [("x", hostile, page.join(parts))])
    assert "<script" not in whole
    assert "script" not in [name for name, _ in Collected(whole).elements]


def test_histogram_draws_every_value_once() -> None:
    """Bar heights in drawing units are proportional to counts, so their sum gives back the number of values."""
    values = np.array([-3.0, -3.0, 0.5, 4.0, 4.0, 4.0])
    drawn = charts.histogram(values, "ms", "offsets")
    heights = sorted(float(h) for h in re.findall(r'height="([\d.]+)"', drawn))
    assert np.allclose(np.array(heights) / heights[0], [1, 2, 3], rtol=0.01)


@pytest.mark.parametrize("y", [[1.0, 1.0], [0.0, 0.0], [5.0, float("nan"), 2.0], [1e-9, 2e-9]])
def test_curves_stay_inside_the_drawing(y: list[float]) -> None:
    series = charts.Series("loss", np.arange(len(y), dtype=float), np.array(y))
    drawn = charts.curves([series], "step", "loss", "alt")
    points = re.search(r'points="([^"]*)"', drawn)
    assert points is not None
    numbers = np.array([[float(v) for v in pair.split(",")] for pair in points[1].split()])
    assert np.isfinite(numbers).all() and (numbers >= 0).all() and (numbers <= [520, 250]).all()


def test_label_pictures_keep_every_colour_exactly() -> None:
    classes = ClassTable.of_clusters(9)
    labels = np.arange(10, dtype=np.uint8).reshape(2, 5).repeat(8, 0).repeat(8, 1)
    painted = pictures.mask_picture(labels, classes.palette())
    image = Collected(pictures.embedded(painted, "mask", labels=True)).elements[0][1]
    decoded = _decode(str(image["src"]))
    assert np.array_equal(decoded, classes.palette()[labels])
    assert (image["width"], image["height"]) == ("40", "16")


def test_cloud_from_above_puts_things_where_they_are() -> None:
    """A point ahead is drawn above the sensor, one to the left (y > 0) left of it, in the region's colour."""
    xyz = np.array([[20, 0, 0], [0, 10, 0]], dtype=np.float32)
    proposals = np.array([2, 3], dtype=np.uint16)
    drawn = pictures.cloud_from_above(xyz, proposals, 40, (400, 400))
    colors = pictures.proposal_colors(4)
    scale = 0.75 * 400 / 40
    for (x, y, _), identity in zip(xyz, proposals, strict=True):
        row, column = round(300 - x * scale), round(200 - y * scale)
        assert (drawn[row, column] == colors[identity]).all()


def test_spread_takes_every_camera_before_a_second_of_one() -> None:
    keys = [ViewKey(d, s, c) for d in ("a", "b") for s in range(10) for c in ("front", "rear")]
    chosen = spread(keys, 4)
    assert {(k.drive, k.camera) for k in chosen} == {(d, c) for d in ("a", "b") for c in ("front", "rear")}
    assert len(spread(keys, 7)) == 7 and spread(keys[:1], 3) == keys[:1] and spread([], 3) == []


@given(st.lists(st.integers(), unique=True), st.integers(1, 30))
def test_evenly_keeps_order_and_count(items: list[int], count: int) -> None:
    chosen = evenly(items, count)
    assert len(chosen) == min(len(items), count) == len(set(chosen))
    assert [i for i in items if i in set(chosen)] == chosen


def test_no_pixels_read_as_a_dash_not_as_zero() -> None:
    text = Collected(tables.confusion(np.array([[0, 0], [1, 3]]), ["a", "b"], ["a", "b"], "")).text
    assert text.count("–") == 2 and "25" in text and "75" in text
    assert tables.percent(None) == tables.percent(float("nan")) == "–"


def _decode(uri: str) -> np.ndarray:
    import base64

    head, _, data = uri.partition(",")
    assert head == "data:image/webp;base64"
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded[..., ::-1]
