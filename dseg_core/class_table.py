"""`classes.yaml`: what each pseudo-class (or ground-truth class) is called and how it is painted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from dseg_core.class_colors import cluster_color, colors_of
from dseg_core.errors import DsegError
from dseg_core.options import read_yaml
from dseg_core.progress import write_whole
from dseg_core.records import UNLABELLED


@dataclass(frozen=True)
class ClassEntry:
    """One class: its id in label images, its name (several ids may share one) and its colour (R, G, B, 0..255)."""

    id: int
    name: str
    color: tuple[int, int, int]


@dataclass(frozen=True)
class ClassTable:
    """Classes by id, ids 0..n-1 without gaps. 255 is unlabelled and never in a table."""

    entries: tuple[ClassEntry, ...]

    def __len__(self) -> int:
        return len(self.entries)

    @classmethod
    def of_clusters(cls, clusters: int) -> ClassTable:
        """Ground as 0 and `clusters` unnamed pseudo-classes, in well-separated colours."""
        names = ["ground", *(f"cluster_{i:02d}" for i in range(1, clusters + 1))]
        return cls.of_names(names, [cluster_color(i) for i in range(clusters + 1)])

    @classmethod
    def of_names(cls, names: Sequence[str], colors: Sequence[tuple[int, int, int]]) -> ClassTable:
        """A table with ids in the order of `names`."""
        return cls(tuple(ClassEntry(i, n, c) for i, (n, c) in enumerate(zip(names, colors, strict=True))))

    @classmethod
    def read(cls, path: Path) -> ClassTable:
        """Read `classes.yaml`: `classes: [{id: 0, name: ground, color: [128, 64, 128]}, ...]`.

        Raises:
            DsegError: Missing file, broken YAML, ids with gaps or twice, no name, a colour that is not 3 x 0..255.
        """
        rows = read_yaml(path).get("classes")
        if not isinstance(rows, list) or not rows:
            raise DsegError(
                "has no list 'classes'", where=path, fix="Each entry is {id: 1, name: car, color: [0, 0, 142]}"
            )
        entries = sorted((_entry(row, path) for row in rows), key=lambda entry: entry.id)
        ids = [entry.id for entry in entries]
        if ids != list(range(len(ids))) or len(ids) > UNLABELLED:
            raise DsegError(
                f"ids must be 0..{len(ids) - 1}, each once, and fewer than {UNLABELLED}; found {ids}", where=path
            )
        return cls(tuple(entries))

    def write(self, path: Path) -> None:
        """Write `classes.yaml`, one class a line so that it is easy to edit by hand."""
        lines = [f"- {{id: {e.id}, name: {_quoted(e.name)}, color: {list(e.color)}}}" for e in self.entries]
        header = "# Name each class; classes may share a name and are then one class in masks. Colours are RGB.\n"
        write_whole(path, (header + "classes:\n" + "\n".join(lines) + "\n").encode())

    @property
    def names(self) -> tuple[str, ...]:
        """The distinct names in the order of first use: the classes of a mask."""
        return tuple(dict.fromkeys(entry.name for entry in self.entries))

    def name_ids(self) -> NDArray[np.int64]:
        """For each class id the index of its name in `names`; int64 (len,)."""
        names = self.names
        return np.array([names.index(entry.name) for entry in self.entries], dtype=np.int64)

    def merged(self) -> ClassTable:
        """The table of a mask: one entry per distinct name, in that name's colour (see `colors_of`)."""
        first = {entry.name: entry.color for entry in reversed(self.entries)}
        # A colour that is still its cluster's own was not chosen by anyone; one set by hand is kept.
        chosen = {e.name: e.color for e in reversed(self.entries) if e.color != cluster_color(e.id)}
        colors = colors_of({name: (chosen.get(name), first[name]) for name in self.names})
        return ClassTable(tuple(ClassEntry(i, name, colors[name]) for i, name in enumerate(self.names)))

    def painted(self) -> ClassTable:
        """The same ids and names, each in its name's colour, as `merged` has it."""
        color = {entry.name: entry.color for entry in self.merged().entries}
        return ClassTable(tuple(ClassEntry(e.id, e.name, color[e.name]) for e in self.entries))

    def palette(self) -> NDArray[np.uint8]:
        """Colours to index with a label image: uint8 (256, 3); unlabelled and unknown ids are black."""
        palette = np.zeros((256, 3), dtype=np.uint8)
        for entry in self.entries:
            palette[entry.id] = entry.color
        return palette

    def to_list(self) -> list[dict[str, object]]:
        """Plain JSON types, for metadata."""
        return [{"id": e.id, "name": e.name, "color": list(e.color)} for e in self.entries]

    @classmethod
    def from_list(cls, rows: Sequence[dict[str, object]], where: str | Path) -> ClassTable:
        """The inverse of `to_list`. Raises DsegError with `where`."""
        return cls(tuple(_entry(row, where) for row in rows))


def _entry(row: object, where: str | Path) -> ClassEntry:
    fix = "Each entry is {id: 1, name: car, color: [0, 0, 142]}"
    if not isinstance(row, dict) or not {"id", "name", "color"} <= row.keys():
        raise DsegError(f"{row!r} lacks id, name or color", where=where, fix=fix)
    identity, name, color = row["id"], row["name"], row["color"]
    if not isinstance(identity, int) or isinstance(identity, bool):
        raise DsegError(f"id {identity!r} is not a whole number", where=where, fix=fix)
    if not isinstance(name, str) or not name.strip():
        raise DsegError(f"class {identity} has no name", where=where, fix=fix)
    if not isinstance(color, list) or len(color) != 3 or any(type(c) is not int or not 0 <= c <= 255 for c in color):
        raise DsegError(f"class {identity}: color {color!r} is not three numbers 0..255", where=where, fix=fix)
    return ClassEntry(identity, name.strip(), (color[0], color[1], color[2]))


def _quoted(name: str) -> str:
    """As YAML that is read back as this text, which `no`, `on` or `null` bare are not."""
    plain = name.replace("_", "").isalnum() and yaml.safe_load(name) == name
    return name if plain else json.dumps(name, ensure_ascii=False)
