"""Which files a bag of rosbag2 has: its metadata.yaml, and what is beside it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import yaml

from dseg_core.bag.names import is_bag_file, part_order
from dseg_core.bag.part import Note
from dseg_core.errors import DsegError
from dseg_core.rosbag2_metadata import ROOT


def read_metadata(folder: Path, note: Note) -> tuple[list[Path], int | None]:
    """The files of a bag that are there, in the order of recording, and how many messages metadata.yaml counts.

    Files that it does not list are among them, since a recorder that is killed has not listed its last one.

    Raises:
        DsegError: A file's path leads outside the folder.
    """
    here = sorted((path for path in folder.iterdir() if is_bag_file(path)), key=part_order)
    try:
        information = yaml.safe_load((folder / "metadata.yaml").read_text(encoding="utf-8"))[ROOT]
        names = [str(name) for name in information["relative_file_paths"]]
        claimed = int(information["message_count"])
    except (yaml.YAMLError, ValueError, KeyError, TypeError, RecursionError) as error:
        what = " ".join(str(error).split())[:200]
        note(f"metadata.yaml is broken ({what}); all files beside it are read. `ros2 bag reindex` makes a new one")
        return here, None
    listed = [_inside(folder, name) for name in names]
    missing = [path.name for path in listed if not path.is_file()]
    if missing:
        note(f"metadata.yaml names files that are missing: {', '.join(missing)}. Copy them, or `ros2 bag reindex`")
    stems = {path.name.removesuffix(".zstd") for path in listed if path.is_file()}
    unlisted = [path for path in here if path.name.removesuffix(".zstd") not in stems]
    if unlisted:
        names = [path.name for path in unlisted]
        note(f"read though metadata.yaml does not name them: {', '.join(names)}. `ros2 bag reindex` makes a new one")
    return [path for path in listed if path.is_file()] + unlisted, claimed


def _inside(folder: Path, name: str) -> Path:
    """A file's path from metadata.yaml. Up to version 3 it begins with the folder's name, of the day of recording."""
    path = PurePosixPath(name)
    if ".." in path.parts or (path.is_absolute() and Path(path).parent != folder.resolve()) or not path.name:
        raise DsegError(
            f"metadata.yaml names a file outside of the bag: {name}", where=folder, fix="Correct relative_file_paths"
        )
    return folder / path.name
