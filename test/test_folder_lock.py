"""Holding a folder where it cannot be held."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from dseg_core.errors import DsegError
from dseg_core.folder_lock import locked


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refused)
    for waiting in (None, lambda: None):
        with pytest.raises(DsegError, match=r"cannot be locked: No locks available\. Use another folder"):
            locked(tmp_path, waiting).__enter__()


def test_a_folder_that_is_held_is_refused_or_waited_for(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop() -> None:
        raise StopError

    with locked(tmp_path):
        with pytest.raises(DsegError, match="another run is writing here"):
            locked(tmp_path).__enter__()
        with pytest.raises(StopError):
            locked(tmp_path, stop).__enter__()
    with locked(tmp_path):
        pass


def test_a_lock_whose_file_was_removed_and_made_anew_meanwhile_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening the file and locking it, its holder ends and removes it, and a third opens a new one: two files,
    and each would be locked. What is held in the end is the file of that name, with a link or without."""
    lock, real, turns = tmp_path / ".lock", fcntl.flock, iter(range(100))

    def meanwhile(file: Any, how: int) -> None:
        if next(turns) == 0:
            lock.rename(tmp_path / "elsewhere")  # the inode keeps a link, as a copy on another name would
            lock.touch()
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", meanwhile)
    with locked(tmp_path):
        monkeypatch.undo()
        with pytest.raises(DsegError, match="another run is writing here"):
            locked(tmp_path).__enter__()


def hold(folder: Path, inside: Path, turns: int) -> int:
    """Take and remove the lock again and again; how often another was inside as well."""
    met = 0
    for _ in range(turns):
        with locked(folder, waiting=lambda: None):
            try:
                inside.mkdir()
            except FileExistsError:
                met += 1
                continue
            (folder / ".lock").unlink()
            inside.rmdir()
    return met


def test_processes_that_remove_the_lock_are_never_two_inside(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        calls = [(tmp_path / "folder", tmp_path / "inside", 5)] * 3
        assert sum(pool.starmap(hold, calls)) == 0
