"""The live recorder without ROS: the same frames as `dseg record`, drives, events, and all that goes wrong."""

from __future__ import annotations

import errno
import gc
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_player import rows_of
from bags import CAMERA, MS, START_NS, write_bag
from live import IMAGE_TOPIC, LIDAR_TOPIC, Car, assert_same_frames
from mcap.reader import make_reader
from ros_world import LIMIT

from dseg_core.checks_from_frames import check
from dseg_core.errors import DsegError
from dseg_core.frame_writer import FrameWriter
from dseg_core.frames_from_bag import record
from dseg_core.live.messages import LiveMessage, Memory, header_of
from dseg_core.live.recorder import LiveRecorder
from dseg_core.live.worker import LiveWorker
from dseg_core.messages import VIDEO_TYPES
from dseg_core.sensors_from_bag import LIDAR, CameraTopic
from dseg_core.stage_options import FrameCheckOptions, RecordOptions
from dseg_core.store import FrameStore, read_json
from dseg_core.transforms import TransformTree

SWEEPS, IMAGES = range(0, 3000, 100), range(4, 3050, 33)


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of sweeps at 10 Hz and images at 30 Hz."""
    return write_bag(tmp_path_factory.mktemp("bag") / "bag", SWEEPS, IMAGES)


@pytest.fixture(scope="module")
def recorded(bag: Path) -> Path:
    """The same as `dseg record` has it."""
    record([bag], bag.parent / "frames", RecordOptions())
    return bag.parent / "frames"


def whole(out: Path) -> dict[str, Any]:
    """The drives' accounts of a folder that `dseg check` finds nothing wrong with."""
    assert check(out, FrameCheckOptions(least_share=0.0)).problems == ()
    drives: dict[str, Any] = read_json(out / "summary.json")["results"]["drives"]
    return drives


def until(condition: Any) -> None:
    ends = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def settled(car: Car) -> None:
    """Wait for the frames that are being made."""
    until(lambda: car.recorder.settle() or car.recorder._look().waiting == 0)


def test_frames_are_those_of_dseg_record(tmp_path: Path, bag: Path, recorded: Path) -> None:
    with Car(tmp_path / "live", drive="drive") as car:
        car.recorder.start()
        car.play(rows_of(bag))
        car.recorder.stop()
    assert_same_frames(tmp_path / "live", recorded)
    mine, theirs = whole(tmp_path / "live")["drive"], whole(recorded)["bag"]
    for key in ("frames", "views", "sensors", "offsets_ms", "motion", "reused", "cameras", "lidar"):
        assert mine[key] == theirs[key], key


def test_a_folder_may_hold_bags_and_live_drives(tmp_path: Path, bag: Path, recorded: Path) -> None:
    with Car(tmp_path / "both", drive="live") as car:
        car.recorder.start()
        car.play(rows_of(bag))
    record([bag], tmp_path / "both", RecordOptions())
    assert set(whole(tmp_path / "both")) == {"live", "bag"}
    with Car(tmp_path / "both", drive="live") as car:
        car.recorder.start()
        car.play(rows_of(bag))
    assert set(whole(tmp_path / "both")) == {"live", "live_2", "bag"}
    with pytest.raises(DsegError, match=r"recorded with other options: regions.hole = 7, not 4"):
        Car(tmp_path / "both", **{"regions.hole": 7})


def test_split_loses_nothing(tmp_path: Path, bag: Path, recorded: Path) -> None:
    rows = rows_of(bag)
    with Car(tmp_path / "live", drive="part") as car:
        car.recorder.start()
        car.play(rows[: len(rows) // 2])
        assert "part is finished; recording into" in car.recorder.split()
        car.play(rows[len(rows) // 2 :])
    drives = whole(tmp_path / "live")
    assert list(drives) == ["part", "part_2"] and min(row["frames"] for row in drives.values()) > 10
    assert_same_frames(tmp_path / "live", recorded)
    counts = Counter(topic for topic, *_ in rows)
    for sensor, topic in (("camera", IMAGE_TOPIC), (LIDAR, LIDAR_TOPIC)):
        assert sum(row["sensors"][sensor]["messages"] for row in drives.values()) == counts[topic]


def test_stop_and_start_make_drives_and_nothing_between(tmp_path: Path, bag: Path) -> None:
    rows = rows_of(bag)
    third = len(rows) // 3
    with Car(tmp_path / "live", drive="part") as car:
        with pytest.raises(DsegError, match="not recording"):
            car.recorder.stop()
        car.recorder.start()
        car.play(rows[:third])
        car.recorder.stop()
        car.play(rows[third : 2 * third])
        car.recorder.start()
        with pytest.raises(DsegError, match="recording already"):
            car.recorder.start()
        car.play(rows[2 * third :])
    first, second = (
        [s for d, s in FrameStore(tmp_path / "live").frame_keys if d == name] for name in ("part", "part_2")
    )
    log = [row[2] for row in rows]
    assert max(first) <= log[third] and min(second) >= log[2 * third] and set(whole(tmp_path / "live"))


def test_a_drive_without_frames_leaves_nothing(tmp_path: Path) -> None:
    with Car(tmp_path / "live") as car:
        car.recorder.start()
        assert car.recorder.stop() == "stopped; nothing was written"
    assert not list((tmp_path / "live").glob("*.mcap*"))
    assert "gave no frame and was left out: lidar 0 messages, 0 paired; camera 0 messages" in car.said[0]


@pytest.mark.parametrize(("keep_after", "made"), [(0.5, True), (100.0, True), (0.5, False)])
def test_an_event_keeps_what_led_to_it(
    tmp_path: Path, bag: Path, recorded: Path, keep_after: float, made: bool
) -> None:
    """`made`: whether frames are made already when it happens, or are still being made."""
    rows = rows_of(bag)
    at = next(n for n, row in enumerate(rows) if row[2] >= START_NS + 2000 * MS)
    with Car(tmp_path / "live", drive="event", record="events", keep_before=1.0, keep_after=keep_after) as car:
        car.recorder.start()
        car.play(rows[:at])
        if made:
            settled(car)
        told = car.recorder.trigger()
        car.play(rows[at:])
        settled(car)
        car.recorder.stop()
        status = car.recorder._look()
    for sensor, topic in ((LIDAR, LIDAR_TOPIC), ("camera", IMAGE_TOPIC)):  # every message is accounted for, kept or not
        dropped = sum(status.dropped.get(sensor, {}).values())
        total = status.paired.get(sensor, 0) + status.surplus.get(sensor, 0) + dropped
        assert total == sum(row[0] == topic for row in rows)
    drives = whole(tmp_path / "live")
    assert list(drives) == ["event"] and "event_0.mcap" in told
    stamps = [(s - START_NS) // MS for _, s in FrameStore(tmp_path / "live").frame_keys]
    now = (rows[at - 1][2] - START_NS) // MS
    expected = [s for s in SWEEPS if now - 1000 <= s <= now + keep_after * 1000]
    assert stamps == expected
    theirs = FrameStore(recorded)
    for frame in FrameStore(tmp_path / "live").frames():
        twin = theirs.frame("bag", frame.stamp_ns)
        assert np.array_equal(frame.proposals, twin.proposals)
        assert np.array_equal(frame.views[0].regions, twin.views[0].regions)


def test_memory_bounds_what_is_kept_for_events(tmp_path: Path, bag: Path) -> None:
    with Car(tmp_path / "live", record="events", keep_before=100.0, keep_memory=1.0) as car:
        car.recorder.start()
        car.play(rows_of(bag))
        settled(car)
        kept = car.recorder._look()
        assert 0.5 < kept.kept_mb <= 1.0 and 0 < kept.kept_seconds < 2.9
        with pytest.raises(DsegError, match="no drive is being written"):
            car.recorder.split()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """No frame is made before it is set."""
    import dseg_core.live.frames as frames

    real, opened = frames.make_frame, threading.Event()

    def slowly(*args: Any) -> Any:
        opened.wait(LIMIT)
        return real(*args)

    monkeypatch.setattr(frames, "make_frame", slowly)
    return opened


def test_an_events_drive_waits_for_the_frames_that_are_still_being_made(
    tmp_path: Path, bag: Path, gate: threading.Event
) -> None:
    """However long that takes on a busy machine: the clock ends it only where nothing is to come."""
    with Car(tmp_path / "live", drive="event", record="events", keep_before=100.0, keep_after=0.0) as car:
        car.recorder.start()
        car.play(rows_of(bag))
        car.recorder.trigger()
        car.recorder._event_ends = 0.0  # the clock's end is long past
        car.recorder.settle()
        gate.set()
        settled(car)
        until(lambda: car.recorder.settle() or car.recorder._look().finished == 1)
    assert whole(tmp_path / "live")["event"]["frames"] >= len(SWEEPS) - 1


def test_messages_of_a_sensor_that_is_left_out_do_no_harm(tmp_path: Path, bag: Path, recorded: Path) -> None:
    with Car(tmp_path / "live", drive="drive") as car:
        car.recorder.start()
        for row in rows_of(bag):
            car.play([row])
            if row[0] == IMAGE_TOPIC:
                car.push("rear", row[1], row[3])
    assert_same_frames(tmp_path / "live", recorded)
    assert set(whole(tmp_path / "live")["drive"]["sensors"]) == {LIDAR, "camera"}


@pytest.mark.parametrize("record", ["continuous", "events"])
def test_cameras_that_come_later_are_taken_in_and_nothing_is_lost(tmp_path: Path, bag: Path, record: str) -> None:
    rows = rows_of(bag)
    half = len(rows) // 2
    options = {"pairing.offsets": ["rear:0.004"], "drive": "drive", "record": record, "keep_before": 100.0}
    with Car(tmp_path / "live", absent=("rear",), **options) as car:
        car.recorder.start()
        car.play(rows[:half])
        rear = CameraTopic("rear", "/rear/image_raw", CAMERA)
        assert car.recorder.widen(replace(car.sensors, cameras=(*car.sensors.cameras, rear))) == "cameras: camera, rear"
        for row in rows[half:]:
            car.play([row])
            if row[0] == IMAGE_TOPIC:
                car.push("rear", row[1], row[3])
        if record == "events":
            settled(car)
            car.recorder.trigger()
    frames = list(FrameStore(tmp_path / "live").frames())
    assert [frame.stamp_ns for frame in frames] == [START_NS + t * MS for t in SWEEPS]
    both = [frame.stamp_ns for frame in frames if [view.camera for view in frame.views] == ["camera", "rear"]]
    assert both == [START_NS + t * MS for t in SWEEPS][-len(both) :] and 14 <= len(both) <= 16
    one = next(frame for frame in frames if frame.stamp_ns == both[3])
    truth = min(START_NS + t * MS for t in IMAGES if abs(t - 4 - (one.stamp_ns - START_NS) // MS) <= 16)
    assert one.views[1].stamp_ns == truth, "nearest but for the camera's constant offset"
    sensors = whole(tmp_path / "live")["drive"]["sensors"]
    assert (sensors[LIDAR]["paired"], sensors["rear"]["paired"]) == (len(SWEEPS), len(both))
    if record == "continuous":  # what comes before the first frame that is kept is not the event's
        assert sensors["rear"]["messages"] == sum(row[0] == IMAGE_TOPIC for row in rows[half:])
        assert sensors["camera"]["messages"] == len(IMAGES)


def test_trigger_is_for_events(tmp_path: Path) -> None:
    with Car(tmp_path / "live") as car:
        car.recorder.start()
        with pytest.raises(DsegError, match=r"records continuously.*record: events"):
            car.recorder.trigger()


def test_a_looping_bag_begins_anew_and_repeats_nothing(tmp_path: Path, bag: Path, recorded: Path) -> None:
    with Car(tmp_path / "live", drive="drive") as car:
        car.recorder.start()
        car.play(rows_of(bag) * 2)
    row = whole(tmp_path / "live")["drive"]
    assert row["sensors"][LIDAR]["dropped"] == {"recorded already: the bag repeats itself": len(SWEEPS)}
    assert row["sensors"][LIDAR]["messages"] == 2 * len(SWEEPS)
    assert any("clock was set back" in note for note in row["notes"])
    assert sum("stamps jumped back" in line for line in car.said) == 1
    assert_same_frames(tmp_path / "live", recorded)


def test_without_transforms_sweeps_are_dropped_by_that_name(tmp_path: Path, bag: Path) -> None:
    with Car(tmp_path / "live", transforms=TransformTree(), tf_timeout=0.0) as car:
        car.recorder.start()
        car.play(rows_of(bag))
        car.recorder.stop()
        drops = car.recorder._look().drops()
    assert drops["lidar: no usable image"] == len(SWEEPS) == drops["camera: no transform to the LiDAR"]
    assert "no transform connects lidar and camera_optical" in car.recorder.details["no transform to the LiDAR"]


def test_transforms_are_waited_for(tmp_path: Path, bag: Path, recorded: Path) -> None:
    from bags import T_LIDAR_CAMERA

    late = TransformTree()
    with Car(tmp_path / "live", transforms=late, tf_timeout=600.0) as car:
        car.recorder.start()
        car.play(rows_of(bag))
        settled(car)
        assert car.recorder._look().frames == 0
        late.add("lidar", "camera_optical", T_LIDAR_CAMERA)
    assert_same_frames(tmp_path / "live", recorded)


def test_a_bad_encoding_is_counted_by_name(tmp_path: Path) -> None:
    from dseg_core import messages as ros

    def make(stamp: int, seed: int) -> Any:
        message = ros.image_to_message(stamp, "camera_optical", np.zeros((48, 64, 3), np.uint8))
        message.encoding = "strange"
        return message

    bag = write_bag(tmp_path / "bag", range(0, 500, 100), range(4, 600, 100), image=make)
    with Car(tmp_path / "live") as car:
        car.recorder.start()
        car.play(rows_of(bag))
        car.recorder.stop()
        drops = car.recorder._look().drops()
    assert drops["lidar: no usable image"] == 5 and any("strange" in name for name in drops)


@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("kind", VIDEO_TYPES)
def test_video_is_recorded_as_from_a_bag(tmp_path: Path, codec: str, kind: str) -> None:
    pytest.importorskip("av")
    import videos
    from test_video import video_bag

    bag = video_bag(tmp_path / "bag", videos.video(codec), kind)
    record([bag], tmp_path / "frames", RecordOptions())
    names = {LIDAR_TOPIC: LIDAR, "/camera/image_raw/ffmpeg": "camera"}
    (part,) = bag.glob("*.mcap")
    with Car(tmp_path / "live", drive="drive") as car, part.open("rb") as file:
        car.recorder.start()
        for schema, channel, message in make_reader(file).iter_messages(topics=list(names)):
            assert schema is not None
            car.push(names[channel.topic], schema.name, message.data)
    assert_same_frames(tmp_path / "live", tmp_path / "frames")
    assert len(FrameStore(tmp_path / "live").view_keys) == 9


def test_what_is_no_message_is_counted(tmp_path: Path, bag: Path) -> None:
    with Car(tmp_path / "live") as car:
        car.recorder.start()
        for n, (topic, kind, _, data) in enumerate(r for r in rows_of(bag) if r[0] in (LIDAR_TOPIC, IMAGE_TOPIC)):
            sensor = LIDAR if topic == LIDAR_TOPIC else "camera"
            car.push(sensor, kind, data[: len(data) - 7] if n % 2 and sensor == LIDAR else data)
        car.recorder.stop()
        status = car.recorder._look()
    assert status.drops()["lidar: cannot be deserialised"] + status.frames == len(SWEEPS)
    with pytest.raises(DsegError, match="cannot be deserialised"):
        header_of(b"\0\1\0\0\1\2")


def test_where_frames_take_too_long_sweeps_are_dropped_and_memory_is_bounded(
    tmp_path: Path, bag: Path, gate: threading.Event
) -> None:
    with Car(tmp_path / "live", drive="drive", threads=1) as car:
        car.memory.limit = 2_000_000  # a sweep has 170 kB, an image 9 kB
        most = 0
        car.recorder.start()
        for row in rows_of(bag):
            car.play([row])
            most = max(most, car.memory.used)
        gate.set()
    assert most <= car.memory.limit
    counts = whole(tmp_path / "live")["drive"]["sensors"][LIDAR]
    assert counts["dropped"]["queue full"] > 5
    assert counts["paired"] + counts["dropped"]["queue full"] == len(SWEEPS)


def test_a_camera_that_dies_holds_up_only_what_there_is_room_for(tmp_path: Path, bag: Path) -> None:
    """Its images end after a second; without a bound, two seconds of everything else would wait for more."""
    rows = [r for r in rows_of(bag) if r[0] != IMAGE_TOPIC or r[2] < START_NS + 1000 * MS]
    with Car(tmp_path / "live", drive="drive", **{"pairing.patience": 600.0}) as car:
        car.memory.limit = 2_000_000
        car.recorder.start()
        for row in rows:
            car.play([row])
            settled(car)
            assert car.memory.used <= car.memory.limit * 0.6
    counts = whole(tmp_path / "live")["drive"]["sensors"][LIDAR]
    assert counts["paired"] == 11 and counts["dropped"] == {"too far": 19}


def test_memory_is_free_again(tmp_path: Path, bag: Path) -> None:
    with Car(tmp_path / "live") as car:
        car.recorder.start()
        car.play(rows_of(bag))
        car.recorder.stop()
        until(lambda: gc.collect() >= 0 and car.memory.used == 0)  # the threads let go of the last frames by themselves


def test_a_full_disk_keeps_what_is_written(tmp_path: Path, bag: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, real = rows_of(bag), FrameWriter.write

    def write(self: FrameWriter, frame: Any) -> None:
        if self.frames == 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, frame)

    with Car(tmp_path / "live", drive="drive") as car:
        monkeypatch.setattr(FrameWriter, "write", write)
        car.recorder.start()
        car.play(rows)
        until(lambda: car.recorder.problem or car.recorder.settle())
        stopped = f"recording has stopped: {tmp_path / 'live'}: No space left on device. Mend that, then call ~/start"
        assert car.recorder.problem == stopped
        assert not car.recorder.status.recording
        assert car.recorder._look().drops()["lidar: disk"] > 0
        monkeypatch.undo()
        car.recorder.start()
        assert car.recorder.problem == ""
        car.play(rows)
    drives = whole(tmp_path / "live")
    assert drives["drive"]["frames"] == 10 and drives["drive_2"]["frames"] == len(SWEEPS)
    assert "cut off" in drives["drive"]["notes"][0]


def test_a_disk_that_is_really_full_is_told_and_recording_goes_on_after(tmp_path: Path, bag: Path) -> None:
    """Files that cannot grow, in a process of its own: whatever is written last, also on closing, fails."""
    code = """
import resource, signal, sys, time
from pathlib import Path
from live import Car, rows_of
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
rows, (_, most) = rows_of(Path(sys.argv[2])), resource.getrlimit(resource.RLIMIT_FSIZE)
with Car(Path(sys.argv[1]), drive="drive") as car:
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, most))
    car.recorder.start()
    car.play(rows)
    while not car.recorder.problem:
        car.recorder.settle()
        time.sleep(0.01)
    print(car.recorder.problem)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    car.recorder.start()
    car.play(rows)
"""
    out = tmp_path / "live"
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parent), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", code, str(out), str(bag)],
        env={"PYTHONPATH": ":".join(p for p in paths if p)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"recording has stopped: {out}: File too large. Mend that")
    drives = whole(out)
    assert 1 <= drives["drive"]["frames"] < len(SWEEPS) and drives["drive_2"]["frames"] == len(SWEEPS)


def test_recording_stops_before_the_disk_is_full(tmp_path: Path, bag: Path) -> None:
    rows = rows_of(bag)
    with Car(tmp_path / "live", drive="drive") as car:
        car.recorder.start()
        car.play(rows[: len(rows) // 2])
        object.__setattr__(car.options, "min_free_disk", 1e9)
        until(lambda: car.recorder.problem or car.recorder.settle())
        assert "GB left, less than 1e+09" in car.recorder.problem and "Make room" in car.recorder.problem
        with pytest.raises(DsegError, match="GB left"):
            car.recorder.start()
    assert whole(tmp_path / "live")["drive"]["frames"] > 10


def test_a_disk_that_is_taken_out_is_told(tmp_path: Path, bag: Path) -> None:
    rows = rows_of(bag)
    with Car(tmp_path / "live", drive="drive") as car:
        car.recorder.start()
        car.play(rows[: len(rows) // 2])
        (tmp_path / "live").rename(tmp_path / "gone")
        until(lambda: car.recorder.problem or car.recorder.settle())
        assert f"recording has stopped: {tmp_path / 'live'}: No such file or directory" in car.recorder.problem
        with pytest.raises(DsegError, match="No such file"):
            car.recorder.start()
        (tmp_path / "gone").rename(tmp_path / "live")
        car.recorder.start()
        car.play(rows)
    assert whole(tmp_path / "live")["drive_2"]["frames"] == len(SWEEPS)


def test_a_kill_costs_the_frame_in_flight_only(tmp_path: Path, bag: Path, recorded: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from live import Car, rows_of
car = Car(Path(sys.argv[1]), drive="drive")
car.recorder.start()
rows = rows_of(Path(sys.argv[2]))
car.play(rows)
while car.recorder._frames.waiting:
    car.recorder.settle()
os.kill(os.getpid(), 9)
"""
    out = tmp_path / "live"
    paths = [str(Path(__file__).parents[1]), str(Path(__file__).parent), *sys.path]
    ended = subprocess.run(
        [sys.executable, "-c", code, str(out), str(bag)],
        env={"PYTHONPATH": ":".join(p for p in paths if p)},
        check=False,
    )
    assert ended.returncode == -9 and (out / "drive_0.mcap.tmp").is_file()
    with Car(out, drive="drive") as car:
        assert "drive drive was cut off; its 30 whole frames were saved" in car.folder.rescued[0]
    assert whole(out)["drive"]["frames"] == 30
    truth = FrameStore(recorded)
    for frame in FrameStore(out).frames():
        assert np.array_equal(frame.views[0].regions, truth.frame("bag", frame.stamp_ns).views[0].regions)


def test_a_kill_between_part_and_account_is_mended(tmp_path: Path, bag: Path) -> None:
    with Car(tmp_path / "live", drive="drive") as car:
        car.recorder.start()
        car.play(rows_of(bag))
    before = whole(tmp_path / "live")["drive"]
    (tmp_path / "live" / "summary.json").unlink()
    (tmp_path / "live" / "metadata.yaml").unlink()
    with Car(tmp_path / "live"):
        pass
    after = whole(tmp_path / "live")["drive"]
    assert (after["frames"], after["offsets_ms"]) == (before["frames"], before["offsets_ms"])


def test_one_recorder_a_folder(tmp_path: Path) -> None:
    with Car(tmp_path / "live"), pytest.raises(DsegError, match="another run is writing here"):
        Car(tmp_path / "live")


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "%H:%M"])
def test_a_drives_name_is_one_path_component(tmp_path: Path, name: str) -> None:
    with pytest.raises(DsegError, match="must give a name"):
        Car(tmp_path / "live", drive=name)


def test_the_worker_keeps_order_and_commands_between_messages(tmp_path: Path, bag: Path, recorded: Path) -> None:
    with Car(tmp_path / "live", drive="drive") as car:
        worker = LiveWorker(car.memory, lambda error: pytest.fail(str(error)))
        rows = [r for r in rows_of(bag) if r[0] in (LIDAR_TOPIC, IMAGE_TOPIC)]
        for topic, kind, log_ns, data in rows[:60]:  # before the sensors are known
            assert worker.offer(LIDAR if topic == LIDAR_TOPIC else "camera", kind, data) == log_ns
        worker.begin(car.recorder, LiveRecorder.start)
        for topic, kind, _, data in rows[60:]:
            worker.offer(LIDAR if topic == LIDAR_TOPIC else "camera", kind, data)
        assert worker.ask(LiveRecorder.stop).result(LIMIT) == "stopped; drive is finished"
        with pytest.raises(DsegError, match="not recording"):
            worker.ask(LiveRecorder.stop).result(LIMIT)
        worker.end()
    assert_same_frames(tmp_path / "live", recorded)


def test_the_worker_refuses_what_there_is_no_memory_for(tmp_path: Path, bag: Path) -> None:
    with Car(tmp_path / "live", drive="drive") as car:
        car.memory.limit = 1_000_000
        worker = LiveWorker(car.memory, lambda error: pytest.fail(str(error)))
        rows = [r for r in rows_of(bag) if r[0] in (LIDAR_TOPIC, IMAGE_TOPIC)]
        for topic, kind, _, data in rows:
            worker.offer(LIDAR if topic == LIDAR_TOPIC else "camera", kind, data)
            assert car.memory.used <= car.memory.limit
        worker.offer("camera", "sensor_msgs/msg/Image", b"nothing")
        worker.begin(car.recorder, LiveRecorder.start)
        worker.ask(LiveRecorder.stop).result(LIMIT)
        worker.end()
    sensors = whole(tmp_path / "live")["drive"]["sensors"]
    assert sensors[LIDAR]["messages"] == len(SWEEPS) and sensors[LIDAR]["dropped"]["queue full"] > 5
    assert sensors["camera"]["messages"] == len(IMAGES) + 1
    assert sensors["camera"]["dropped"]["cannot be deserialised"] == 1


def test_headers_of_either_order_of_bytes() -> None:
    import struct

    for flag, order in ((0, ">"), (1, "<")):
        data = bytes([0, flag, 0, 0]) + struct.pack(f"{order}iII", 7, 9, 6) + b"lidar\0"
        assert header_of(data) == (7_000_000_009, "lidar")
    memory = Memory(10)
    assert memory.take(8) and not memory.take(3) and memory.take(2)
    message = LiveMessage("a/msg/B", b"12345678", (1, ""), memory)
    del message
    assert memory.used == 2
