"""Which paths are bags, and what drives are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dseg_core.errors import DsegError
from dseg_core.topic_names import safe_name

BAG_FILES = (".mcap", ".db3", ".bag", ".bag.active", ".mcap.zstd", ".db3.zstd")
"""What the names of files that hold messages end in."""
FRAMES_MARK = "record.yaml"
"""What `dseg record` writes first into a folder of frames: the options that they are made with."""
GIVE_BAGS = "Give rosbag2 folders, .mcap, .db3 or .bag files"
_PART = re.compile(r"(.*)_(\d+)")


def find_bags(paths: Sequence[Path]) -> list[Path]:
    """Bags among `paths`: rosbag2 folders, bare files, and the bags inside a folder of bags, sorted.

    Raises:
        DsegError: A path does not exist or holds no bag, or two bags would have the same drive name.
    """
    bags: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DsegError("does not exist", where=path, fix=GIVE_BAGS)
        if not path.is_dir() or is_bag_folder(path):
            bags.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if is_bag_file(p) or is_bag_folder(p))
        if not inside:
            raise DsegError("holds no bag", where=path, fix=GIVE_BAGS)
        bags.extend(inside)
    seen: dict[str, Path] = {}
    for bag in bags:
        other = seen.get(drive_name(bag))
        if other is not None and other.resolve() == bag.resolve():
            raise DsegError("is given twice", where=bag, fix="Give it once")
        if other is not None:
            raise DsegError(
                f"has the same name as {other}", where=bag, fix="Rename one: drives are called by their bags"
            )
        seen[drive_name(bag)] = bag
    return bags


def check_source(bag: Path) -> None:
    """Refuse the frames that were made of a bag, which are a bag, too. Raises DsegError."""
    if (bag / FRAMES_MARK).is_file():
        raise DsegError("is a folder of frames that `dseg record` wrote", where=bag, fix="Give the bag itself")


def is_bag_file(path: Path) -> bool:
    """Whether it is a file with messages, by its name."""
    return path.name.endswith(BAG_FILES) and not path.name.startswith(".") and path.is_file()


def is_bag_folder(path: Path) -> bool:
    """Whether it is one bag: it has metadata.yaml, or else only the parts of one bag, NAME_0.mcap, NAME_1.mcap, ..."""
    if not path.is_dir():
        return False
    if (path / "metadata.yaml").is_file():
        return True
    parts = [_PART.fullmatch(_stem(p.name)) for p in path.iterdir() if is_bag_file(p) and ".bag" not in p.suffixes]
    names = {part[1] if part else "" for part in parts}
    first = any(part and int(part[2]) == 0 for part in parts)
    return len(names) == 1 and "" not in names and (first or path.name in names)


def part_order(path: Path) -> tuple[str, int, str]:
    """A key that sorts a bag's files as they were recorded: NAME_2 before NAME_10."""
    part = _PART.fullmatch(_stem(path.name))
    return (part[1], int(part[2]), path.name) if part else (path.name, 0, path.name)


def _stem(name: str) -> str:
    """A file's name without what bags' files end in."""
    return next((name.removesuffix(s) for s in sorted(BAG_FILES, key=len, reverse=True) if name.endswith(s)), name)


def drive_name(path: Path) -> str:
    """The name of a drive: its bag's, with only letters, digits, `.`, `_` and `-`."""
    return safe_name(_stem(path.resolve().name))
