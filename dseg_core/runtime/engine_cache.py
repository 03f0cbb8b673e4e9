"""Built engines on disk: one folder per model, library, GPU and options, and what is checked before one is loaded.

An engine is code that the GPU's library runs as it is, so only what this user wrote, in a folder that is only this
user's, is read. Beside the engine lies `engine.json`: what it was built of and for, its digest, and the model's own
metadata, so that nothing else is needed to run it. The engine is written first and its description last, each whole or
not at all: an engine without a description that fits it is not there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from dseg_core.errors import DsegError
from dseg_core.folder_lock import locked
from dseg_core.progress import write_whole
from dseg_core.runtime.engine_description import EngineDescription, EngineKey

ENGINE, DESCRIPTION, KERNELS, TEMPORARY = "engine.plan", "engine.json", "kernels.cache", ".engine.tmp"


class RefusedError(Exception):
    """A file that somebody else could have written. Says so, as in "X can be written by others"."""


def own_content(file: Path) -> bytes:
    """Content of a file that is this user's alone to write. Raises RefusedError, OSError."""
    opened = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(opened, "rb") as stream:
        # Of the file that was opened, not of the name, which could be another's by now.
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode):
            raise RefusedError(f"is no file ({file.name})")
        if found.st_uid != os.geteuid():
            raise RefusedError(f"belongs to user {found.st_uid}, not to you ({file.name})")
        if found.st_mode & 0o022:
            raise RefusedError(f"could have been written by others ({file.name}, mode {found.st_mode & 0o777:o})")
        return stream.read()


@dataclass(frozen=True)
class Engine:
    """An engine's content, its description, and where it lies."""

    content: bytes
    description: EngineDescription
    path: Path


class EngineCache:
    """A folder of engines.

    Args:
        folder: See `EngineOptions.cache`; made when it is first written to.

    Raises:
        DsegError: It is there, and others than this user may write to or look into it.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = default_folder() if folder is None else folder
        self._check()

    def _check(self) -> None:
        """Raise DsegError unless the folder is this user's alone, or missing."""
        try:
            found = self.folder.stat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unusable(f"cannot be read: {error.strerror}") from None
        if not stat.S_ISDIR(found.st_mode):
            raise self._unusable("is no folder")
        if found.st_uid != os.geteuid():
            raise self._unusable(f"belongs to user {found.st_uid}, not to you ({os.geteuid()})")
        if found.st_mode & 0o077:
            mode = oct(stat.S_IMODE(found.st_mode))[2:]
            raise self._unusable(f"is open to others (mode {mode}), and engines are code", f"`chmod 700 {self.folder}`")

    def find(self, keys: Sequence[EngineKey], but: str = "") -> Engine | str:
        """The engine of the first key that has one.

        Args:
            keys: Any of these will do.
            but: Digest of an engine that is not wanted any more.

        Returns:
            The engine, whole and safe to load, or why there is none, in words ("" where there never was one).
        """
        why = ""
        for key in keys:
            found = self._read(self.place(key), key)
            if isinstance(found, Engine) and found.description.sha256 != but:
                with suppress(OSError):  # on a disk that is only read
                    os.utime(found.path)
                return found
            why = why or (found if isinstance(found, str) else "")
        return why or self._nearest(keys[0])

    def place(self, key: EngineKey) -> Path:
        """The folder of an engine."""
        return self.folder / f"{key.library}-{key.capability}-{key.digest()}"

    def hold(self, key: EngineKey, waiting: Callable[[], None]) -> AbstractContextManager[None]:
        """Hold the folder of an engine while it is built; `waiting` is called while another process does.

        Raises:
            DsegError: It cannot be written to.
        """
        place = self.place(key)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # parents get the user's usual mode
            self._check()  # somebody else may have made it just now
            place.mkdir(mode=0o700, exist_ok=True)
            (place / ".lock").touch()
        except OSError as error:
            raise self._unusable(f"cannot be written: {error.strerror}") from None
        return locked(place, waiting)

    def keep(self, description: EngineDescription, limit: int) -> Engine:
        """Take what was built into `place / TEMPORARY`, while the folder is held.

        Args:
            description: Of the engine.
            limit: Engines that are kept; those least recently used are removed.

        Raises:
            DsegError: The disk is full, or the folder cannot be written.
        """
        place = self.place(description.key)
        try:
            (place / TEMPORARY).chmod(0o600)
            (place / TEMPORARY).replace(place / ENGINE)
            write_whole(place / DESCRIPTION, description.to_json())
            (place / DESCRIPTION).chmod(0o600)
        except OSError as error:
            raise self._unusable(f"cannot be written: {error.strerror}") from None
        found = self._read(place, description.key)
        if isinstance(found, str):
            raise DsegError(f"the engine that was just written {found}", where=place, fix="Look at the disk")
        self._remove_old(limit, place)
        return found

    def _read(self, place: Path, key: EngineKey) -> Engine | str:
        """The engine in a folder, or what is wrong with it."""
        missing = [name for name in (ENGINE, DESCRIPTION) if not (place / name).is_file()]
        if missing:
            return "" if len(missing) == 2 else f"is not whole: {missing[0]} is missing"
        try:
            description = EngineDescription.of_json(own_content(place / DESCRIPTION))
            content = own_content(place / ENGINE)
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        except RefusedError as error:
            return str(error)
        except ValueError:
            return f"has a broken description ({DESCRIPTION})"
        if description.key != key:
            return f"is of {key.differs_from(description.key)[0]}"
        return description.fault(content) or Engine(content, description, place / ENGINE)

    def _nearest(self, key: EngineKey) -> str:
        """What tells the engine of the same model and library that is most like `key` from it."""
        known = [k for k in self._keys() if (k.library, k.model) == (key.library, key.model)]
        differences = sorted((key.differs_from(other) for other in known), key=len)
        return f"is of {' and '.join(differences[0])}" if differences else ""

    def _keys(self) -> Iterator[EngineKey]:
        for file in sorted(self.folder.glob(f"*/{DESCRIPTION}")):
            with suppress(OSError, ValueError, RefusedError):
                yield EngineDescription.of_json(own_content(file)).key

    def _remove_old(self, limit: int, but: Path) -> None:
        """Remove what is beyond `limit`. Folders and their locks stay: another process may wait for one."""
        used: dict[Path, float] = {}
        for file in self.folder.glob(f"*/{ENGINE}"):
            with suppress(OSError):  # another process removes, too
                used[file] = file.stat().st_mtime
        others = sorted((file for file in used if file.parent != but), key=lambda file: -used[file])
        for file in others[limit - 1 :]:
            with suppress(OSError):
                for name in (DESCRIPTION, KERNELS, ENGINE):
                    (file.parent / name).unlink(missing_ok=True)

    def _unusable(
        self, what: str, fix: str = "Give another folder with the option cache (build.cache, engine.cache)"
    ) -> DsegError:
        return DsegError(what, where=self.folder, fix=fix)


def default_folder() -> Path:
    """`dseg/engines` in the user's cache, as the XDG Base Directory Specification has it. Raises DsegError."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given / "dseg" / "engines"
    try:
        return Path.home() / ".cache" / "dseg" / "engines"
    except RuntimeError:
        raise DsegError(
            "this user has no home to keep engines in",
            fix="Give a folder with the option cache (build.cache, engine.cache)",
        ) from None
