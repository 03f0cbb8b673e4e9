"""What is left of a folder by a power cut: only what was synced, as POSIX promises, and no more."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest


class Disk:
    """Notes what reaches the disk: files' contents when they are synced, folders' names when these are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._contents: dict[int, bytes] = {}
        self._names: dict[Path, dict[str, int]] = {}
        monkeypatch.setattr("os.fsync", self._sync)

    def _sync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            self._names[path] = {entry.name: entry.inode() for entry in os.scandir(path)}
        else:
            self._contents[status.st_ino] = path.read_bytes()

    def after_power_cut(self, folder: Path, restored: Path) -> Path:
        """Make `restored` as `folder` would be found; a file that has a name but was never synced is empty."""
        restored.mkdir(parents=True)
        for name, inode in self._names.get(folder, {}).items():
            (restored / name).write_bytes(self._contents.get(inode, b""))
        return restored
