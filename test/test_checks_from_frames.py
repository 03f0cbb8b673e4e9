"""Each thing that can go wrong with recorded frames is put wrong in a tiny folder, found, and named."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
import yaml
from bags import cloud, write_bag
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.exceptions import McapError
from mcap.reader import SeekingReader
from mcap.writer import Writer

from dseg_core.checks_from_frames import check
from dseg_core.cli import main
from dseg_core.errors import DsegError
from dseg_core.findings_from_frame import is_rigid, of_points, own_share, picture_size
from dseg_core.frame_messages import COLORS, POINTS_TOPIC
from dseg_core.frame_writer import FrameWriter
from dseg_core.frames_from_bag import record
from dseg_core.records import EncodedImage, Frame
from dseg_core.stage_options import FrameCheckOptions, RecordOptions
from dseg_core.store import FrameStore

PART = "drive_0.mcap"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    record([write_bag(folder / "drive")], folder / "frames", RecordOptions())
    return folder / "frames"


@pytest.fixture
def frames(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "frames"))


def problems(frames: Path, **options: object) -> str:
    return "\n".join(check(frames, FrameCheckOptions(**options)).problems)  # type: ignore[arg-type]


@pytest.mark.parametrize("deep", [True, False])
def test_what_record_writes_is_fine(frames: Path, deep: bool) -> None:
    summary = check(frames, FrameCheckOptions(deep=deep))
    assert summary.problems == () and summary.results["warnings"] == []
    assert (summary.results["frames"], summary.results["views"]) == (3, 3)


@pytest.mark.parametrize("where", np.linspace(0.0, 0.9999, 23).tolist())
@pytest.mark.parametrize("deep", [True, False])
def test_any_flipped_byte_is_found(frames: Path, where: float, deep: bool) -> None:
    part, before = frames / PART, _contents(frames / PART)
    data = bytearray(part.read_bytes())
    data[int(where * len(data))] ^= 0x10
    part.write_bytes(data)
    # LZ4 can say the same in several ways: where all messages are as they were, nothing is wrong.
    assert PART in problems(frames, deep=deep) or _contents(part) == before


def _contents(part: Path) -> list[tuple[str, int, bytes]]:
    """All messages, or none of a file that cannot be read."""
    try:
        with part.open("rb") as file:
            found = SeekingReader(file).iter_messages()
            return [(channel.topic, message.log_time, message.data) for _, channel, message in found]
    except (McapError, RuntimeError, ValueError, EOFError, struct.error):
        return []


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_a_cut_part_is_found(frames: Path, keep: float) -> None:
    data = (frames / PART).read_bytes()
    (frames / PART).write_bytes(data[: int(keep * len(data))])
    assert PART in problems(frames) and main(["check", str(frames)]) == 1


def _summary(edit: Callable[[dict], None]) -> Callable[[Path], None]:  # type: ignore[type-arg]
    def mutate(frames: Path) -> None:
        content = json.loads((frames / "summary.json").read_text())
        edit(content["results"])
        (frames / "summary.json").write_text(json.dumps(content))

    return mutate


def _metadata(edit: Callable[[dict], None]) -> Callable[[Path], None]:  # type: ignore[type-arg]
    def mutate(frames: Path) -> None:
        content = yaml.safe_load((frames / "metadata.yaml").read_text())
        edit(content["rosbag2_bagfile_information"])
        (frames / "metadata.yaml").write_text(yaml.safe_dump(content))

    return mutate


def _edit_pairing(frames: Path, pairing: object) -> None:
    content = json.loads((frames / "summary.json").read_text())
    content["options"]["pairing"] = pairing
    (frames / "summary.json").write_text(json.dumps(content))


def test_of_a_run_that_was_cut_off_before_its_first_drive_was_finished_only_that_is_told(frames: Path) -> None:
    """What is not there yet needs no lines of its own, nor advice that helps only where something is."""
    (frames / PART).rename(frames / f"{PART}.tmp")
    for name in ("summary.json", "metadata.yaml"):
        (frames / name).unlink()
    (problem,) = check(frames, FrameCheckOptions()).problems
    assert problem.startswith(
        f"{frames / PART}.tmp: is an unfinished part. Run its `dseg record`, or its recorder, again"
    )


@pytest.mark.parametrize(
    ("mutate", "message"),
    [
        (_summary(lambda r: r["drives"]["drive"].update(frames=4)), "drive drive: 4 frames, the part has 3"),
        (_summary(lambda r: r["drives"]["drive"].update(views=2)), "drive drive: 2 views, the part has 3"),
        (_summary(lambda r: r.update(frames=7)), "7 frames in all, its drives have 3"),
        (_summary(lambda r: r["drives"].update(gone=r["drives"]["drive"])), "drive gone, which has no part"),
        (_summary(lambda r: r["drives"].clear()), "does not tell of drive drive"),
        (_summary(lambda r: r["drives"]["drive"]["sensors"]["lidar"].update(paired=9)), "lidar has 3 messages, 9 are"),
        (_summary(lambda r: r["drives"]["drive"]["offsets_ms"]["camera"].update(max=40.0)), "max offset of camera is"),
        (lambda f: (f / "summary.json").unlink(), r"summary.json: cannot be read"),
        (lambda f: (f / "summary.json").write_text("{}"), r"summary.json: lacks the drives"),
        (_summary(lambda r: r["drives"].update(drive=3)), "drive drive: has no account"),
        (_summary(lambda r: r.update(drives=[])), "lacks the drives"),
        (_summary(lambda r: r["drives"]["drive"]["sensors"]["lidar"].pop("paired")), "lidar has no account"),
        (_summary(lambda r: r["drives"]["drive"]["sensors"].update(lidar=[])), "lidar has no account"),
        (_summary(lambda r: r["drives"]["drive"].update(offsets_ms=7)), "min offset of camera is None ms"),
        (lambda f: _edit_pairing(f, {"offsets": ["camera:x"]}), "no options of pairing: .*CAMERA:SECONDS"),
        (lambda f: _edit_pairing(f, 4), "no options of pairing: 4"),
        (_metadata(lambda m: m.update(files=3)), "the counts under files"),
        (_metadata(lambda m: m.update(relative_file_paths=[{"a": 1}])), "does not list drive_0.mcap"),
        (lambda f: (f / "metadata.yaml").unlink(), r"metadata.yaml: cannot be read.*reindex"),
        (lambda f: (f / "metadata.yaml").write_text("a: 1"), r"metadata.yaml: is no metadata of rosbag2"),
        (_metadata(lambda m: m["relative_file_paths"].append("b_0.mcap")), "lists b_0.mcap, which is not here"),
        (_metadata(lambda m: m["relative_file_paths"].clear()), "does not list drive_0.mcap"),
        (_metadata(lambda m: m.update(message_count=1)), "message_count is 1, the parts have 18"),
        (_metadata(lambda m: m["files"][0].update(message_count=1)), "the counts under files"),
        (_metadata(lambda m: m["topics_with_message_count"][0].update(message_count=1)), "counts under topics"),
        (lambda f: (f / "drive_0.mcap.tmp").write_bytes(b""), r"drive_0.mcap.tmp: is an unfinished part.*again"),
        (lambda f: (f / "x.mcap").write_bytes(b""), r"x.mcap: is no part of frames"),
        (lambda f: (f / PART).unlink(), "holds no frames"),
    ],
)
def test_a_wrong_folder_is_found(frames: Path, mutate: Callable[[Path], None], message: str) -> None:
    mutate(frames)
    assert re.search(message, problems(frames))


def _swap(frame: Frame) -> Frame:
    """Ground takes the object's id and the object ground's."""
    table = np.arange(2**16, dtype=np.uint16)
    table[[1, 2]] = 2, 1
    return replace(frame, proposals=table[frame.proposals])


def _view(**changes: object) -> Callable[[Frame], Frame]:
    return lambda frame: replace(frame, views=(replace(frame.views[0], **changes),))


def _image(data: Callable[[bytes], bytes], late_ns: int = 0) -> Callable[[Frame], Frame]:
    def change(frame: Frame) -> Frame:
        image = frame.views[0].image
        new = EncodedImage(image.stamp_ns + late_ns, image.frame_id, image.format, data(image.data))
        return replace(frame, views=(replace(frame.views[0], image=new),))

    return change


def _png(width: int, height: int) -> bytes:
    return bytes(cv2.imencode(".png", np.zeros((height, width, 3), np.uint8))[1])


def _nan(frame: Frame) -> Frame:
    xyz = frame.sweep.xyz.copy()
    xyz[0] = np.nan
    return replace(frame, sweep=replace(frame.sweep, xyz=xyz))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_swap, r"ground \(id 1\) lies above the objects"),
        (_swap, "regions do not lie where the points of their proposals are"),
        (lambda f: replace(f, proposals=np.where(f.proposals == 2, 9, f.proposals).astype(np.uint16)), "ids have gaps"),
        (lambda f: replace(f, proposals=np.where(f.proposals == 1, 0, f.proposals).astype(np.uint16)), "no point is g"),
        (lambda f: replace(f, proposals=np.minimum(f.proposals, 1)), "regions have ids that no proposal has"),
        (_nan, "points are not finite"),
        (_view(regions=np.ones((10, 12), np.uint16)), "regions are 12x10, the calibration 64x48"),
        (_view(T_image_sweep=np.full((4, 4), np.nan)), "the translation nan, nan, nan is not finite"),
        (_image(lambda d: d[: len(d) // 2]), "broken jpeg image|the image cannot be decoded"),
        (_image(lambda d: _png(20, 10)), "the image is 20x10, its calibration 64x48"),
        (_image(lambda d: d, 10**9), "further from the sweep's than pairing allows"),
    ],
)
def test_wrong_frames_are_found(frames: Path, change: Callable[[Frame], Frame], message: str) -> None:
    changed = [change(frame) for frame in FrameStore(frames).frames()]
    (frames / PART).unlink()
    with FrameWriter(frames, "drive") as writer:
        for frame in changed:
            writer.write(frame)
    found = problems(frames)
    assert re.search(message, found), found
    assert "3 frames, first" in found


def test_stamps_that_do_not_grow_are_found(frames: Path) -> None:
    first, second, third = FrameStore(frames).frames()
    (frames / PART).unlink()
    with FrameWriter(frames, "drive") as writer:
        for frame in (first, third, second):
            writer.write(frame)
    assert problems(frames) == f"drive: stamps do not grow (frame {second.stamp_ns}). " + (
        "Remove the part and record its drive again"
    )


def test_a_frame_that_is_there_twice_is_found(frames: Path) -> None:
    first, second, third = FrameStore(frames).frames()
    (frames / PART).unlink()
    with FrameWriter(frames, "drive") as writer:
        for frame in (first, second, third, second):
            writer.write(frame)
    assert f"drive: the frame is there twice (frame {second.stamp_ns}). Remove the part" in problems(frames)


def test_strays_and_small_regions_are_warnings(frames: Path) -> None:
    (frames / "notes.txt").write_text("mine")
    summary = check(frames, FrameCheckOptions(least_share=99.9))
    assert summary.problems == () and len(summary.results["warnings"]) == 2
    assert "warning: drive/camera: regions cover" in summary.text and "notes.txt" in summary.text
    assert main(["check", str(frames)]) == 0


def test_a_missing_folder_costs_one_line(tmp_path: Path) -> None:
    with pytest.raises(DsegError, match="does not exist"):
        check(tmp_path / "none", FrameCheckOptions())


def test_rigid_means_rotation_and_translation() -> None:
    assert is_rigid(np.eye(4))
    assert not is_rigid(np.diag([1.0, 1, -1, 1])) and not is_rigid(np.diag([2.0, 2, 2, 1]))


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8\xff\xe0"])
def test_no_picture_is_told(data: bytes) -> None:
    with pytest.raises(DsegError, match="cannot be decoded"):
        picture_size(data)


def test_points_without_ids_are_told(recorded: Path) -> None:
    frame = next(FrameStore(recorded).frames())
    found = [f.what for f in of_points(replace(frame, proposals=frame.proposals[:-1]))]
    assert found == ["there are not as many proposal ids as points"]


def test_an_offset_of_a_camera_that_a_drive_lacks_is_fine(frames: Path) -> None:
    _edit_pairing(frames, {**RecordOptions().pairing.to_dict(), "offsets": ["rear:0.1"]})
    assert problems(frames) == ""
    _edit_pairing(frames, {**RecordOptions().pairing.to_dict(), "offsets": ["camera:0.1"]})
    assert "offset of camera" in problems(frames)


def test_what_record_writes_with_constant_offsets_is_fine(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "drive", (0, 1000, 2000), (203, 1203, 2203))
    options = RecordOptions.from_mapping({"pairing.offsets": ["camera:0.2"], "pairing.tolerance": 0.01})
    record([bag], tmp_path / "frames", options)
    assert check(tmp_path / "frames", FrameCheckOptions()).problems == ()


def test_what_record_writes_by_the_beams_crossing_is_fine(tmp_path: Path) -> None:
    """The camera's axis is crossed half a turn, 50 ms, after the stamp."""
    times = np.tile(np.linspace(0, 100e6, 360, endpoint=False), 32).astype(np.uint32)
    bag = write_bag(tmp_path / "drive", images=(54, 154, 254), sweep=lambda stamp: cloud(stamp, t=times))
    options = RecordOptions.from_mapping({"pairing.reference": "crossing", "pairing.tolerance": 0.01})
    record([bag], tmp_path / "frames", options)
    assert check(tmp_path / "frames", FrameCheckOptions()).problems == ()


def test_an_index_of_which_only_words_are_garbled_is_found(frames: Path) -> None:
    """Which any reader reads on from: only its checksum tells."""
    part = frames / "drive_0.mcap"
    data = bytearray(part.read_bytes())
    data[data.rindex(b"uint8 INT8")] ^= 1  # in the definition of a type, which the index has again
    part.write_bytes(data)
    assert "its index is broken" in problems(frames)


def test_points_that_no_region_covers_say_nothing_of_agreement(recorded: Path) -> None:
    """Patches are smaller than the ways between beams: regions have gaps, in which points of other sweeps may lie."""
    frame = next(iter(FrameStore(recorded).frames()))
    view = frame.views[0]
    half = np.where(np.arange(view.regions.shape[1]) < 32, view.regions, 0).astype(np.uint16)
    assert own_share(frame, view) == pytest.approx(own_share(frame, replace(view, regions=half)), abs=0.1)
    swapped = np.where(half == 2, 1, np.where(half == 1, 2, half)).astype(np.uint16)
    assert own_share(frame, replace(view, regions=swapped)) == pytest.approx(0.0, abs=0.1)


def test_a_broken_part_is_told_once(frames: Path) -> None:
    """What is in summary.json and metadata.yaml cannot agree then, which would be said of every number."""
    data = bytearray((frames / PART).read_bytes())
    data[len(data) // 3] ^= 0x10
    (frames / PART).write_bytes(data)
    assert len(check(frames, FrameCheckOptions()).problems) == 1


# topic, type, log time, publish time, CDR
Sent = tuple[str, str, int, int, bytes]


def _rewritten(frames: Path, change: Callable[[int, list[Sent]], list[Sent]]) -> None:
    """Write the part again, each chunk's messages as `change` has them."""
    part = frames / PART
    with part.open("rb") as file:
        summary = SeekingReader(file).get_summary()
        assert summary is not None
        chunks: list[list[Sent]] = []
        for schema, channel, message in SeekingReader(file).iter_messages(log_time_order=False):
            assert schema is not None
            sent = (channel.topic, schema.name, message.log_time, message.publish_time, bytes(message.data))
            if not chunks or chunks[-1][-1][0] == POINTS_TOPIC or channel.topic == POINTS_TOPIC:
                chunks.append([])
            chunks[-1].append(sent)
    with part.open("wb") as file:
        writer = Writer(file, chunk_size=10**9)
        writer.start("ros2")
        kinds: dict[str, int] = {}
        channels: dict[str, int] = {}
        for index, chunk in enumerate(chunks):
            for topic, kind, log_ns, publish_ns, data in change(index, chunk):
                if kind not in kinds:
                    kinds[kind] = writer.register_schema(kind, "ros2msg", b"")
                if topic not in channels:
                    channels[topic] = writer.register_channel(topic, "cdr", kinds[kind])
                writer.add_message(channels[topic], log_ns, data, publish_ns)
            writer.flush()
        writer.finish()


def test_rewriting_alone_changes_nothing(frames: Path) -> None:
    _rewritten(frames, lambda _, chunk: chunk)
    assert problems(frames) == ""


def _later(index: int, chunk: list[Sent]) -> list[Sent]:
    return [(t, k, log + (t.endswith("camera_info")), p, d) for t, k, log, p, d in chunk]


def _no_preview(index: int, chunk: list[Sent]) -> list[Sent]:
    """The preview's message, the second of them, holds what is no picture."""
    return [
        (t, k, s, p, d[: len(d) // 2] + bytes(len(d) - len(d) // 2) if COLORS in t else d) for t, k, s, p, d in chunk
    ]


def _without(ending: str) -> Callable[[int, list[Sent]], list[Sent]]:
    return lambda _, chunk: [m for m in chunk if not m[0].endswith(ending)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_later, "messages of one frame have different log times"),
        (_no_preview, "the preview of the regions cannot be decoded"),
        (_without("camera_info"), "the frame lacks '/dseg/camera/camera_info'"),
        (_without(COLORS), "the frame lacks '/dseg/camera/regions_color"),
        (lambda i, chunk: [("image/compressed", *m[1:]) if m[0] == POINTS_TOPIC else m for m in chunk], "no points"),
    ],
)
def test_wrong_messages_are_found(frames: Path, change: Callable[[int, list[Sent]], list[Sent]], message: str) -> None:
    _rewritten(frames, change)
    assert re.search(message, problems(frames))


def test_an_index_that_counts_other_messages_is_found(frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish = Writer.finish

    def miscounted(writer: Writer) -> None:
        counts = writer._Writer__statistics.channel_message_counts  # type: ignore[attr-defined]
        counts[next(iter(counts))] += 1
        finish(writer)

    monkeypatch.setattr(Writer, "finish", miscounted)
    _rewritten(frames, lambda _, chunk: chunk)
    assert "its index counts other messages than it has" in problems(frames)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.integers(0, 5), st.floats(0, 0.9999), st.integers(1, 255))
def test_garbled_messages_cost_lines_never_a_traceback(recorded: Path, which: int, where: float, flip: int) -> None:
    """Whole by every checksum, but with a byte that its writer never wrote."""

    def garble(index: int, chunk: list[Sent]) -> list[Sent]:
        return [
            (t, k, s, p, _flipped(d, int(where * min(len(d), 200)), flip) if i == which % len(chunk) else d)
            for i, (t, k, s, p, d) in enumerate(chunk)
        ]

    with TemporaryDirectory() as folder:
        frames = Path(shutil.copytree(recorded, Path(folder) / "frames"))
        _rewritten(frames, garble)
        assert check(frames, FrameCheckOptions()).results["frames"] == 3


def _flipped(data: bytes, at: int, flip: int) -> bytes:
    return data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]


def test_the_command_alone_checks(frames: Path) -> None:
    """In a process of its own, where no other module has been imported before."""
    command = [sys.executable, "-m", "dseg_core.cli", "check", str(frames)]
    assert "nothing is wrong" in subprocess.run(command, check=True, capture_output=True, text=True).stdout
