"""Rerun's viewer as a process: started so that it keeps to this machine, and asked whether it answers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from dseg_core.errors import DsegError, OptionError

_STARTING = 30.0  # seconds that a viewer may take to listen
_HERE = ("127.0.0.1", 9876)
"""Where the window's viewer listens: no other machine reaches it."""


def has_display() -> bool:
    """Whether a window can be opened."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def viewer_command() -> list[str]:
    """How a viewer is started. Rerun's own way would listen on all network interfaces."""
    # Beside this Python's own, in an environment that is not activated.
    viewer = Path(sys.executable).with_name("rerun")
    address, port = _HERE
    return [
        str(viewer) if viewer.is_file() else "rerun",
        *(f"--bind={address}", f"--port={port}", "--expect-data-soon"),
        "--hide-welcome-screen",  # which would fetch a list of examples
    ]


def start_viewer() -> str:
    """Start a viewer, unless one runs here already, and wait until it listens; returns its address.

    It outlives this process.

    Raises:
        DsegError: It cannot be started, or ends at once.
    """
    place = "rerun+http://{}:{}/proxy".format(*_HERE)
    if _listens(_HERE):
        return place
    # Rerun sends usage statistics, but where CI is set; files of the user's are not changed for it.
    environment = {"CI": "true", **os.environ}
    where, fix = "Rerun's viewer", "`rerun` tells why; --save FILE.rrd writes a file instead"
    quiet = subprocess.DEVNULL  # it would hold this process's terminal or pipe, and write to it, for as long as it runs
    try:
        running = subprocess.Popen(  # noqa: S603  # nothing of it is from data
            viewer_command(), stdin=quiet, stdout=quiet, stderr=quiet, env=environment, start_new_session=True
        )
    except OSError as error:
        raise DsegError(f"cannot be started: {error.strerror}", where=where, fix=fix) from None
    deadline = time.monotonic() + _STARTING
    while not _listens(_HERE):
        if running.poll() is not None:
            raise DsegError(f"ended with exit status {running.returncode}", where=where, fix=fix)
        if time.monotonic() > deadline:
            raise DsegError(f"does not listen after {_STARTING:.0f} s", where=where, fix=fix)
        time.sleep(0.05)
    return place


def _listens(place: tuple[str, int]) -> bool:
    try:
        socket.create_connection(place, timeout=1).close()
    except OSError:
        return False
    return True


def check_reachable(address: str) -> None:
    """Rerun itself would wait for seconds, and complain in many lines. Raises DsegError."""
    try:
        parts = urlsplit(address)
        place = (parts.hostname or "", parts.port or 9876)
    except ValueError:
        place = ("", 0)
    if not place[0] or parts.scheme not in ("rerun", "rerun+http", "rerun+https"):
        raise OptionError(f"connect = {address!r} must be like rerun+http://HOST:9876/proxy")
    try:
        socket.create_connection(place, timeout=5).close()
    except OSError as error:
        raise DsegError(f"no viewer answers: {error}", where=address, fix="Start one there: `rerun`") from None
