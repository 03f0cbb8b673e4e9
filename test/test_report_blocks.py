"""The report's building blocks: escaping, charts, pictures."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dseg_core.class_colors import object_colors
from dseg_core.class_table import ClassTable
from dseg_core.records import ViewKey
from dseg_core.reporting import charts, page, pictures, strips, tables
from dseg_core.reporting.matching import Overlap
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
        strips.strips([strips.Strip(hostile, np.arange(3.0), hostile)], hostile, hostile),
        tables.legend(classes),
        tables.tiles([(hostile, hostile)]),
        tables.confusion(np.eye(1, dtype=np.int64), [hostile], [hostile], hostile),
        tables.class_bars({hostile: [0.5]}, [hostile]),
        pictures.embedded(np.zeros((4, 4, 3), np.uint8), hostile),
    ]
    whole = page.page(hostile, hostile, [("x", hostile, page.join(parts))])
    assert "<script" not in whole
    assert "script" not in [name for name, _ in Collected(whole).elements]


def _bars(drawn: str) -> list[tuple[float, float, float, float]]:
    """x, width, foot and height of every bar, in drawing units."""
    boxes = [e[1] for e in Collected(drawn).elements if e[0] == "rect" and "bar" in str(e[1]["class"])]
    rows = [tuple(float(str(box[key])) for key in ("x", "y", "width", "height")) for box in boxes]
    return [(x, width, y + height, height) for x, y, width, height in rows]


def test_strips_draw_every_value_once_on_one_axis() -> None:
    """Bar heights are proportional to counts within a strip; equal values stand at equal places in all strips."""
    front = strips.Strip("front", np.array([-30.0, -30.0, 5.0, 40.0, 40.0, 40.0]), "")
    rear = strips.Strip("rear", np.array([5.0]), "", band=(-50.0, 50.0))
    bars = _bars(strips.strips([front, rear], "ms", "offsets"))
    above = sorted(b for b in bars if b[2] == min(b[2] for b in bars))
    below = [b for b in bars if b not in above]
    assert len(above) == 3 and len(below) == 1
    assert np.allclose([b[3] for b in above], np.array([2, 1, 3]) / 3 * above[2][3], rtol=0.02)
    assert below[0][0] == above[1][0] and below[0][3] == above[2][3]


def test_the_tolerance_is_shaded_where_it_is() -> None:
    drawn = strips.strips([strips.Strip("front", np.array([10.0]), "", band=(-50.0, 50.0))], "ms", "offsets")
    band = next(e[1] for e in Collected(drawn).elements if e[1].get("class") == "band")
    (x, width, _, _) = _bars(drawn)[0]
    start, span = float(str(band["x"])), float(str(band["width"]))
    assert (x + width / 2 - start) / span == pytest.approx(0.6, abs=0.01)


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


@pytest.mark.parametrize(("width", "height"), [(1242, 375), (160, 96), (2048, 1024)])
def test_unlabelled_is_hatched_at_any_size_and_nothing_else_is(width: int, height: int) -> None:
    """Stripes of two greys, each several pixels wide in the picture as it is shown."""
    labels = np.full((height, width), 255, np.uint8)
    labels[:, : width // 2] = 3
    palette = ClassTable.of_clusters(9).palette()
    painted = pictures.mask_picture(labels, palette)
    assert painted.shape[1] == min(width, 640)
    known, hatched = painted[:, : painted.shape[1] // 2 - 1], painted[:, painted.shape[1] // 2 + 1 :, 0]
    assert (known == palette[3]).all()
    assert set(np.unique(hatched)) == {120, 236} and 0.2 < (hatched == 120).mean() < 0.5
    changes = (np.diff(hatched.astype(int), axis=1) != 0).sum(axis=1)
    assert 8 < changes.mean() < hatched.shape[1] / 3


def test_cloud_from_above_puts_things_where_they_are() -> None:
    """A point ahead is drawn above the sensor, one to the left (y > 0) left of it, in the region's colour."""
    xyz = np.array([[20, 0, 0], [0, 10, 0]], dtype=np.float32)
    proposals = np.array([2, 3], dtype=np.uint16)
    drawn = pictures.cloud_from_above(xyz, proposals, 40, (400, 400))
    colors = object_colors(4)
    scale = 0.75 * 400 / 40
    for (x, y, _), identity in zip(xyz, proposals, strict=True):
        row, column = round(300 - x * scale), round(200 - y * scale)
        assert (drawn[row, column] == colors[identity]).all()


def test_spread_shows_drives_at_different_times() -> None:
    keys = [ViewKey(d, s, "front") for d in "abcdefgh" for s in range(10)]
    chosen = spread(keys, 8)
    assert len({key.drive for key in chosen}) == 8 and len({key.stamp_ns for key in chosen}) >= 6


def test_overlap_reads_a_cluster_as_what_it_covers_most() -> None:
    """Two clusters, two classes, by hand: cluster 0 is mostly sky, cluster 1 mostly car, 7 car pixels have none.
    Cluster 2 is in the pseudo-labels only, on cars; cluster 3 nowhere."""
    truth = ClassTable.of_names(["sky", "car"], [(1, 1, 1), (2, 2, 2)])
    student = np.array([[90, 10], [5, 40], [0, 0], [0, 0], [0, 7]])
    labels = np.array([[0, 900], [0, 0], [1, 3], [0, 0], [0, 0]])
    overlap = Overlap(student, student + labels, truth)
    own = ClassTable.of_clusters(3)
    assert overlap.matched().tolist() == [0, 1, 1, -1]
    assert overlap.palette(own)[:4].tolist() == [[1, 1, 1], [2, 2, 2], [2, 2, 2], list(own.entries[3].color)]
    assert overlap.confusion().tolist() == [[90, 5, 0], [10, 40, 7]]


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
