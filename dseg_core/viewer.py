"""`dseg view`: frames in Rerun's viewer, on this machine, on another, or later from a file."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from dseg_core.errors import DsegError
from dseg_core.progress import Summary, check_writable, progress, sync_folder
from dseg_core.records import Frame
from dseg_core.rerun_from_frame import layout, log_colors, log_frame, log_missing
from dseg_core.stage_options import ViewOptions
from dseg_core.store import FrameStore
from dseg_core.viewer_process import check_reachable, has_display, start_viewer
from dseg_core.words import count

_PATIENCE = 60.0  # seconds that a viewer or a disk may take for one frame


class LiveView:
    """Shows frames as they come: in a window, in a viewer elsewhere, or in a file. A context manager, of one thread.

    With neither `save` nor `connect` a window opens; its viewer listens to this machine only and sends none of Rerun's
    usage statistics. Where there is no display a file is written beside the folder of frames instead, and a line says
    so. A file appears whole when the context ends well.

    Args:
        frames: The folder of frames, for that file's name.
        save: The .rrd file to write.
        connect: Address of a viewer that runs.

    Raises:
        DsegError: Rerun is not installed, no viewer answers, or the file cannot be written.
    """

    def __init__(self, frames: Path, save: Path | None = None, connect: str = "") -> None:
        if importlib.util.find_spec("rerun") is None:
            raise DsegError("the viewer needs Rerun, which is not installed", fix="pip install 'dseg_ros[view]'")
        import rerun as rr

        if save is None and not connect and not has_display():
            folder = frames.resolve()
            save = folder.with_name(folder.name + ".rrd")
            print(f"There is no display: writing {save}; `rerun {save}` opens it", file=sys.stderr, flush=True)
        self.file = save
        self._temporary = save.with_name(f".{save.name}.{os.getpid()}.tmp") if save else None
        self._where = str(save or connect or "Rerun's viewer")
        self._drives: dict[str, set[str]] = {}
        self._colored: dict[str, int] = {}
        self._frames, self._broken, self._stuck = 0, False, False
        self._recording: Any = rr.RecordingStream("dseg")
        self._open(connect)

    def _open(self, connect: str) -> None:
        if self._temporary is not None:
            check_writable(self._temporary.parent)
            self._temporary.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.touch()  # Rerun only logs what is wrong with a path; this raises OSError
            self._recording.save(self._temporary)
        elif connect:
            check_reachable(connect)
            with self._reporting():
                self._recording.connect_grpc(connect)
        else:
            place = start_viewer()
            with self._reporting():
                self._recording.connect_grpc(place)

    def log_frame(self, frame: Frame) -> None:
        """Show a frame; returns when the viewer or the file has it. Raises DsegError when that fails."""
        import rerun as rr

        cameras = {view.camera for view in frame.views}
        known = self._drives.setdefault(frame.drive, set())
        ids = 1 + max(int(frame.proposals.max(initial=0)), 255)
        if ids > self._colored.get(frame.drive, 0):
            self._colored[frame.drive] = min(65536, 1 << (ids - 1).bit_length())
            log_colors(self._recording, frame.drive, self._colored[frame.drive])
        if not known:
            self._recording.log([frame.drive], rr.ViewCoordinates.FLU, static=True)
        if cameras - known or not known:
            known |= cameras
            # A window follows what comes, a file is played from its beginning.
            active = next(iter(self._drives)) if self.file else frame.drive
            self._recording.send_blueprint(layout(self._drives, active))
        log_frame(self._recording, frame, self._frames)
        log_missing(self._recording, frame, known - cameras)
        self._frames += 1
        self._flush()

    def follow(self, frame: Frame) -> None:
        """As `log_frame`, for a run that has something better to do: a failure is told once, then nothing is shown."""
        if self._broken:
            return
        try:
            self.log_frame(frame)
        except DsegError as error:
            self._broken = True
            print(f"{error}. Nothing more is shown; the run goes on", file=sys.stderr, flush=True)

    def _flush(self) -> None:
        """Wait until the viewer or the file has everything; Rerun may wait for ever when its writer has died."""
        failed: list[BaseException] = []

        def wait() -> None:
            try:
                self._recording.flush(timeout_sec=_PATIENCE)
            except Exception as error:  # handed on to the thread that waits
                failed.append(error)

        waiting = threading.Thread(target=wait, daemon=True, name="rerun-flush")
        waiting.start()
        waiting.join(_PATIENCE + 5)
        self._stuck = waiting.is_alive()
        if self._stuck:
            raise DsegError(f"does not take frames for {_PATIENCE:.0f} s", where=self._where, fix="Is its disk full?")
        if failed:
            self._stuck = True  # what failed once is not waited for again
            with self._reporting():
                raise failed[0]

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """Rerun's errors as ours."""
        try:
            yield
        except RuntimeError as error:
            raise DsegError(str(error).strip().partition("\n")[0], where=self._where) from None

    def __enter__(self) -> LiveView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._stuck:
            self._recording.disconnect()
        if self._temporary is None or self.file is None:
            return
        if error is None and self._frames and not self._broken and not self._stuck:
            with self._temporary.open("rb") as file:
                os.fsync(file.fileno())
            self._temporary.replace(self.file)
            sync_folder(self.file.parent)
        else:
            self._temporary.unlink(missing_ok=True)


def view(frames: Path, options: ViewOptions) -> Summary:
    """Show a folder of frames.

    Raises:
        DsegError: There are no frames, or they cannot be shown; see `LiveView`.
    """
    store = FrameStore(frames)
    if options.drive and options.drive not in store.drives:
        raise DsegError(f"has no drive {options.drive!r}", where=frames, fix=f"It has {', '.join(store.drives)}")
    keys = [
        key
        for drive in ([options.drive] if options.drive else store.drives)
        for key in [key for key in store.frame_keys if key[0] == drive][:: options.every][: options.max_frames or None]
    ]
    views, bent = 0, 0
    with LiveView(frames, options.save, options.connect) as live:
        for key in progress(keys, "view", unit="frame"):
            frame = store.frame(*key)
            live.log_frame(frame)
            views += len(frame.views)
            bent += sum(view.calibration.distorted for view in frame.views)
    drives = len({drive for drive, _ in keys})
    text = f"{count(len(keys), 'frame')} with {count(views, 'view')} of {count(drives, 'drive')}"
    if live.file is not None:
        size = live.file.stat().st_size / 1e6
        text = f"Wrote {live.file} ({size:.1f} MB): {text}. `rerun {live.file}` opens it."
    else:
        text = f"Showed {text}."
    if bent:
        text += f" Boxes are drawn into {count(bent, 'view')} as if the lens did not bend lines."
    results = {"frames": len(keys), "views": views, "file": None if live.file is None else str(live.file)}
    return Summary(text, results)
