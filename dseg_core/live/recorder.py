"""The live recorder: messages and commands in, drives out. Knows nothing of what brings them."""

from __future__ import annotations

import time
from collections.abc import Callable

from dseg_core.errors import DsegError
from dseg_core.frame_messages import PackedFrame
from dseg_core.frames_from_pairs import Show
from dseg_core.ledger import Ledger
from dseg_core.live.drive import SingleDrive
from dseg_core.live.drives import Drives
from dseg_core.live.events import EventRing
from dseg_core.live.folder import LiveFolder
from dseg_core.live.frames import LiveFrames
from dseg_core.live.messages import LiveMessage, Memory
from dseg_core.live.status import Status, status_of
from dseg_core.sensors_from_bag import Sensors
from dseg_core.stage_options import LiveOptions

DISK = "disk"
_DISK_PERIOD = 0.5  # s, between two looks at the disk
_LOOK_PERIOD = 0.2  # s, between two looks at everything for other threads


class LiveRecorder:
    """Pairs messages, has frames made by threads and writes them. All its methods are one thread's.

    `problem`: why recording has ended by itself; empty when it has not. It and `status` may be read from any thread.

    Args:
        folder: Where drives go.
        sensors: What the messages are of; transforms may come later.
        options: What is recorded, and how.
        memory: What the messages live in.
        say: Told, in a line, what people should know.
        show: Called with every frame that is written.

    Raises:
        DsegError: A mask of the vehicle cannot be used, or an option names a camera that there is not.
    """

    def __init__(
        self,
        folder: LiveFolder,
        sensors: Sensors,
        options: LiveOptions,
        memory: Memory,
        say: Callable[[str], None],
        show: Show | None = None,
    ) -> None:
        self._folder, self._options, self._say = folder.path, options, say
        self._frames = LiveFrames(sensors, options, memory, show)
        self._drives = Drives(folder, sensors, options, self._frames.notes, say)
        self._sink: SingleDrive | EventRing | None = None
        self._latest_ns = 0
        self._event_ends = 0.0
        self._disk_seen = self._looked = 0.0
        self.problem = ""
        self.status: Status = self._look()

    @property
    def details(self) -> dict[str, str]:
        """The latest of a reason why messages are dropped."""
        return self._frames.details

    # Commands. Each returns a line for people, or raises DsegError.

    def start(self) -> str:
        """Begin a drive; with `record: events`, begin to keep the latest seconds."""
        if self._sink is not None:
            raise DsegError(f"recording already{self._into()}")
        try:
            self._drives.mend()
            self._drives.check_disk()
            self._take(self._new_sink())
        except OSError as error:
            raise self._fail(error) from None
        self._frames.begin()
        self.problem = ""
        self._look()
        return f"recording{self._into()}"

    def stop(self) -> str:
        """Decide what waits, write it, and finish the drive."""
        if self._sink is None:
            raise DsegError("not recording")
        before = len(self._drives.finished)
        try:
            self._frames.flush(self)
            self._sink.finish()
        except OSError as error:
            raise self._fail(error) from None
        self._let_go()
        return f"stopped; {self._told(before)}"

    def split(self) -> str:
        """Finish the drive, and go on in the next one; no message is lost between them."""
        if self._sink is None or self._sink.drive is None:
            raise DsegError("no drive is being written")
        before = len(self._drives.finished)
        try:
            self._frames.write_all(self)
            self._sink.finish()
            self._frames.begin_drive()
            if isinstance(self._sink, EventRing):
                self._sink.trigger(self._latest_ns)
            self._take(self._sink if isinstance(self._sink, EventRing) else self._new_sink())
        except OSError as error:
            raise self._fail(error) from None
        self._look()
        return f"{self._told(before)}; recording{self._into()}"

    def trigger(self) -> str:
        """Save the latest seconds, and the next ones."""
        if not isinstance(self._sink, EventRing):
            what = "not recording" if self._sink is None else "records continuously"
            raise DsegError(what, fix="~/trigger is for the parameter record: events")
        kept = self._sink.seconds
        try:
            self._drives.check_disk()
            self._sink.trigger(self._latest_ns)
        except OSError as error:
            raise self._fail(error) from None
        self._take(self._sink)
        self._event_ends = time.monotonic() + self._options.keep_after + self._options.pairing.patience + 1
        self._look()
        return f"{kept:.1f} s and {self._options.keep_after:g} s to come{self._into()}"

    def widen(self, sensors: Sensors) -> str:
        """Go on with these sensors, which are those so far and further cameras; nothing that has come is lost."""
        self._frames.widen(sensors)
        self._drives.widen(sensors)
        return f"cameras: {', '.join(camera.name for camera in sensors.cameras)}"

    def attempt(self, command: Callable[[LiveRecorder], str]) -> None:
        """Carry out a command that nobody waits for; what fails is the `problem`."""
        try:
            self._say(command(self))
        except DsegError as error:
            self.problem = str(error)

    # Messages.

    def push(self, sensor: str, message: LiveMessage) -> None:
        """Take a sensor's message; one of a sensor that was left out goes."""
        if self._sink is None or not self._frames.knows(sensor):
            return
        self._latest_ns = message.stamp_ns
        if self._frames.push(sensor, message):
            self._say(f"{sensor}'s stamps jumped back: a clock was set back, or a bag began anew; pairing begins anew")
        self.settle()

    def refused(self, sensor: str, reason: str, number: int = 1) -> None:
        """Messages of a sensor could not even be taken."""
        if self._sink is not None:
            self._frames.ledger.dropped[sensor][reason] += number

    def settle(self) -> None:
        """Write what is ready; to be called now and then, also while nothing comes."""
        now = time.monotonic()
        try:
            if self._sink is not None:
                self._frames.settle(self)
                self._end_event(now)
                self._look_at_disk(now)
        except OSError as error:
            self._fail(error)
        if now - self._looked > _LOOK_PERIOD:
            self._look()

    def write(self, packed: PackedFrame) -> None:
        """Take a frame that is ready. Raises OSError."""
        if self._sink is not None:
            self._sink.write(packed)
            self._frames.ledger = self._sink.ledger

    def close(self) -> None:
        """Finish everything."""
        if self._sink is not None:
            self.attempt(LiveRecorder.stop)
        self._frames.close()

    # How.

    def _new_sink(self) -> SingleDrive | EventRing:
        options = self._options
        if options.record == "continuous":
            return SingleDrive(self._drives.open, self._drives.close)
        before, after = round(options.keep_before * 1e9), round(options.keep_after * 1e9)
        return EventRing(self._drives.open, self._drives.close, before, after, round(options.keep_memory * 1e6))

    def _take(self, sink: SingleDrive | EventRing) -> None:
        self._sink, self._frames.ledger = sink, sink.ledger

    def _end_event(self, now: float) -> None:
        """An event's drive ends by its frames' stamps; without frames, also without any to come, by the clock."""
        if isinstance(self._sink, EventRing) and self._sink.drive and now > self._event_ends and self._frames.idle:
            self._sink.finish()
            self._take(self._sink)

    def _look_at_disk(self, now: float) -> None:
        """Stop cleanly before the disk is full."""
        if now - self._disk_seen < _DISK_PERIOD:
            return
        self._disk_seen = now
        try:
            self._drives.check_disk()
        except DsegError as error:
            self.attempt(LiveRecorder.stop)
            self.problem = f"recording has stopped: {error}"

    def _fail(self, error: OSError) -> DsegError:
        """The disk does not take frames any more: what is written stays, and is made whole at the next start."""
        why = DsegError(error.strerror or str(error), where=self._folder, fix="Mend that, then call ~/start")
        self.problem = f"recording has stopped: {why}"
        self._frames.give_up(DISK)
        if self._sink is not None and self._sink.drive is not None:
            self._sink.drive.abandon()
            self._drives.count(self._sink.ledger)
        self._let_go()
        return DsegError(self.problem)

    def _let_go(self) -> None:
        if isinstance(self._sink, EventRing):
            self._sink.clear()
            self._drives.count(self._sink.passed)
        self._sink, self._frames.ledger = None, Ledger()
        self._look()

    def _told(self, before: int) -> str:
        finished = self._drives.finished[before:]
        return f"{finished[0]} is finished" if finished else "nothing was written"

    def _into(self) -> str:
        return f" into {self._sink.drive.path}" if self._sink is not None and self._sink.drive is not None else ""

    def _look(self) -> Status:
        """What other threads may read."""
        self._looked = time.monotonic()
        ledgers = [self._drives.done, self._frames.ledger]
        if isinstance(self._sink, EventRing):
            ledgers.append(self._sink.passed)
        self.status = status_of(self._sink, ledgers, self._frames.waiting, len(self._drives.finished))
        return self.status
