"""`dseg record`: bags to a folder of frames, one after the other, by several processes, or on a Ray cluster."""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from dseg_core.bag import BagReader, check_source, drive_name, find_bags
from dseg_core.errors import DsegError, system_error
from dseg_core.folder_lock import locked
from dseg_core.frame_writer import part_path
from dseg_core.frames_from_drive import record_drive
from dseg_core.frames_from_pairs import Show
from dseg_core.lidar.packages import check_packages
from dseg_core.preview_from_frames import preview
from dseg_core.progress import Summary, check_writable, progress
from dseg_core.recorded_folder import (
    PREVIEW,
    check_options,
    claim_frames,
    existing,
    leaving_no_trace,
    recorded_drives,
    summary_of,
)
from dseg_core.rosbag2_metadata import write_metadata
from dseg_core.shares_from_frames import (
    LOOKS,
    MOUNTING,
    shares_from_frames,
    spread,
    told_of_shares,
    told_of_unseen,
)
from dseg_core.stage_options import RecordOptions
from dseg_core.store import FrameStore, read_json
from dseg_core.viewer import LiveView

Fate = dict[str, Any] | str
"""What became of a bag: the drive's account, or why there is none."""


def record(bags: Sequence[Path], out: Path, options: RecordOptions) -> Summary:
    """Record bags into a folder of frames; drives that are there already are kept, one that was cut off is finished.

    A bag that cannot be used does not stop the others; it is among the summary's problems.

    Raises:
        DsegError: No bag can be used, `out` was recorded with other options, or another run is writing there.
    """
    check_packages(options.proposals)
    out = out.resolve() if ".." in out.parts else out  # else folders would be made, and not removed, on the way
    found = find_bags(bags)
    _check_places(found, out)
    before = existing(out)
    with locked(out), leaving_no_trace(out, before):
        check_options(out, options)
        drives = recorded_drives(out)
        named = {drive_name(bag): bag for bag in found}
        kept = [name for name in named if name in drives and part_path(out, name).is_file()]
        failed = {name: why for name in kept if (why := _other_bag(named[name], drives[name], out))}
        kept = [name for name in kept if name not in failed]
        waiting = {name: bag for name, bag in named.items() if name not in kept and name not in failed}
        if waiting:
            check_writable(out)
        with LiveView(out) if options.view and waiting else contextlib.nullcontext() as live:
            for name, fate in _run(waiting, out, options, live.follow if live else None):
                if isinstance(fate, str):
                    failed[name] = fate
                    continue
                drives = dict(sorted({**drives, name: fate}.items()))
                write_metadata(out)
                summary_of(out, drives, kept, failed).write(out, "record", options)
        if len(failed) == len(named):
            raise DsegError("; ".join(failed.values()))
        unknown = [drive for drive, row in drives.items() if "objects" not in row]
        fresh = len(kept) + len(failed) < len(named) or not (out / PREVIEW).is_file()
        if unknown or fresh:
            store = FrameStore(out)
            for drive in {*unknown} & {*store.drives}:
                drives[drive] |= _shares(store, drive)
            if fresh:
                preview(store, out / PREVIEW)
        summary = summary_of(out, drives, kept, failed)
        summary = _told(summary, drives)
        known = read_json(out / "summary.json").get("results") if kept else None
        # What is finished may lie on a disk that is only read.
        return summary if known == summary.results else summary.write(out, "record", options)


def _shares(store: FrameStore, drive: str) -> dict[str, Any]:
    """Of some of a drive's frames, see `shares_from_frames`."""
    keys = [key for key in store.frame_keys if key[0] == drive]
    return shares_from_frames(store.frame(*keys[i]) for i in spread(LOOKS, len(keys)))


def _told(summary: Summary, drives: Mapping[str, Any]) -> Summary:
    """The summary with a line for each drive that can hardly be right; one of no use at all is a problem."""
    lines, problems = [summary.text], list(summary.problems)
    for drive, row in drives.items():
        lines += [f"{drive}: {line}" for line in told_of_shares(row)]
        if unseen := row.get("unseen"):
            told = f"{drive}: {told_of_unseen(unseen)}. {MOUNTING}"
            (lines if row.get("seen") else problems).append(told)
    return replace(summary, text="\n".join(lines), problems=tuple(problems))


def _check_places(bags: Sequence[Path], out: Path) -> None:
    """What is read is not written over. Raises DsegError."""
    for bag in bags:
        check_source(bag)
        if out.resolve().is_relative_to(bag.resolve()):
            raise DsegError("lies in the bag that is recorded", where=out, fix="Give --out another folder")
        if bag.resolve().is_relative_to(out.resolve()):
            raise DsegError(f"holds the bag {bag} that is recorded", where=out, fix="Give --out another folder")
    claim_frames(out)


def _other_bag(bag: Path, row: Mapping[str, Any], out: Path) -> str | None:
    """Why a drive of this name that was recorded before is of another bag; None when it is of this one."""
    try:
        with BagReader(bag) as reader:
            if reader.fingerprint == row.get("fingerprint"):
                return None
    except DsegError as error:
        return str(error)
    fix = "Rename the bag, since drives are called by their bags, or use another --out"
    other = row.get("bag", "recorded live")
    return str(DsegError(f"another bag of this name, {other}, was recorded into {out}", where=bag, fix=fix))


def _run(bags: Mapping[str, Path], out: Path, options: RecordOptions, show: Show | None) -> Iterator[tuple[str, Fate]]:
    """Record the bags, and tell what became of each as soon as it is known."""
    if options.ray_address:
        yield from _on_ray(bags, out, options)
    elif min(options.workers, len(bags)) > 1:
        yield from _by_processes(bags, out, options)
    else:
        for name, bag in bags.items():
            yield name, _fate(bag, out, options, show)


def _fate(bag: Path, out: Path, options: RecordOptions, show: Show | None = None) -> Fate:
    try:
        return record_drive(bag, out, options, show)
    except DsegError as error:
        return str(error)
    except OSError as error:  # a full disk, a disk that is gone
        told = system_error(error, out)
        fix = f"{told.fix or 'Mend that'}, then run again: it goes on from there"
        return str(DsegError(told.what, where=told.where, fix=fix))


def _by_processes(bags: Mapping[str, Path], out: Path, options: RecordOptions) -> Iterator[tuple[str, Fate]]:
    """A process a bag, so that one that crashes or is killed costs its own bag only."""
    pool = ThreadPoolExecutor(options.workers)
    try:
        running = {pool.submit(_in_process, bag, out, options): name for name, bag in bags.items()}
        for future in progress(as_completed(running), "record", len(running), "bag"):
            yield running[future], future.result()
    finally:  # after an interruption there are some that run, and some that wait
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        pool.shutdown()


def _in_process(bag: Path, out: Path, options: RecordOptions) -> Fate:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_fate, args=(sender, bag, out, options), daemon=True)
    process.start()
    sender.close()
    try:
        fate: Fate = receiver.recv()
    except EOFError:
        process.join()
        fate = f"{bag}: the process that recorded it ended with {process.exitcode}. Run again to go on"
    process.join()
    return fate


def _send_fate(sender: Connection[Fate, Fate], bag: Path, out: Path, options: RecordOptions) -> None:
    os.environ["TQDM_DISABLE"] = "1"  # the parent shows progress
    with contextlib.suppress(KeyboardInterrupt):  # the parent says so
        sender.send(_fate(bag, out, options))


def _on_ray(bags: Mapping[str, Path], out: Path, options: RecordOptions) -> Iterator[tuple[str, Fate]]:
    """A task a bag; bags and `out` lie on a file system that all nodes share."""
    if importlib.util.find_spec("ray") is None:
        raise DsegError("--ray-address needs Ray, which is not installed", fix="pip install 'dseg_ros[ray]'")
    import ray

    _check_reachable(options.ray_address)
    try:
        ray.init(address=options.ray_address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise DsegError(f"no Ray cluster: {' '.join(str(error).split())}", where=options.ray_address) from None
    try:
        task: Callable[..., Any] = ray.remote(num_cpus=options.threads or 1)(_fate).remote
        waiting = {task(bag.resolve(), out.resolve(), options): name for name, bag in bags.items()}
        for _ in progress(range(len(waiting)), "record", len(waiting), "bag"):
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            name = waiting.pop(done)
            try:
                yield name, ray.get(done)
            except ray.exceptions.RayError as error:
                yield name, f"{bags[name]}: {' '.join(str(error).split())[:300]}. Run again to go on"
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes, and then ends the process. Raises DsegError."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return  # such as auto, which Ray looks up itself
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise DsegError(f"no Ray cluster answers: {error}", where=address, fix="See `ray status`") from None
