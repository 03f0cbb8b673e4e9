"""Opening and closing of drives, and the account of all of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from dseg_core.errors import DsegError
from dseg_core.frame_writer import FrameWriter
from dseg_core.ledger import Ledger, account_in_words
from dseg_core.live.folder import LiveFolder, drive_account
from dseg_core.sensors_from_bag import Sensors
from dseg_core.stage_options import LiveOptions
from dseg_core.words import count


class Drives:
    """The drives of one folder, as they are recorded.

    `finished`: their names. `done`: where everything went that is in no open drive; without offsets.

    Args:
        folder: Where they go.
        sensors: What they are recorded with.
        options: Their names, and how much of the disk must stay free.
        notes: What people should know of the open drive, and how often.
        say: Told what became of each.
    """

    def __init__(
        self,
        folder: LiveFolder,
        sensors: Sensors,
        options: LiveOptions,
        notes: Counter[str],
        say: Callable[[str], None],
    ) -> None:
        self._folder, self._sensors, self._options, self._notes, self._say = folder, sensors, options, notes, say
        self._began = 0.0
        self.finished: list[str] = []
        self.done = Ledger()

    def widen(self, sensors: Sensors) -> None:
        """The open drive, and those to come, have these sensors."""
        self._sensors = sensors

    def mend(self) -> None:
        """Make whole what was cut off. Only while no drive is open. Raises OSError."""
        self._folder.rescue()

    def check_disk(self) -> None:
        """Raises DsegError when the disk is nearly full, OSError when it is gone."""
        least, free = self._options.min_free_disk, self._folder.free_gb
        if free < least:
            fix = "Make room, then call ~/start; min_free_disk says how much must stay free"
            raise DsegError(f"the disk has {free:.2f} GB left, less than {least:g}", where=self._folder.path, fix=fix)

    def open(self) -> FrameWriter:
        """A new drive. Raises OSError."""
        self._began = time.perf_counter()
        name = self._folder.free_name(self._options.drive_at(time.time()))
        return FrameWriter(self._folder.path, name, sync=True)

    def close(self, writer: FrameWriter, ledger: Ledger) -> None:
        """A drive is done; one without frames leaves nothing. Raises OSError."""
        cameras = {camera.name: camera.topic for camera in self._sensors.cameras}
        notes = [*self._sensors.notes, *(f"{note} ({count(n, 'time')})" for note, n in self._notes.items())]
        account = drive_account(ledger, notes, [*cameras, *self._sensors.others]) | {
            "lidar": self._sensors.lidar,
            "cameras": cameras,
        }
        words = account_in_words(account["sensors"])
        if writer.frames:
            writer.close()
            self._folder.add(writer.drive, account | {"seconds": round(time.perf_counter() - self._began, 3)})
            self.finished.append(writer.drive)
            self._say(f"drive {writer.drive}: {count(writer.frames, 'frame')}; {words}")
        else:
            writer.abandon()
            self._say(f"drive {writer.drive} gave no frame and was left out: {words}")
        self.count(ledger)

    def count(self, ledger: Ledger) -> None:
        """Something is accounted for, and over."""
        self.done.add(ledger)
        self.done.offsets_ns.clear()
