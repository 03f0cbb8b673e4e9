"""The folder of frames that is recorded into: held for this process, made whole after a kill, its account kept."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dseg_core.errors import DsegError, system_error
from dseg_core.folder_lock import locked
from dseg_core.frame_writer import FrameWriter, part_path, unfinished_part
from dseg_core.ledger import Ledger
from dseg_core.preview_from_frames import preview
from dseg_core.recorded_folder import PREVIEW, check_options, claim_frames, recorded_drives, summary_of
from dseg_core.records import Frame
from dseg_core.rosbag2_metadata import write_metadata
from dseg_core.sensors_from_bag import LIDAR
from dseg_core.stage_options import RecordOptions
from dseg_core.store import FrameStore, salvage
from dseg_core.words import count

_PART, _CUT = "_0.mcap", ".cut"


class LiveFolder:
    """Held from its making to `close`. What a run that was killed left is made whole first, see `rescued`.

    Args:
        path: Made when missing.
        options: What `dseg record` would be told for the same frames.

    Raises:
        DsegError: It is for something else, was recorded with other options, or another run is writing there.
    """

    def __init__(self, path: Path, options: RecordOptions) -> None:
        self.path, self._options = path, options
        self.rescued: list[str] = []
        """A line for each drive that was made whole."""
        self._held = contextlib.ExitStack()
        claim_frames(path)
        try:
            self._held.enter_context(locked(path))
            check_options(path, options)
            self.drives = recorded_drives(path)
            self.rescue()
        except OSError as error:
            self.close()
            raise system_error(error, path) from None
        except BaseException:
            self.close()
            raise

    @property
    def free_gb(self) -> float:
        """What is left of the disk, GB. Raises OSError."""
        return shutil.disk_usage(self.path).free / 1e9

    def free_name(self, name: str) -> str:
        """The name, numbered where a drive has it already."""
        number, found = 1, name
        while found in self.drives or part_path(self.path, found).exists() or self._unfinished(found):
            number += 1
            found = f"{name}_{number}"
        return found

    def add(self, name: str, account: dict[str, Any]) -> None:
        """A drive is finished: tell of it in summary.json."""
        self.drives = dict(sorted({**self.drives, name: account}.items()))
        if not (self.path / PREVIEW).is_file():
            with contextlib.suppress(DsegError):  # an image that cannot be decoded: `dseg check` finds it
                preview(FrameStore(self.path), self.path / PREVIEW)
        self._tell()

    def close(self) -> None:
        """Let other runs write here."""
        self._held.close()

    def _tell(self) -> None:
        shown = (self.path / PREVIEW).is_file()
        summary_of(self.path, self.drives, preview=shown).write(self.path, "record", self._options)

    def _unfinished(self, name: str) -> bool:
        part = unfinished_part(self.path, name)
        return part.exists() or part.with_name(part.name + _CUT).exists()

    def rescue(self) -> None:
        """Give every part an end, and an account. Only while no drive is being written. Raises OSError."""
        cut = {path.name.partition(_PART)[0] for path in self.path.glob(f"*{_PART}.tmp*")}
        for name in sorted(cut):
            self._finish(name)
        for part in sorted(self.path.glob(f"*{_PART}")):
            name = part.name.removesuffix(_PART)
            if name not in self.drives:
                cut.add(name)
                self.drives = dict(
                    sorted({**self.drives, name: account_of(salvage(part, name), self._options)}.items())
                )
        if cut:
            write_metadata(self.path)
            self._tell()

    def _finish(self, name: str) -> None:
        """A part that was cut off: its whole frames in one that is not."""
        part = unfinished_part(self.path, name)
        cut = part.with_name(part.name + _CUT)
        if part.exists() and not cut.exists():  # else the part was still taking over what the cut one has
            part.replace(cut)
        writer = FrameWriter(self.path, name, listed=False)
        with writer:
            for frame in salvage(cut, name):
                writer.write(frame)
            if not writer.frames:
                writer.abandon()
        if writer.frames:
            self.rescued.append(f"drive {name} was cut off; its {count(writer.frames, 'whole frame')} were saved")
        cut.unlink()


def account_of(frames: Iterable[Frame], options: RecordOptions) -> dict[str, Any]:
    """The account of a drive as far as its frames tell."""
    ledger = Ledger()
    for frame in frames:
        ledger.paired[LIDAR] += 1
        constants = options.pairing.known_offsets_ns([view.camera for view in frame.views])
        for view in frame.views:
            ledger.paired[view.camera] += 1
            ledger.offsets_ns[view.camera].append(view.stamp_ns - frame.stamp_ns - constants[view.camera])
            ledger.compensated += view.motion_compensated
            ledger.not_compensated["not known"] += not view.motion_compensated
    return drive_account(ledger, ["was cut off; what was dropped is not known"])


def drive_account(ledger: Ledger, notes: Iterable[str] = (), cameras: Iterable[str] = ()) -> dict[str, Any]:
    """A drive's row in summary.json; `cameras`: and other LiDARs, also those that sent nothing."""
    sensors = [LIDAR, *sorted({*cameras, *ledger.paired, *ledger.surplus, *ledger.dropped} - {LIDAR})]
    return {
        "notes": [
            *notes,
            *(f"{note} ({count(n, 'image')})" for note, n in ledger.notes.items()),
            *(f"{note} ({count(n, 'sweep')})" for note, n in ledger.sweep_notes.items()),
        ],
        "frames": ledger.paired[LIDAR],
        "views": ledger.compensated + ledger.not_compensated.total(),
        "seconds": 0.0,
        **ledger.to_dict({sensor: ledger.total(sensor) for sensor in sensors}),
    }
