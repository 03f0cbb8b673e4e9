"""A recording without its work: the account that `dseg record` would give, and a look at some sweeps on the way."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dseg_core.bag import BagReader
from dseg_core.frame_messages import PackedFrame, pack
from dseg_core.frame_writer import FrameWriter
from dseg_core.frames_from_drive import DriveRecorder
from dseg_core.frames_from_regions import NO_TRANSFORM, AccountMaker, Made
from dseg_core.image_codecs import decode
from dseg_core.mcap_from_chunks import packed_chunk
from dseg_core.messages import VideoImage, stamp_ns
from dseg_core.pairs_from_bag import Dropped, SweepDone
from dseg_core.pairs_from_messages import ReadPair, read_pair
from dseg_core.records import EncodedImage, Frame, Sweep
from dseg_core.sensors_from_bag import LIDAR, Sensors
from dseg_core.shares_from_frames import LOOKS, shares_from_frames, spread
from dseg_core.stage_options import RecordOptions
from dseg_core.transforms import Matrix, TransformError

Look: TypeAlias = "Callable[[DryMaker, ReadPair, Made], None]"
"""Called, from any thread, with a sweep and its partners, and its frame without regions."""


class Rehearsal(DriveRecorder):
    """Goes through a bag as `record` does, with the same pairing, checks and account, but makes only a few frames.

    Args:
        reader: The bag, open.
        options: As `record` would have them.
        looks: How many of the sweeps that become frames, spread over the drive, are looked at.
        look: What looks at them.

    Raises:
        DsegError: The bag lacks what frames need.
    """

    doing = "inspect"

    def __init__(self, reader: BagReader, options: RecordOptions, looks: int, look: Look) -> None:
        super().__init__(reader, Path(), options)
        self.maker = DryMaker(reader.name, self._sensors, options)
        self._makers = (self.maker,)
        self._look = look
        expected = self._expected()
        self._to_look_at, self._to_weigh = set(spread(looks, expected)), set(spread(LOOKS, expected))
        self._looked_at: set[int] = set()
        self._weighed: set[int] = set()
        self._in_earnest: list[Frame] = []  # of threads, in any order
        self.nearest_ns: defaultdict[str, list[int]] = defaultdict(list)
        self._pairs.on_drop = self._note_nearest
        self.lidar_frame, self.image_frames = "", dict[str, str]()

    @property
    def sensors(self) -> Sensors:
        """What frames would be made from."""
        return self._sensors

    @property
    def stamps(self) -> list[int]:
        """Of the sweeps that would become frames [ns], sorted."""
        return sorted(self._frames.stamps)

    def run(self) -> dict[str, Any]:
        """The drive's account as `record` writes it, and `bytes_per_frame`, None where no frame could be made."""
        with tempfile.TemporaryDirectory(prefix="dseg_inspect_") as folder:
            scale = _Scale(Path(folder), "scale")
            with scale:
                self._make_frames(scale)
        return {**self._result(0.0), "bytes_per_frame": scale.bytes_per_frame()}

    def _expected(self) -> int:
        """About how many frames there will be, at least 1."""
        whole = max(self._reader.end_ns - self._reader.start_ns, 1)
        chosen = sum(min(b, self._reader.end_ns) - max(a, self._reader.start_ns) for a, b in self._windows)
        found = int(self._messages.get(LIDAR, 0) * min(max(chosen / whole, 0.0), 1.0)) // self._options.every
        most = self._options.max_frames
        return max(min(found, most) if most else found, 1)

    def shares(self) -> dict[str, Any]:
        """Of the frames that were made in earnest, for their size and this, see `shares_from_frames`."""
        return shares_from_frames(self._in_earnest)

    def _note_nearest(self, event: Dropped) -> None:
        if event.nearest_ns is not None:
            self.nearest_ns[event.sensor].append(event.nearest_ns)

    def _chosen(self, writer: FrameWriter) -> Iterator[SweepDone]:
        for number, event in enumerate(super()._chosen(writer)):
            if number in self._to_look_at:
                self._looked_at.add(event.sweep_ns)
            if number in self._to_weigh:
                self._weighed.add(event.sweep_ns)
            yield event

    def _make(self, event: SweepDone) -> tuple[Made, PackedFrame | None]:
        pair = read_pair(event, self._sensors, self._options.topics)
        self.lidar_frame = pair.sweep.frame_id
        self.image_frames.update({name: _frame_of(message) for name, message in pair.images.items()})
        made = pair.made_by(self.maker)
        if made.frame is None:
            return made, None
        if event.sweep_ns in self._looked_at:
            self._look(self.maker, pair, made)
        packed = PackedFrame(self._reader.name, event.sweep_ns, (), packed_chunk([], compress=False))
        if event.sweep_ns in self._weighed:
            connected = replace(
                pair,
                images={name: pair.images[name] for name in made.motion},
                others={name: pair.others[name] for name in made.merged},
            )
            frame = connected.made_by(self._maker).frame
            if frame is not None:
                self._in_earnest.append(frame)
                packed = pack(frame)
        return made, packed


class DryMaker(AccountMaker):
    """Checks sweeps and images as FrameMaker does, but finds no proposals and no regions, and encodes nothing.

    `disconnected`: why sensors have no transform for any of their messages, which ends a recording.
    """

    def __init__(self, drive: str, sensors: Sensors, options: RecordOptions) -> None:
        super().__init__(drive, sensors, options, logs=False)
        self._errors: dict[str, TransformError] = {}
        self._connected: set[str] = set()
        self._known: dict[tuple[Any, ...], tuple[int, int]] = {}

    @property
    def disconnected(self) -> dict[str, TransformError]:
        """Why, by camera."""
        return {name: error for name, error in self._errors.items() if name not in self._connected}

    def frame(
        self,
        sweep: Sweep,
        images: Mapping[str, Any],
        others: Mapping[str, Sweep] | None = None,
        before: Sequence[Sweep] = (),
    ) -> Made:
        """See FrameMaker; sensors without transform are left out and remembered."""
        connected, notes = {}, list[str]()
        for name, message in images.items():
            try:
                self.sensors.tree.lookup(_frame_of(message), sweep.frame_id, sweep.stamp_ns)
            except TransformError as error:
                self._errors.setdefault(name, error)
                notes.append(f"{self._cameras[name].topic}: {error.what}")
            else:
                connected[name] = message
                self._connected.add(name)
        made = super().frame(sweep, connected, others, before)
        for name, unconnected in made.unconnected.items():
            self._errors.setdefault(name, unconnected)
        self._connected.update(made.merged)
        lost = dict.fromkeys(images.keys() - connected.keys(), NO_TRANSFORM)
        return replace(made, unusable={**made.unusable, **lost}, notes=(*made.notes, *notes), unconnected={})

    def pixels(self, camera: str, message: Any) -> NDArray[np.uint8]:
        """An image as frames hold it, decoded: uint8 (H, W, 3) RGB."""
        return decode(super()._encoded(camera, message)[0])

    def transforms(self, frame_id: str, stamp_ns: int, sweep: Sweep) -> tuple[Matrix, Matrix | None, str | None]:
        """T_image_sweep for an image of that stamp, see FrameMaker; the last is why motion is not in them."""
        return self._transforms(EncodedImage(stamp_ns, frame_id, "", b""), sweep)

    def _encoded(self, camera: str, message: Any) -> tuple[EncodedImage, tuple[int, int]]:
        """Of raw images, the first of each kind is read; the others have its fate. Pictures of a video are decoded."""
        if isinstance(message, VideoImage):
            height, width = message.image().rgb.shape[:2]
            return EncodedImage(message.stamp_ns, message.frame_id, "", b""), (width, height)
        if not hasattr(message, "encoding"):
            return super()._encoded(camera, message)
        kind = (camera, message.encoding, message.width, message.height, message.step, len(message.data))
        if kind not in self._known:
            self._known[kind] = super()._encoded(camera, message)[1]
        return EncodedImage(stamp_ns(message), message.header.frame_id, "", b""), self._known[kind]


class _Scale(FrameWriter):
    """Weighs the frames that are made in earnest; the others have no views."""

    def __init__(self, folder: Path, drive: str) -> None:
        super().__init__(folder, drive, listed=False)
        self._sizes: list[int] = []

    def write(self, frame: Any) -> None:
        if frame.views:
            super().write(frame)
            self._sizes.append(self._file.tell())

    def bytes_per_frame(self) -> int | None:
        """Of the frames after the first, which has the schemas as well."""
        if len(self._sizes) > 1:
            return (self._sizes[-1] - self._sizes[0]) // (len(self._sizes) - 1)
        return self._sizes[0] if self._sizes else None


def _frame_of(message: Any) -> str:
    """The frame of an image message or of a picture of a video."""
    return str(message.frame_id if isinstance(message, VideoImage) else message.header.frame_id)
