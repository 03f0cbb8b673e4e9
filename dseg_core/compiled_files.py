"""The files in which numba keeps compiled loops: of the source as it is, whole, and no reason for a run to fail."""

from __future__ import annotations

import functools
import hashlib
import pickle
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba

_LIDAR = Path(__file__).parent / "lidar"  # whose loops are used in those of other folders
_DIGEST = 16  # bytes
_FORMAT = "digest"  # of the files
_DAMAGED = "damaged"
_said: set[str] = set()


def renewed(dispatcher: Any) -> Any:
    """Have it compiled anew after a change of any loop that it may call.

    numba asks only whether the function's own file has changed. What is compiled holds those of other files, too.
    """
    kept: Any = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if hasattr(kept, "_source_stamp"):  # no interface of numba's; without it, only what developers change is missed
        folders = {Path(dispatcher.py_func.__code__.co_filename).parent, _LIDAR}
        kept._source_stamp = (_FORMAT, kept._source_stamp, *sorted(map(_digest, folders)))
    return dispatcher


def forgiving(dispatcher: Any) -> Any:
    """Have files that cannot be read or written cost compiling anew and a line, not the run.

    A disk may be full, and of what was written when a vehicle's power was cut parts may be lost. What is damaged could
    be run all the same, so that every file ends with a digest of what it holds.
    """
    cache: Any = getattr(dispatcher, "_cache", None)
    file: Any = getattr(cache, "_cache_file", None)
    if folder_of(dispatcher) is None or not all(hasattr(file, name) for name in ("_load_data", "_data_path", "_dump")):
        return dispatcher
    told = numba.config.CACHE_DIR
    if told and not Path(cache.cache_path).is_relative_to(told):
        say_once(f"NUMBA_CACHE_DIR: nothing can be written to {told}; compiled loops are kept with the user's others")
    load_index, save, dump = file._load_index, cache.save_overload, file._dump

    def say_useless(why: str) -> None:
        say_once(f"compiled loops in {cache.cache_path} cannot be used ({why}): compiling anew")

    def loaded_index() -> Any:
        try:
            return load_index()
        except Exception as error:  # of what is damaged, any
            say_useless(_why(error))
            with suppress(OSError):
                Path(file._index_path).unlink()
            return {}

    def loaded_data(name: str) -> Any:
        data = Path(file._data_path(name)).read_bytes()
        held, digest = data[:-_DIGEST], data[-_DIGEST:]
        if _digest_of(held) != digest:
            say_useless(_DAMAGED)
            raise OSError  # with which numba's own loading takes it for lost
        return pickle.loads(held)  # noqa: S301  # as numba's own

    def dumped(what: Any) -> bytes:
        held = dump(what)
        return bytes(held + _digest_of(held))

    def saved(kinds: Any, loop: Any) -> None:
        try:
            save(kinds, loop)
        except OSError as error:
            say_once(
                f"compiled loops cannot be kept in {cache.cache_path} ({_why(error)}): compiling in every process. "
                "Free some space there, or set NUMBA_CACHE_DIR"
            )

    file._load_index, file._load_data, file._dump, cache.save_overload = loaded_index, loaded_data, dumped, saved
    return dispatcher


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or _DAMAGED


def _digest_of(held: bytes) -> bytes:
    return hashlib.blake2b(held, digest_size=_DIGEST).digest()


@functools.cache
def _digest(folder: Path) -> str:
    """Of all source in a folder."""
    found = hashlib.blake2b()
    for path in sorted(folder.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def is_kept(dispatcher: Any, kinds: Any = None) -> bool:
    """Whether a loop is in numba's cache, as its source is now and for this processor: for these kinds, or for any."""
    kept, codegen = dispatcher._cache, dispatcher.targetctx.codegen()
    index = kept._cache_file._load_index()
    if kinds is not None:
        return kept._index_key(kinds, codegen) in index
    return any(processor == codegen.magic_tuple() for _, processor, _ in index)


def folder_of(dispatcher: Any) -> Path | None:
    """Where a loop is kept; None where it is not."""
    kept: Any = getattr(dispatcher, "_cache", None)
    # No interface of numba's: without these, every process compiles by itself.
    if not hasattr(getattr(kept, "_cache_file", None), "_load_index") or not hasattr(kept, "_index_key"):
        return None
    return Path(kept.cache_path)


def say_once(line: str) -> None:
    """On stderr, once in a process."""
    if line not in _said:
        _said.add(line)
        print(line, file=sys.stderr, flush=True)
