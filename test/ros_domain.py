"""A ROS domain to oneself, and nothing left behind in shared memory."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

_DOMAINS = 100
"""Those above collide with the ports that systems give to programs."""
_FIRST_PORT, _PORTS = 7400, 250  # of domain 0; of each
_SHARED = Path("/dev/shm")  # noqa: S108
_turn = itertools.count(os.getpid() * 7)


@contextlib.contextmanager
def own_domain() -> Iterator[int]:
    """A ROS domain that nobody else on this machine uses: no other test, in whatever process, and no other ROS."""
    for number in itertools.islice(_turn, 10 * _DOMAINS):
        domain = 1 + number % _DOMAINS
        with socket.socket(socket.AF_UNIX) as claim:
            try:
                # An abstract name leaves no file, and is free again as soon as this process has ended in any way.
                claim.bind(f"\0dseg test in ROS domain {domain}")
            except OSError:
                continue
            if _ports_in_use() & set(ports(domain)):
                continue
            try:
                yield domain
            finally:
                remove_ports(domain)
            return
    raise RuntimeError("every ROS domain is in use")


def ports(domain: int) -> range:
    """The ports of a domain, of UDP and of Fast DDS's shared memory."""
    return range(_FIRST_PORT + _PORTS * domain, _FIRST_PORT + _PORTS * (domain + 1))


def _ports_in_use() -> set[int]:
    rows = [row for name in ("udp", "udp6") for row in Path("/proc/net", name).read_text().splitlines()[1:]]
    return {int(row.split()[1].rpartition(":")[2], 16) for row in rows}


def remove_ports(domain: int) -> None:
    """Remove the queues of a domain in which nobody is any more: killed processes leave theirs, and others stumble."""
    for path in _SHARED.glob("*fastrtps_port*"):
        found = re.match(r"(?:sem\.)?fastrtps_port(\d+)", path.name)
        if found and int(found[1]) in ports(domain):
            path.unlink(missing_ok=True)


def segments(pid: int) -> set[Path]:
    """The parts of shared memory that a process has mapped, its own and those of others."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return set()
    return {Path(found) for found in re.findall(r"/dev/shm/fastrtps_(?!port)\w+", maps)}  # noqa: S108


def remove_ownerless(found: Iterable[Path]) -> None:
    """Remove those of the segments whose process was killed, as `fastdds shm clean` does: who lives holds a lock."""
    for path in found:
        lock = path.with_name(f"{path.name}_el")
        with contextlib.suppress(OSError), lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
