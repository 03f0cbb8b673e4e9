"""Holding a folder where it cannot be held."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

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
