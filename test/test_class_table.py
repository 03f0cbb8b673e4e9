"""classes.yaml: written, edited by hand, read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dseg_core.class_colors import distinct_color
from dseg_core.class_table import ClassEntry, ClassTable
from dseg_core.errors import DsegError


def test_to_file_and_back_is_equal(tmp_path: Path) -> None:
    table = ClassTable((ClassEntry(0, "ground", (1, 2, 3)), ClassEntry(1, 'a "traffic" sign: no. 1', (255, 0, 9))))
    table.write(tmp_path / "classes.yaml")
    assert ClassTable.read(tmp_path / "classes.yaml") == table
    assert ClassTable.from_list(table.to_list(), "memory") == table


def test_a_line_per_class_is_easy_to_edit(tmp_path: Path) -> None:
    path = tmp_path / "classes.yaml"
    ClassTable.of_clusters(3).write(path)
    path.write_text(path.read_text().replace("cluster_01", "car").replace("cluster_03", "car"))
    table = ClassTable.read(path)
    assert table.names == ("ground", "car", "cluster_02")
    np.testing.assert_array_equal(table.name_ids(), [0, 1, 2, 1])
    merged = table.merged()
    assert [e.name for e in merged.entries] == ["ground", "car", "cluster_02"]
    assert [e.color for e in merged.entries] == [(128, 64, 128), (0, 0, 142), distinct_color(2)]


def test_palette_paints_ids_and_leaves_unlabelled_black() -> None:
    palette = ClassTable.of_clusters(2).palette()
    mask = np.array([[0, 2, 255]], dtype=np.uint8)
    np.testing.assert_array_equal(palette[mask][0], [(128, 64, 128), distinct_color(2), (0, 0, 0)])


def test_a_colour_set_by_hand_survives_naming(tmp_path: Path) -> None:
    path = tmp_path / "classes.yaml"
    ClassTable.of_clusters(3).write(path)
    text = path.read_text().replace("cluster_01", "car").replace("cluster_03", "car")
    path.write_text(text.replace(str(list(distinct_color(3))), "[1, 2, 3]"))
    merged = ClassTable.read(path).merged()
    assert merged.entries[1].color == (1, 2, 3) and merged.merged() == merged
    assert [e.color for e in ClassTable.read(path).painted().entries][1:] == [(1, 2, 3), distinct_color(2), (1, 2, 3)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "has no list 'classes'"),
        ("classes: [{id: 0, name: a}]", "lacks id, name or color"),
        ("classes: [{id: 1, name: a, color: [0, 0, 0]}]", r"ids must be 0..0, each once"),
        ("classes: [{id: 0, name: a, color: [0, 0, 0]}, {id: 0, name: b, color: [0, 0, 0]}]", "each once"),
        ("classes: [{id: 0, name: ' ', color: [0, 0, 0]}]", "class 0 has no name"),
        ("classes: [{id: 0, name: a, color: [0, 0, 256]}]", "is not three numbers 0..255"),
        ("classes: [{id: zero, name: a, color: [0, 0, 0]}]", "id 'zero' is not a whole number"),
    ],
)
def test_refuses(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "classes.yaml"
    path.write_text(text)
    with pytest.raises(DsegError, match=message) as caught:
        ClassTable.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "name", ["no", "yes", "on", "off", "null", "true", "1e3", "x: y", 'a "b"', "back\\slash", "Straße", "~"]
)
def test_any_name_survives_its_file(tmp_path: Path, name: str) -> None:
    table = ClassTable.of_names(["road", name], [(0, 0, 0), (1, 2, 3)])
    table.write(tmp_path / "classes.yaml")
    assert ClassTable.read(tmp_path / "classes.yaml") == table
