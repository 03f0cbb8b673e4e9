"""What the viewer gets is what the frames hold; read back from Rerun's files."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bags import MS, START_NS, write_bag
from numpy.typing import NDArray
from ros_world import LIMIT

from dseg_core.boxes_from_proposals import boxes_from_proposals
from dseg_core.cli import main
from dseg_core.errors import DsegError, OptionError
from dseg_core.frames_from_bag import record
from dseg_core.image_codecs import encode_preview
from dseg_core.stage_options import RecordOptions, ViewOptions
from dseg_core.store import FrameStore
from dseg_core.viewer import LiveView, view
from dseg_core.viewer_process import viewer_command

WHY = "Rerun is an optional extra: pip install 'dseg_ros[view]'"
rerun: Any = pytest.importorskip("rerun", reason=WHY)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drives of 5 and 3 frames at the same times, one of an awkward name. Never write to it."""
    folder = tmp_path_factory.mktemp("view")
    bags = [
        write_bag(folder / "town", sweeps=range(0, 500, 100), images=range(4, 504, 100)),
        write_bag(folder / "my drive 2.0"),
    ]
    record(bags, folder / "frames", RecordOptions(threads=1))
    return folder / "frames"


@pytest.fixture(autouse=True)
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test opens a window."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


class Shown:
    """What a file of Rerun's holds: each entity's components, static ones and those logged at a stamp [ns]."""

    def __init__(self, path: Path) -> None:
        reading = pytest.importorskip("rerun.chunk", reason="this version of Rerun does not read its files so")
        self.static: dict[str, dict[str, Any]] = defaultdict(dict)
        self.logged: dict[tuple[str, int], dict[str, Any]] = defaultdict(dict)
        self.numbers: dict[int, list[int]] = defaultdict(list)
        reader = reading.RrdReader(path)
        self.blueprints = len(reader.blueprints())
        for chunk in reader.stream():
            batch = chunk.to_record_batch()
            for row in range(batch.num_rows):
                if chunk.is_static:
                    found = self.static[chunk.entity_path]
                else:
                    stamp = batch.column("stamp")[row].value
                    self.numbers[stamp].append(batch.column("frame")[row].as_py())
                    found = self.logged[chunk.entity_path, stamp]
                for name in set(batch.schema.names) - {"rerun.controls.RowId", "frame", "stamp", "log_time"}:
                    value = batch.column(name)[row]
                    if value.is_valid:
                        found[name] = value.values

    def __call__(self, place: str, stamp: int, name: str) -> NDArray[Any]:
        """A component's values, flat."""
        values = self.logged[place, stamp][name]
        while hasattr(values, "flatten") and hasattr(values.type, "value_type"):
            values = values.flatten()
        return np.asarray(values)

    def stamps(self, place: str) -> list[int]:
        return sorted(stamp for found, stamp in self.logged if found == place)


def test_a_file_holds_what_the_frames_hold(frames: Path, tmp_path: Path) -> None:
    summary = view(frames, ViewOptions(save=tmp_path / "a.rrd"))
    assert "Wrote" in summary.text and "8 frames with 8 views of 2 drives" in summary.text
    shown, expected = Shown(tmp_path / "a.rrd"), list(FrameStore(frames).frames())
    assert shown.blueprints >= 1 and len(expected) == 8
    for frame in expected:
        root, stamp = f"/{frame.drive}".replace(" ", "\\ "), frame.stamp_ns
        assert shown.stamps(f"{root}/points") == [f.stamp_ns for f in expected if f.drive == frame.drive]
        positions = shown(f"{root}/points", stamp, "Points3D:positions").reshape(-1, 3)
        np.testing.assert_array_equal(positions, frame.sweep.xyz)
        np.testing.assert_array_equal(shown(f"{root}/points", stamp, "Points3D:class_ids"), frame.proposals)
        boxes = boxes_from_proposals(frame.sweep.xyz, frame.proposals)
        assert len(boxes)
        np.testing.assert_array_equal(shown(f"{root}/boxes", stamp, "Boxes3D:class_ids"), boxes.ids)
        for name, values in (
            ("centers", boxes.centers),
            ("half_sizes", boxes.sizes / 2),
            ("quaternions", boxes.quaternions()),
        ):
            got = shown(f"{root}/boxes", stamp, f"Boxes3D:{name}").reshape(len(boxes), -1)
            np.testing.assert_allclose(got, values, atol=1e-5)
        for one in frame.views:
            place = f"{root}/cameras/{one.camera}"
            assert shown(f"{place}/image", stamp, "EncodedImage:blob").tobytes() == one.image.data
            assert shown.logged[f"{place}/image", stamp]["EncodedImage:media_type"].to_pylist() == ["image/jpeg"]
            regions = shown(f"{place}/regions", stamp, "SegmentationImage:buffer").reshape(one.regions.shape)
            np.testing.assert_array_equal(regions, one.regions)
            assert regions.max() > 1
            R = shown(place, stamp, "Transform3D:mat3x3").reshape(3, 3).T  # Rerun stores columns
            np.testing.assert_allclose(R, one.T_image_sweep[:3, :3], atol=1e-6)
            at = shown(place, stamp, "Transform3D:translation")
            np.testing.assert_allclose(at, one.T_image_sweep[:3, 3], atol=1e-6)
            (relation,) = shown(place, stamp, "Transform3D:relation")
            assert relation == rerun.TransformRelation.ChildFromParent.value
            K = shown(place, stamp, "Pinhole:image_from_camera").reshape(3, 3).T
            np.testing.assert_allclose(K - one.calibration.K, [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]], atol=1e-4)
            assert shown(place, stamp, "image_stamp_ns").tolist() == [one.stamp_ns] == [stamp + 4 * MS]
    # The drives' stamps coincide; they are counted one after the other.
    assert set(shown.numbers[START_NS]) == {0, 3} and set(shown.numbers[START_NS + 400 * MS]) == {7}


def test_ids_have_the_colours_of_the_previews(frames: Path, tmp_path: Path) -> None:
    """More than 256 proposals, too, whose regions no longer fit in 8 bits."""
    frame = next(FrameStore(frames).frames())
    one = frame.views[0]
    ids = np.arange(one.regions.size, dtype=np.uint16).reshape(one.regions.shape) % 700
    many = replace(frame, drive="d", proposals=np.arange(len(frame.sweep), dtype=np.uint16) % 700)
    with LiveView(tmp_path, tmp_path / "a.rrd") as live:
        live.log_frame(replace(frame, drive="d"))
        live.log_frame(replace(many, sweep=replace(frame.sweep, stamp_ns=9), views=(replace(one, regions=ids),)))
    shown = Shown(tmp_path / "a.rrd")
    regions = shown(f"/d/cameras/{one.camera}/regions", 9, "SegmentationImage:buffer").view(np.uint16)
    np.testing.assert_array_equal(regions.reshape(ids.shape), ids)
    preview = cv2.imdecode(np.frombuffer(encode_preview(ids), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    for place, none in (("/d", 0), ("/d/points", 0x6E6E6EFF)):
        entries = shown.static[place]["AnnotationContext:context"].to_pylist()[0]
        infos = {e["class_id"]: e["class_description"]["info"] for e in entries}
        assert infos[0]["color"] == none and infos[1]["label"] == "ground" and infos[699]["label"] == "object 699"
        for index in range(1, 700):
            r, g, b = (int(value) for value in preview[ids == index][0])
            assert infos[index]["color"] == r << 24 | g << 16 | b << 8 | 255, index


def test_a_camera_without_an_image_is_taken_away(frames: Path, tmp_path: Path) -> None:
    first, second, third = list(FrameStore(frames).frames())[3:6]
    with LiveView(tmp_path, tmp_path / "a.rrd") as live:
        for frame in (first, replace(second, views=()), third):
            live.log_frame(frame)
    shown, place = Shown(tmp_path / "a.rrd"), f"/town/cameras/{first.views[0].camera}"
    cleared = [s for s in shown.stamps(place) if "Clear:is_recursive" in shown.logged[place, s]]
    assert cleared == [second.stamp_ns]
    assert shown.stamps(f"{place}/image") == [first.stamp_ns, third.stamp_ns]


def test_which_frames(frames: Path, tmp_path: Path) -> None:
    view(frames, ViewOptions(save=tmp_path / "a.rrd", every=2, max_frames=2))
    shown = Shown(tmp_path / "a.rrd")
    assert shown.stamps("/town/points") == shown.stamps("/my_drive_2.0/points") == [START_NS, START_NS + 200 * MS]
    view(frames, ViewOptions(save=tmp_path / "b.rrd", drive="town"))
    assert {place.split("/")[1] for place, _ in Shown(tmp_path / "b.rrd").logged} == {"town"}
    with pytest.raises(DsegError, match=r"has no drive 'city'. It has my_drive_2.0, town"):
        view(frames, ViewOptions(save=tmp_path / "c.rrd", drive="city"))
    assert not (tmp_path / "c.rrd").exists()


def test_without_a_display_a_file_lies_beside_the_frames(frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(frames), "--drive", "town", "--max-frames", "1"]) == 0
    file = frames.with_name("frames.rrd")
    told = capsys.readouterr()
    assert f"There is no display: writing {file}; `rerun {file}` opens it" in told.err and f"Wrote {file}" in told.out
    assert len(Shown(file).stamps("/town/points")) == 1
    file.unlink()
    assert not list(frames.parent.glob(".frames.rrd*"))


@pytest.fixture
def free_port(monkeypatch: pytest.MonkeyPatch) -> int:
    """Where the window's viewer listens, since somebody may have one open."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    monkeypatch.setattr("dseg_core.viewer_process._HERE", ("127.0.0.1", port))
    monkeypatch.setattr("dseg_core.viewer_process._STARTING", LIMIT)
    return port


def listening(port: int) -> set[str]:
    """The addresses at which somebody listens on a port, in hexadecimal, as the system has them."""
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and int(row[1].partition(":")[2], 16) == port}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes that a test starts; they are ended after it, with those that they started."""
    running: list[subprocess.Popen[bytes]] = []
    true = subprocess.Popen

    def start(*command: Any, **options: Any) -> subprocess.Popen[bytes]:
        running.append(true(*command, **options))
        return running[-1]

    monkeypatch.setattr("dseg_core.viewer_process.subprocess.Popen", start)
    yield running
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="asks the system who listens")
def test_the_windows_viewer_hears_this_machine_only_and_tells_nobody(
    frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free_port: int,
    started: list[subprocess.Popen[bytes]],
) -> None:
    """Rerun's true viewer, but for the window: what listens, what is sent to it, what it keeps of its use."""
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CI", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    command = viewer_command()
    received = tmp_path / "received.rrd"
    monkeypatch.setattr("dseg_core.viewer_process.viewer_command", lambda: [*command, "--save", str(received)])
    summary = view(frames, ViewOptions(max_frames=1))
    assert summary.text.startswith("Showed 2 frames") and summary.results["file"] is None
    assert not frames.with_name("frames.rrd").exists()
    assert listening(free_port) == {"0100007F"}, "127.0.0.1 and nothing else"
    assert len(started) == 1
    view(frames, ViewOptions(max_frames=1))
    assert len(started) == 1, "the viewer that runs is taken"
    assert not list(tmp_path.rglob("*analytics*"))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            ["/no/such/rerun"],
            "Rerun's viewer: cannot be started: No such file or directory. `rerun` tells why",
        ),
        (["false"], "Rerun's viewer: ended with exit status 1. `rerun` tells why; --save FILE.rrd"),
    ],
)
def test_a_viewer_that_does_not_start_costs_one_line(
    frames: Path,
    command: list[str],
    message: str,
    free_port: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("dseg_core.viewer_process.viewer_command", lambda: command)
    assert main(["view", str(frames)]) == 1
    told = capsys.readouterr().err.strip()
    assert told.startswith(f"dseg view: {message}") and "\n" not in told


def test_rerun_is_an_extra(frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = r"^the viewer needs Rerun, which is not installed. pip install 'dseg_ros\[view\]'$"
    with pytest.raises(DsegError, match=message):
        view(frames, ViewOptions(save=tmp_path / "a.rrd"))
    with pytest.raises(DsegError, match=message):
        record([write_bag(tmp_path / "bag")], tmp_path / "out", RecordOptions(view=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"save": "a.rrd", "connect": "rerun+http://host/proxy"}, "save and connect are two places"),
        ({"save": "notes.txt"}, "save = 'notes.txt' must end in .rrd"),
    ],
)
def test_refuses_options(options: dict[str, str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        ViewOptions.from_mapping(options)


@pytest.mark.parametrize("address", ["host:9876", "http://host:9876", "rerun+http://host:x/proxy", "rerun+http:///"])
def test_refuses_addresses(address: str, frames: Path) -> None:
    with pytest.raises(OptionError, match="must be like rerun"):
        LiveView(frames, connect=address)


def test_no_viewer_answers(frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["view", str(frames), "--connect", "rerun+http://127.0.0.1:1/proxy"]) == 1
    told = capsys.readouterr().err.strip()
    assert "rerun+http://127.0.0.1:1/proxy: no viewer answers: " in told and "\n" not in told


def test_a_viewer_that_fails_is_told_once(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def severed(*_: Any, **__: Any) -> None:
        raise RuntimeError("connection severed")

    monkeypatch.setattr(rerun.RecordingStream, "flush", severed)
    with LiveView(frames, tmp_path / "b.rrd") as live:
        for frame in FrameStore(frames).frames():
            live.follow(frame)
    told = capsys.readouterr().err
    assert told.count("b.rrd: connection severed. Nothing more is shown; the run goes on") == 1
    with pytest.raises(DsegError, match=r"c\.rrd: connection severed"):
        view(frames, ViewOptions(save=tmp_path / "c.rrd"))
    assert not list(tmp_path.iterdir())


def test_record_shows_what_it_writes(tmp_path: Path) -> None:
    bags = [write_bag(tmp_path / name) for name in ("one", "two")]
    record(bags, tmp_path / "frames", RecordOptions(view=True))
    view(tmp_path / "frames", ViewOptions(save=tmp_path / "later.rrd"))
    live, later = Shown(tmp_path / "frames.rrd"), Shown(tmp_path / "later.rrd")
    assert len(live.stamps("/one/points")) == 3 and live.logged.keys() == later.logged.keys()
    for (place, stamp), found in later.logged.items():
        assert found == live.logged[place, stamp], place
    # Whether someone watches is no matter of the frames: the same folder goes on without.
    text = record(bags, tmp_path / "frames", RecordOptions()).text
    assert "2 drives recorded before and kept" in text


@pytest.mark.parametrize("other", [{"workers": 2}, {"ray_address": "auto"}])
def test_only_one_process_can_be_watched(other: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=r"view = true does not go with \w+.*`dseg view`"):
        RecordOptions(view=True, **other)


def test_a_viewer_that_never_answers_does_not_hold_up_the_run(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dseg_core.viewer._PATIENCE", -4.9)  # a tenth of a second
    live = LiveView(tmp_path / "frames", save=tmp_path / "live.rrd")
    stuck = threading.Event()
    monkeypatch.setattr(rerun.RecordingStream, "flush", lambda self, timeout_sec: stuck.wait(30))
    store = FrameStore(frames)
    with live:
        live.follow(store.frame(*store.frame_keys[0]))
    stuck.set()
    assert "does not take frames" in capsys.readouterr().err and not (tmp_path / "live.rrd").exists()
