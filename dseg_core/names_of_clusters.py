"""Whose names the clusters get in an exported model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.label_store import LabelStore
from dseg_core.networks.checkpoint import RunDescription, TrainedNetwork, labels_digest
from dseg_core.records import ViewKey
from dseg_core.stage_options import ExportOptions
from dseg_core.store import FrameStore
from dseg_core.words import count


@dataclass(frozen=True)
class Naming:
    """The names that clusters get, and where they come from, in words. `note`: whose names were not used, and why."""

    classes: ClassTable
    source: str
    note: str = ""


def choose_names(
    run: Path, described: RunDescription, trained: TrainedNetwork, frames: Path | None, options: ExportOptions
) -> Naming:
    """Decide whose names the clusters get.

    A given file's; else the run's copy where it was edited; else those that the labels have by now, where they are
    still the labels trained on; else the run's.

    Raises:
        DsegError: A given file that cannot be read or has another number of classes.
    """
    if options.name_classes is not None:
        given = ClassTable.read(options.name_classes)
        if len(given) != len(trained.classes):
            raise DsegError(
                f"has {count(len(given), 'class', 'classes')}, the network {len(trained.classes)}",
                where=options.name_classes,
                fix="Give classes the same name to merge them, but keep every id",
            )
        return Naming(given, str(options.name_classes))
    own = Naming(trained.classes, "the run's classes.yaml")
    name = described.options.get("labels")
    if frames is None or not isinstance(name, str):
        return own
    labels = LabelStore(frames, name)
    file = labels.path / "classes.yaml"
    if not file.is_file() or labels.classes in (trained.classes, described.classes):
        return own
    unused = f"names in {file} were not used, because"
    if trained.classes != described.classes:
        return Naming(own.classes, own.source, f"{unused} the run's own were edited; --name-classes takes them")
    keys: list[ViewKey] = sorted(set(FrameStore(frames).view_keys) & set(labels.keys()))
    same = len(labels.classes) == len(trained.classes) and labels_digest(labels, keys) == described.inputs.get("labels")
    if not same:
        why = "the labels were made anew since the run was trained on them, so a cluster may be another thing"
        return Naming(own.classes, own.source, f"{unused} {why}; train again, or --name-classes takes them")
    return Naming(labels.classes, str(file))
