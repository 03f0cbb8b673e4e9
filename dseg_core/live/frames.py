"""Live messages to frames: pairing, waiting for transforms, and dropping what there is no room for."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dseg_core.errors import DsegError
from dseg_core.frame_messages import PackedFrame
from dseg_core.frames_from_pairs import FrameRecorder, FrameSink, Show
from dseg_core.frames_from_regions import NO_TRANSFORM, FrameMaker, Made
from dseg_core.ledger import Ledger
from dseg_core.live.messages import QUEUE_FULL, LiveMessage, Memory
from dseg_core.live.transforms import TransformsOfPairs
from dseg_core.live.videos import LivePicture, LiveVideos
from dseg_core.messages import VIDEO_TYPES
from dseg_core.pairs_from_bag import SweepDone
from dseg_core.pairs_from_messages import ChosenPairs, make_frame
from dseg_core.sensors_from_bag import LIDAR, Sensors
from dseg_core.stage_options import LiveOptions
from dseg_core.transforms import TransformError

NO_POSITION = "position not known"
_MANY = 1_000_000  # frames are bounded by memory


class LiveFrames:
    """Takes messages, and has threads make the frames of their pairs. Its methods are one thread's.

    `ledger` is where everything is accounted for, and may be replaced. `details`: the latest of a reason why messages
    are dropped. `notes`: what people should know of the open drive, and how often.

    Args:
        sensors: What the messages are of; transforms may come later.
        options: What is recorded, and how.
        memory: What the messages live in.
        show: Called with every frame that is written.
    """

    def __init__(self, sensors: Sensors, options: LiveOptions, memory: Memory, show: Show | None) -> None:
        self._sensors, self._options, self._memory = sensors, options, memory
        self._record_options = options.record_options()
        self._maker = FrameMaker("live", sensors, self._record_options)
        self._transforms = TransformsOfPairs(sensors.tree, options.topics)
        self._frames = FrameRecorder(self._make, Ledger(), options.threads, show=show, most_waiting=_MANY)
        self._pairs, self._videos = self._new_pairs(), LiveVideos()
        self._waiting: deque[tuple[float, SweepDone]] = deque()  # for transforms, until that time
        self.details: dict[str, str] = {}
        self.notes: Counter[str] = Counter()

    @property
    def ledger(self) -> Ledger:
        """Where everything is accounted for."""
        return self._frames.ledger

    @ledger.setter
    def ledger(self, ledger: Ledger) -> None:
        self._frames.ledger = ledger

    @property
    def waiting(self) -> int:
        """Pairs whose frames are being made."""
        return self._frames.waiting

    def begin(self) -> None:
        """Begin anew."""
        self._pairs = self._new_pairs()
        self._videos.begin()
        self.begin_drive()

    def widen(self, sensors: Sensors) -> None:
        """Go on with further cameras; nothing is lost. Raises DsegError where they cannot be used."""
        maker = FrameMaker("live", sensors, self._record_options)
        maker.said = self._maker.said
        self._pairs.widen(sensors)
        self._sensors, self._maker = sensors, maker

    def knows(self, sensor: str) -> bool:
        """Whether messages of a sensor are of use."""
        return sensor == LIDAR or sensor in self._sensors.others or any(c.name == sensor for c in self._sensors.cameras)

    @property
    def idle(self) -> bool:
        """Whether no pair waits for its frame."""
        return not self._waiting and not self._frames.waiting

    def begin_drive(self) -> None:
        """Another drive is open: sweeps of any stamp may be in it."""
        self._frames.stamps.clear()
        self.notes.clear()

    def push(self, sensor: str, message: LiveMessage) -> bool:
        """Take a message; whether stamps jumped back with it."""
        jumps = self._pairs.pairing.jumps
        try:
            handle = self._videos.picture(sensor, message) if message.kind in VIDEO_TYPES else message
        except DsegError as error:
            self.details[error.what] = str(error)
            self.ledger.dropped[sensor][error.what] += 1
            return False
        try:
            self._decide(self._pairs.push(sensor, message.stamp_ns, handle))
        except TransformError as error:
            self.details[NO_TRANSFORM] = str(error)
            self.ledger.dropped[sensor][NO_TRANSFORM] += 1
        self._relieve()
        if self._pairs.pairing.jumps == jumps:
            return False
        self.notes["a sensor's clock was set back, and pairing begun anew"] += 1
        return True

    def settle(self, sink: FrameSink, patient: bool = True) -> None:
        """Have frames made of pairs whose transforms are known, or were waited for; write those that are ready.

        Raises:
            OSError: Of the sink.
        """
        now = time.monotonic()
        while self._waiting:
            until, event = self._waiting[0]
            if patient and now < until and not self._transforms.reach(event):
                break
            self._waiting.popleft()
            if self._frames.waiting and _size(_messages([*self._frames.making, event])) > self._memory.limit / 2:
                self._frames.drop(event, QUEUE_FULL)
            elif self._is_chosen(event):
                self._frames.record(event, sink)
        self._frames.write_ready(sink)

    def write_all(self, sink: FrameSink) -> None:
        """Wait for the frames that are being made, and write them. Raises OSError."""
        self._frames.finish(sink)

    def flush(self, sink: FrameSink) -> None:
        """Decide and write everything that has come. Raises OSError."""
        self._decide(self._pairs.flush())
        self.settle(sink, patient=False)
        self.write_all(sink)

    def give_up(self, reason: str) -> None:
        """Drop everything that has come and is not yet written."""
        self._frames.give_up(reason)
        self._decide(self._pairs.flush())
        while self._waiting:
            self._frames.drop(self._waiting.popleft()[1], reason)

    def close(self) -> None:
        """End the threads."""
        self._frames.__exit__(None, None, None)

    def _new_pairs(self) -> ChosenPairs:
        return ChosenPairs(self._sensors, self._record_options, self._frames, LiveMessage.read)

    def _decide(self, events: Iterable[SweepDone]) -> None:
        until = time.monotonic() + self._options.tf_timeout
        shortened = self._pairs.shortened
        self._waiting.extend((until, event) for event in events)
        if self._pairs.shortened > shortened:
            note = "a sweep was told with fewer earlier ones (proposals.aggregate) for want of memory"
            self.notes[note] += self._pairs.shortened - shortened

    def _relieve(self) -> None:
        """Pairing waits for cameras that lag only as long as there is room for all that others send meanwhile."""
        if self._memory.used < self._memory.limit / 2:
            return
        while _size(self._pairs.held) > self._memory.limit / 2:
            if not self._pairs.forget():
                self._decide(self._pairs.decided(self._pairs.pairing.hurry()))

    def _is_chosen(self, event: SweepDone) -> bool:
        unknown = self._pairs.unknown
        try:
            chosen = self._pairs.choose(event)
        except DsegError as error:
            self.details[NO_POSITION] = str(error)
            self._frames.drop(event, NO_POSITION)
            return False
        if self._pairs.unknown > unknown:
            self.notes["a sweep was kept though its position is not known"] += 1
        return chosen

    def _make(self, event: SweepDone) -> tuple[Made, PackedFrame | None]:
        """In a thread."""
        try:
            made, packed = make_frame(self._maker, event, _read)
        except TransformError as error:
            self.details[NO_TRANSFORM] = str(error)
            raise DsegError(NO_TRANSFORM) from None
        if made.unconnected:  # transforms may still come: it is no reason to stop
            self.details[NO_TRANSFORM] = str(next(iter(made.unconnected.values())))
            made = replace(made, unconnected={}, notes=())
        return made, packed


def _size(messages: Iterable[LiveMessage | LivePicture]) -> int:
    """The memory that messages live in, bytes."""
    return sum(len(message.data) for message in messages)


def _messages(events: Iterable[SweepDone]) -> Iterable[LiveMessage | LivePicture]:
    """All messages of pairs, each once: sweeps and images may belong to several."""
    found: dict[int, LiveMessage | LivePicture] = {}
    for event in events:
        for message in (event.sweep, *event.before, *(pair.image for pair in event.pairs.values())):
            found[id(message)] = message
    return found.values()


def _read(message: LiveMessage | LivePicture) -> Any:
    return message.read()
