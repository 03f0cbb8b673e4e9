"""Files of bags: which storage one has, and compressed ones made readable."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from dseg_core.bag.mcap_part import MAGIC as MCAP_MAGIC
from dseg_core.bag.mcap_part import McapPart
from dseg_core.bag.part import ZSTD_MAGIC, Note, Part, unpack_file
from dseg_core.bag.rosbag1_part import Rosbag1Part
from dseg_core.bag.sqlite3_part import Sqlite3Part
from dseg_core.errors import DsegError


def open_part(path: Path, stack: ExitStack, note: Note) -> Part:
    """Open a file of a bag, told by what it begins with: names may be wrong.

    Args:
        path: The file; a zstd one is decompressed first, into the temporary folder.
        stack: Removes what was decompressed.
        note: Told what is lost.

    Raises:
        DsegError: It is no bag, or nothing of it can be read.
    """
    if not _begin(path).startswith(ZSTD_MAGIC):
        return _part(path, note)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dseg_bag_")))
    unpacked = unpack_file(path, folder / path.name.removesuffix(".zstd"), note)
    try:
        return _part(unpacked, note)
    except DsegError as error:  # of a file that is gone when people read this
        raise DsegError(error.what, where=path, fix=error.fix) from None


def _part(path: Path, note: Note) -> Part:
    magic = _begin(path)
    if magic.startswith(MCAP_MAGIC) or path.suffix == ".mcap":
        return McapPart(path, note)
    if magic.startswith(b"SQLite format 3\0") or path.suffix == ".db3":
        return Sqlite3Part(path, note)
    return Rosbag1Part(path, note)


def _begin(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)
