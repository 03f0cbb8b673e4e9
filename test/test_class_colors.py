"""Colours: Cityscapes' for names it knows, and no two classes alike."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dseg_core.class_colors import (
    GROUND,
    WELL_APART,
    cluster_color,
    colors_of,
    distinct_color,
    named_color,
    object_colors,
)
from dseg_core.class_table import ClassEntry, ClassTable


@pytest.mark.parametrize(
    ("names", "color"),
    [
        # Cityscapes' own table, github.com/mcordts/cityscapesScripts, labels.py
        (("road", "Road", "street"), (128, 64, 128)),
        (("sidewalk", "pavement"), (244, 35, 232)),
        (("building", "Buildings", "house"), (70, 70, 70)),
        (("vegetation", "tree", "trees", "bushes"), (107, 142, 35)),
        (("traffic sign", "traffic_sign", "sign", "SIGNS"), (220, 220, 0)),
        (("traffic light", "traffic-light"), (250, 170, 30)),
        (("person", "pedestrian"), (220, 20, 60)),
        (("rider", "cyclist"), (255, 0, 0)),
        (("car", "cars"), (0, 0, 142)),
        (("truck",), (0, 0, 70)),
        (("bus", "buses"), (0, 60, 100)),
        (("bicycle", "bike"), (119, 11, 32)),
        (("sky",), (70, 130, 180)),
        (("cluster_07", "crane", "van", "", "s"), None),
    ],
)
def test_known_names_have_cityscapes_colours(names: tuple[str, ...], color: tuple[int, int, int] | None) -> None:
    assert [named_color(name) for name in names] == [color] * len(names)


def test_clusters_are_told_apart_by_colour() -> None:
    colors = np.array([distinct_color(i) for i in range(1, 31)], dtype=float)
    distance = np.linalg.norm(colors[:, None] - colors[None], axis=-1) + 1000 * np.eye(30)
    assert distance.min() > 25


def lab(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """CIELAB of uint8 (N, 3), in which distances are Delta E 1976."""
    return np.asarray(cv2.cvtColor(rgb[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0])


def test_objects_look_unlike_ground_and_unlike_those_of_other_numbers() -> None:
    """From 10 Delta E on colours are told apart at a glance; painted at 0.62 over an image a good half is left."""
    colors = object_colors(66)
    grey = np.repeat(np.arange(0, 256, 5, dtype=np.uint8)[:, None], 3, axis=1)
    purple = (0.45 * np.array(GROUND) + 0.55 * grey).astype(np.uint8)  # ground as painted over asphalt
    objects = lab(colors[2:])
    for others, least in ((np.array([GROUND], np.uint8), 40), (purple, 24), (grey, 35)):
        assert np.linalg.norm(objects[:, None] - lab(others)[None], axis=-1).min() > least
    apart = np.linalg.norm(objects[:, None] - objects[None], axis=-1) + 1000 * np.eye(64)
    assert apart.min() > 18 and apart[:WELL_APART, :WELL_APART].min() > 40
    assert min(apart[i, (i + k) % 64] for i in range(64) for k in range(1, 15)) > 23
    assert (object_colors(300)[2 + 64 : 2 + 128] == colors[2:66]).all()
    assert [tuple(c) for c in object_colors(2)] == [(0, 0, 0), GROUND] and object_colors(0).shape == (0, 3)


def test_unnamed_clusters_look_as_on_the_contact_sheet() -> None:
    table = ClassTable.of_clusters(40)
    assert table.merged() == table


def test_of_two_words_for_one_thing_the_proper_name_has_the_colour() -> None:
    found = colors_of({name: (None, distinct_color(i)) for i, name in enumerate(("tree", "vegetation"), 1)})
    assert found["vegetation"] == (107, 142, 35) and found["tree"] == distinct_color(1)


def test_names_of_a_real_drive_differ_well() -> None:
    """Names that somebody gave the demo's thirty clusters, with the rest unnamed."""
    names = ("ground", "building", "building", "van", "car", "person", "tree", "sign", "pole", "other")
    entries = [ClassEntry(i, name, cluster_color(i)) for i, name in enumerate(names)]
    entries += [ClassEntry(i, f"cluster_{i:02d}", cluster_color(i)) for i in range(len(names), 31)]
    colors = np.array([e.color for e in ClassTable(tuple(entries)).merged().entries], dtype=float)
    distance = np.linalg.norm(colors[:, None] - colors[None], axis=-1) + 1000 * np.eye(len(colors))
    assert distance.min() > 25


@given(
    st.lists(
        st.sampled_from(["car", "cars", "vehicle", "tree", "vegetation", "crane", "ground", "road", "x", "y"]),
        unique=True,
        min_size=1,
    ),
    st.integers(0, 60),
)
def test_no_two_names_share_a_colour(names: list[str], start: int) -> None:
    found = colors_of({name: (None, cluster_color(start + i // 2)) for i, name in enumerate(names)})
    assert list(found) == names and len(set(found.values())) == len(names)
