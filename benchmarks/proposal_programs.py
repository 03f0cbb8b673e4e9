"""Peers that are programs of the user's own, in any language: `--program NAME=COMMAND`, as often as wanted.

COMMAND is split as a shell would, but run without one. In its words {height} stands for the sensor's height over the
road (m), {rows} for the beams, {low} and {high} for the lowest and the highest of them (degrees), {columns} for the
points of a beam in a turn. The program is started once for a LiDAR and answers sweep by sweep, all little-endian:

- it reads N, int32, and the points, float32 (N, 3), m, in the sensor's frame, from its standard input;
- it writes the points' ids, int32 (N,), 0 none, 1 ground, 2 to 65535 objects, and the processor time that its method
  took by its own clock, float64, s, without reading and writing, to its standard output, and nothing else;
- it ends when its input does.
"""

from __future__ import annotations

import argparse
import shlex
import struct
import subprocess
import threading
from collections.abc import Mapping
from types import TracebackType

import numpy as np

from dseg_core.errors import DsegError, system_error
from dseg_core.records import Sweep

_MOST = np.iinfo(np.uint16).max


class _EndedError(Exception):
    """The program ended, with this status."""


def named_command(text: str) -> tuple[str, list[str]]:
    """The name and the words of NAME=COMMAND.

    Raises:
        argparse.ArgumentTypeError: One of them is missing, or a quotation is not closed.
    """
    name, _, command = text.partition("=")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error
    if not name.strip() or not words:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=COMMAND")
    return name.strip(), words


class Program:
    """A running program; to be called with a sweep, and to be used in a `with`, which ends it.

    Args:
        name: For tables and errors.
        command: Its words.
        told: What stands in braces in them, and by what it is replaced.
        patience: After how many seconds without an answer it is given up.

    Raises:
        DsegError: It cannot be started.
    """

    def __init__(self, name: str, command: list[str], told: Mapping[str, float], patience: float = 60.0) -> None:
        for key, value in told.items():
            command = [word.replace(f"{{{key}}}", f"{value:g}") for word in command]
        self.name, self._patience = name, patience
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError as error:
            raise system_error(error, command[0]) from error

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def __call__(self, sweep: Sweep) -> tuple[np.ndarray, float]:
        """Ids of points, int32 (N,), and the seconds that the program says it took.

        Raises:
            DsegError: It ended, kept silent for too long, or gave what is no answer.
        """
        count = len(sweep)
        timer = threading.Timer(self._patience, self._process.kill)
        timer.start()
        try:
            self._send(struct.pack("<i", count) + np.ascontiguousarray(sweep.xyz, dtype="<f4").tobytes())
            ids = np.frombuffer(self._receive(4 * count), dtype="<i4")
            (took,) = struct.unpack("<d", self._receive(8))
        except _EndedError as error:
            if not timer.is_alive():
                raise self._wrong(f"no answer within {self._patience:g} s") from error
            raise self._wrong(f"ended before its answer, with status {error}", "See what it printed") from error
        finally:
            timer.cancel()
        if count and not 0 <= ids.min() <= ids.max() <= _MOST:
            raise self._wrong(f"ids must lie in 0 to {_MOST}, has {ids.min()} to {ids.max()}", "Print to stderr only")
        if not 0 <= took < np.inf:
            raise self._wrong(f"{took:g} s of processor time")
        return ids, took

    def _send(self, what: bytes) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(what)
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise _EndedError(self._status()) from error

    def _receive(self, size: int) -> bytes:
        assert self._process.stdout
        found = self._process.stdout.read(size)
        if len(found) < size:
            raise _EndedError(self._status())
        return found

    def _status(self) -> int:
        try:
            return self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:  # it only closed its output
            self._process.kill()
            return self._process.wait()

    def _wrong(self, what: str, fix: str = "") -> DsegError:
        return DsegError(what, where=f"program {self.name!r}", fix=fix)
