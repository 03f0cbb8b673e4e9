"""The recorder as users run it: processes of its own, over DDS, against `dseg record` of the same bag."""

from __future__ import annotations

import random
import re
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from bag_player import rows_of
from bags import CAMERA, MS, START_NS, bag_rows, write_bag
from live import IMAGE_TOPIC, LIDAR_TOPIC, assert_same_frames, calibration
from ros_world import Process, World, header, wait
from test_any_lidar import without_rows
from test_sweeps_merged import OPTIONS as BOTH_LIDARS
from test_sweeps_merged import REAR_TOPIC, T_LIDAR_REAR, two_lidars
from test_transforms_from_bag import odometry

pytest.importorskip("rclpy", reason="ROS's wheels are not installed")

from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Float64
from std_srvs.srv import Trigger
from visualization_msgs.msg import Marker, MarkerArray

from dseg_core import messages as ros
from dseg_core.bag import BagReader, BagWriter
from dseg_core.cameras import Camera
from dseg_core.checks_from_frames import check
from dseg_core.frames_from_bag import record
from dseg_core.image_codecs import decode, region_colors
from dseg_core.sensors_from_bag import LIDAR, sensors_from_bag
from dseg_core.stage_options import FrameCheckOptions, RecordOptions, TopicOptions
from dseg_core.store import FrameStore, read_json
from dseg_core.transforms import pose_from_matrix

NODE, STATUS = "/recorder", "recorder: recording"
SWEEPS, IMAGES = range(0, 3000, 100), range(4, 3050, 33)
REAR, REAR_INFO = "/rear/image_raw", "/rear/camera_info"
PLAYER = str(Path(__file__).with_name("bag_player.py"))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A ROS domain for one test."""
    with World(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of sweeps at 10 Hz and images at 30 Hz."""
    return write_bag(tmp_path_factory.mktemp("bag") / "bag", SWEEPS, IMAGES)


@pytest.fixture(scope="module")
def recorded(bag: Path) -> Path:
    """The same as `dseg record` has it."""
    record([bag], bag.parent / "frames", RecordOptions())
    return bag.parent / "frames"


def start(world: World, **parameters: Any) -> Process:
    """A recorder of the sensors of `bags` that loses nothing on the way."""
    given = {
        "out": world.folder / "live",
        "drive": "drive",
        "topics.lidar": LIDAR_TOPIC,
        "topics.cameras": f"[{IMAGE_TOPIC}]",
        "topics.calibration": calibration(world.folder / "calibration.yaml"),
        "qos.reliability": "reliable",
        "qos.depth": 1000,
        "min_free_disk": 0.0,
        "diagnostics_period": 0.2,
        **{key.replace("__", "."): value for key, value in parameters.items()},
    }
    return world.run("recorder", parameters={k: v for k, v in given.items() if v is not None})


def play(world: World, bag: Path, *arguments: str) -> Process:
    """A player of a bag, begun as soon as somebody listens."""
    player = world.python(PLAYER, str(bag), *arguments)
    player.says("began")
    return player


def sent(bag: Path, seconds: float = float("inf"), loops: int = 1) -> Counter[str]:
    """How many messages of each topic a player sends before these seconds of a bag."""
    rows = rows_of(bag)
    return Counter({t: loops * n for t, n in Counter(r[0] for r in rows if r[2] < rows[0][2] + seconds * 1e9).items()})


def taken(world: World, messages: Mapping[str, int]) -> None:
    """Wait until the recorder has taken so many messages of each of its sensors' topics.

    What it is asked afterwards comes after them: the middleware itself may hand over a call before messages.
    """
    status = world.diagnostics()

    def look() -> dict[str, int]:
        now = status.get(STATUS, {})
        names = [key.removesuffix(" topic") for key in now if key.endswith(" topic")]
        return {now[f"{name} topic"]: int(now[f"{name} received"]) for name in names}

    def all_taken() -> bool:
        return bool(found := look()) and all(found[topic] >= messages[topic] for topic in found)

    assert wait(all_taken), (look(), messages)


def frames_made(status: Mapping[str, Mapping[str, str]]) -> int:
    """How many frames the recorder has made so far."""
    return int(status.get(STATUS, {}).get("frames", 0))


def played(world: World, bag: Path, *arguments: str) -> None:
    """Play a bag to its end; the recorder has taken all of it."""
    play(world, bag, *arguments).says("ended")
    taken(world, sent(bag))


def call(world: World, name: str) -> str:
    """Call a service of the recorder's, which succeeds; what it says."""
    answer = world.call(Trigger, f"{NODE}/{name}")
    assert answer.success, answer.message
    return str(answer.message)


def whole(out: Path) -> dict[str, Any]:
    """The drives' accounts of a folder that `dseg check` finds nothing wrong with."""
    assert check(out, FrameCheckOptions(least_share=0.0)).problems == ()
    drives: dict[str, Any] = read_json(out / "summary.json")["results"]["drives"]
    return drives


def account(out: Path, drive: str = "drive") -> dict[str, Any]:
    """Where a drive's messages went."""
    return {k: v for k, v in whole(out)[drive].items() if k in ("sensors", "offsets_ms", "reused", "motion", "frames")}


@pytest.mark.parametrize("named", [True, False])
def test_frames_are_those_of_dseg_record(world: World, bag: Path, recorded: Path, named: bool) -> None:
    node = start(world, **({} if named else {"topics__lidar": None, "topics__cameras": None}))
    played(world, bag)
    assert call(world, "stop") == "stopped; drive is finished"
    assert_same_frames(world.folder / "live", recorded)
    assert account(world.folder / "live") == account(recorded, "bag")
    assert node.stop() == 0 and "Traceback" not in node.log


def test_a_scanner_without_rows_is_told_once(world: World, tmp_path: Path) -> None:
    """What `auto` chose, in the node's log; the frames are those of `dseg record`."""
    bag = write_bag(tmp_path / "bag", range(0, 500, 100), range(4, 504, 100), sweep=without_rows)
    record([bag], tmp_path / "frames", RecordOptions())
    node = start(world)
    played(world, bag)
    call(world, "stop")
    assert node.stop() == 0
    assert node.log.count("points of lidar show no beams, so objects are told by distance") == 1, node.log
    assert_same_frames(world.folder / "live", tmp_path / "frames")


def shaken(path: Path) -> Path:
    """A bag as bad networks make it: jitter, drops, bursts, duplicates and stamps that run backwards."""
    chance = random.Random(7)
    rows = []
    for topic, message, log_ns in bag_rows(SWEEPS, IMAGES):
        if topic.endswith("camera_info") or topic.startswith("/tf"):
            rows.append((topic, message, log_ns))
        elif chance.random() > 0.15:
            late = chance.choice([0, 0, 5, 30, 60]) if topic == IMAGE_TOPIC else chance.choice([0, 8, 250])
            rows += [(topic, message, log_ns + late * MS)] * (1 + (chance.random() < 0.05))
    rows.sort(key=lambda row: row[2])
    rows = [
        (topic, message, log_ns - log_ns % (400 * MS)) if log_ns % 2 else (topic, message, log_ns)
        for topic, message, log_ns in rows
    ]
    with BagWriter(path, "mcap") as writer:
        for row in sorted(rows, key=lambda row: row[2]):
            writer.write(*row)
    return path


def test_jitter_drops_bursts_and_disorder_end_as_in_dseg_record(world: World, tmp_path: Path) -> None:
    """Where stamps run backwards, what is dropped depends on the order of arrival within a sensor, which DDS keeps."""
    bag = shaken(tmp_path / "bag")
    record([bag], tmp_path / "frames", RecordOptions())
    start(world)
    played(world, bag)
    call(world, "stop")
    mine, theirs = account(world.folder / "live"), account(tmp_path / "frames", "bag")
    assert_same_frames(world.folder / "live", tmp_path / "frames")
    assert mine["offsets_ms"] == theirs["offsets_ms"]
    assert mine["sensors"] == theirs["sensors"]
    assert {"stamp runs backwards", "duplicate stamp"} <= mine["sensors"]["camera"]["dropped"].keys()


def test_real_drive(world: World, kitti_bag: Path) -> None:
    """40 real pairs at their own rate: the same frames as from the bag."""
    with BagReader(kitti_bag) as reader:
        sensors = sensors_from_bag(reader, TopicOptions())
    camera = sensors.cameras[0]
    lidar_frame = "velodyne"
    T = sensors.tree.lookup(lidar_frame, camera.calibration.frame_id, 0)
    given = calibration(world.folder / "kitti.yaml", T, (lidar_frame, camera.calibration.frame_id))
    options = RecordOptions(topics=TopicOptions(calibration=given))
    record([kitti_bag], world.folder / "frames", options)
    topics = {"topics__lidar": sensors.lidar, "topics__cameras": f"[{camera.topic}]", "topics__calibration": given}
    start(world, memory=2000.0, **topics)  # for all of it, however slow the machine is
    played(world, kitti_bag, "--speed", "0.5")
    call(world, "stop")
    assert_same_frames(world.folder / "live", world.folder / "frames")
    assert account(world.folder / "live") == account(world.folder / "frames", "kitti_city")


def test_the_vehicles_motion_by_odometry(world: World, tmp_path: Path) -> None:
    """Views have the motion in them, the same as from the bag."""
    poses = [odometry(t, 0.01 * t, child="lidar") for t in range(-400, 3400, 40)]
    more = [("/odom", pose, ros.stamp_ns(pose)) for pose in poses]
    bag = write_bag(tmp_path / "bag", range(0, 3000, 100), range(20, 3050, 33), more=more, leave_out=["/tf_static"])
    mounting = calibration(tmp_path / "mounting.yaml")
    record([bag], tmp_path / "frames", RecordOptions(topics=TopicOptions(calibration=mounting)))
    start(world, tf_timeout=60.0)
    played(world, bag)
    call(world, "stop")
    assert_same_frames(world.folder / "live", tmp_path / "frames")
    assert account(world.folder / "live") == account(tmp_path / "frames", "bag")
    assert account(world.folder / "live")["motion"]["compensated"] == 30
    moved = [frame.views[0].T_image_sweep[:3, 3] for frame in FrameStore(world.folder / "live").frames()]
    assert len({tuple(np.round(m, 4)) for m in moved}) > 2  # offsets differ, so do the ways between


def test_two_lidars(world: World, tmp_path: Path) -> None:
    bag = two_lidars(tmp_path / "bag")
    mounting = yaml.safe_load(calibration(tmp_path / "mounting.yaml").read_text())
    translation, quaternion = pose_from_matrix(T_LIDAR_REAR)
    row = {"parent": "lidar", "child": "rear", "translation": translation.tolist(), "quaternion": quaternion.tolist()}
    (tmp_path / "mounting.yaml").write_text(yaml.safe_dump({"transforms": [*mounting["transforms"], row]}))
    record([bag], tmp_path / "frames", BOTH_LIDARS)
    start(world, topics__calibration=tmp_path / "mounting.yaml", topics__other_lidars=f"[{REAR_TOPIC}]")
    played(world, bag)
    call(world, "stop")
    assert_same_frames(world.folder / "live", tmp_path / "frames")
    assert account(world.folder / "live") == account(tmp_path / "frames", "bag")


def test_split_and_stop_while_recording(world: World, bag: Path, recorded: Path) -> None:
    start(world)
    status = world.diagnostics()
    player = play(world, bag, "--hold", "1.5")
    player.says("held")
    assert wait(lambda: frames_made(status) >= 3)
    assert "drive is finished; recording into" in call(world, "split")
    player.answer()
    player.says("ended")
    taken(world, sent(bag))
    assert status[STATUS]["dropped"] == "none"
    assert call(world, "stop") == "stopped; drive_2 is finished"
    drives = whole(world.folder / "live")
    assert list(drives) == ["drive", "drive_2"] and all(row["frames"] > 0 for row in drives.values())
    assert_same_frames(world.folder / "live", recorded)
    assert wait(lambda: status[STATUS]["recording"] == "no")
    assert not world.call(Trigger, f"{NODE}/stop").success
    call(world, "start")
    assert wait(lambda: "drive_3_0.mcap" in status[STATUS]["file"])


def test_an_event_saves_the_seconds_around_it(world: World, bag: Path, recorded: Path) -> None:
    start(world, record="events", keep_before=0.8, keep_after=0.5)
    status = world.diagnostics()
    player = play(world, bag, "--hold", "1.45")
    player.says("held")
    taken(world, sent(bag, 1.45))
    assert "0.5 s to come into" in call(world, "trigger")
    player.answer()
    player.says("ended")
    assert wait(lambda: status[STATUS]["drives finished"] == "1")
    drives = whole(world.folder / "live")
    assert 5 <= drives["drive"]["frames"] <= 14
    stamps = [stamp for _, stamp in FrameStore(world.folder / "live").frame_keys]
    assert stamps == list(range(stamps[0], stamps[-1] + 1, 100 * MS)) and stamps[-1] - stamps[0] <= 1300 * MS
    truth = FrameStore(recorded)
    for frame in FrameStore(world.folder / "live").frames():
        assert np.array_equal(frame.views[0].regions, truth.frame("bag", frame.stamp_ns).views[0].regions)


def test_a_bag_played_twice_in_a_loop(world: World, bag: Path, recorded: Path) -> None:
    node = start(world)
    player = play(world, bag, "--loops", "2")
    player.says("held")
    taken(world, sent(bag))
    player.answer()
    player.says("ended")
    taken(world, sent(bag, loops=2))
    call(world, "stop")
    assert_same_frames(world.folder / "live", recorded)
    found = account(world.folder / "live")["sensors"][LIDAR]
    assert found == {
        "messages": 60, "paired": 30, "surplus": 0, "dropped": {"recorded already: the bag repeats itself": 30},
    }  # fmt: skip
    assert "stamps jumped back" in node.log


def test_a_camera_that_dies_and_returns(world: World, tmp_path: Path) -> None:
    """Sweeps do not wait for it for ever, it is told of by name, and its images are paired when it is back."""
    sweeps, rows = range(0, 9000, 100), range(4, 9050, 33)
    images = [t for t in rows if not 2000 <= t < 6500]
    bag = write_bag(tmp_path / "bag", sweeps, images, leave_out=["/tf_static"])
    node = start(world)
    status = world.diagnostics()
    player = play(world, bag, "--hold", "1.98", "6.45")
    for held, until in enumerate((1.98, 6.45), 1):
        player.says("held", held)
        taken(world, sent(bag, until))
        if held == 2:  # more sweeps have come than a dead camera is waited for
            assert wait(lambda: frames_made(status) >= 19)
            assert wait(lambda: f"{IMAGE_TOPIC}: no message for" in status[STATUS]["message"])
            node.says(f"{IMAGE_TOPIC}: no message for")
        player.answer()
    player.says("ended")
    taken(world, sent(bag))
    call(world, "stop")
    found = account(world.folder / "live")["sensors"]
    assert found[LIDAR]["messages"] == len(sweeps) and 42 <= found[LIDAR]["paired"] <= 47
    stamps = [(stamp - START_NS) // MS for _, stamp in FrameStore(world.folder / "live").frame_keys]
    assert all(t in stamps for t in sweeps if t < 1900 or t > 6600)


@pytest.mark.parametrize("silent", ["camera", "camera_info"])
def test_a_camera_that_is_silent_at_start_is_taken_in_when_it_comes(
    world: World, bag: Path, recorded: Path, silent: str
) -> None:
    """The other one is recorded meanwhile, and loses nothing; the late one is in every frame from then on."""
    images = [row for row in rows_of(bag) if row[0] == IMAGE_TOPIC]
    reliable = QoSProfile(depth=1000)
    begins = START_NS + 1500 * MS

    def rear() -> tuple[Any, Any]:
        return tuple(world.node.create_publisher(*of, reliable) for of in ((Image, REAR), (CameraInfo, REAR_INFO)))

    if silent == "camera_info":
        rear_images, rear_info = rear()
    node = start(world, topics__cameras=f"[{IMAGE_TOPIC},{REAR}]")
    status = world.diagnostics()
    player = play(world, bag, "--hold", "1.5")
    if silent == "camera_info":  # what it sends as long as it is left out is of no use, and does no harm
        assert wait(rear_images.get_subscription_count)
        for _, _, log_ns, data in images:
            if log_ns < begins:
                rear_images.publish(data)
    player.says("held")
    assert wait(lambda: frames_made(status) >= 14)
    assert wait(lambda: f"{REAR} is left out: " in status[STATUS]["message"]), status
    assert "start the camera: it is taken in when it comes" in status[STATUS]["message"]
    if silent == "camera":
        rear_images, rear_info = rear()
    message = ros_camera_info(CAMERA)

    def taken_in() -> bool:
        rear_info.publish(message)
        return bool(wait(lambda: "cameras: camera, rear" in node.log, 0.2))

    assert wait(taken_in), node.log
    assert wait(rear_images.get_subscription_count)
    late = [row for row in images if row[2] >= begins]
    for *_, data in late:
        rear_images.publish(data)
    assert wait(lambda: int(status[STATUS].get("rear received", 0)) >= len(late))
    player.answer()
    player.says("ended")
    taken(world, sent(bag) | {REAR: len(late)})
    assert wait(lambda: "left out" not in status[STATUS]["message"])
    call(world, "stop")
    found = list(FrameStore(world.folder / "live").frames())
    assert [frame.stamp_ns for frame in found] == [START_NS + t * MS for t in SWEEPS]
    truth = FrameStore(recorded)
    for frame in found:
        twin = truth.frame("bag", frame.stamp_ns).views[0]
        names = ["camera", "rear"] if frame.stamp_ns >= begins else ["camera"]
        assert [view.camera for view in frame.views] == names, (frame.stamp_ns - START_NS) // MS
        for view in frame.views[: 2 if frame.stamp_ns > begins else 1]:  # its first image is not the first's nearest
            assert view.stamp_ns == twin.stamp_ns and np.array_equal(view.regions, twin.regions)
    sensors = whole(world.folder / "live")["drive"]["sensors"]
    assert sensors[LIDAR]["paired"] == len(SWEEPS) and sensors["rear"]["messages"] == len(late)
    assert "Traceback" not in node.log


def ros_camera_info(camera: Camera) -> CameraInfo:
    """rclpy's message of a calibration."""
    from dseg_ros.conversions import camera_info_to_ros

    return camera_info_to_ros(header(START_NS, camera.frame_id), camera)


@pytest.mark.parametrize("use_sim_time", [False, True])
def test_a_bag_without_its_clock_is_told(world: World, tmp_path: Path, use_sim_time: bool) -> None:
    long = range(0, 60_000, 200)
    node = start(world, use_sim_time=use_sim_time)
    status, told = world.diagnostics(), "behind the node's clock; set use_sim_time where a bag is played with --clock"
    play(world, write_bag(tmp_path / "bag", long, [t + 4 for t in long]), "--clock")
    assert wait(lambda: frames_made(status) >= 20)
    if use_sim_time:
        assert told not in node.log
    else:
        assert wait(lambda: told in status[STATUS]["message"]), status
        assert f"{IMAGE_TOPIC}: stamps are " in node.says(told)


def test_quality_of_service_that_does_not_fit_is_told_by_name(world: World, bag: Path) -> None:
    node = start(world)  # wants reliable
    status = world.diagnostics()
    world.python(PLAYER, str(bag), "--best-effort")
    node.says("a publisher's reliability does not fit; set qos.reliability to best_effort")
    assert wait(
        lambda: {LIDAR_TOPIC, IMAGE_TOPIC} <= set(re.split("[:; ]+", status.get(STATUS, {}).get("message", "")))
    )
    assert status[STATUS]["level"] == "1"


def test_a_topic_that_nobody_publishes_is_told_by_name(world: World, bag: Path) -> None:
    node = start(world)
    node.says(f"no cloud topic {LIDAR_TOPIC}; there are: none")
    world.python(PLAYER, str(bag), "--only", LIDAR_TOPIC)
    node.says(f"no image topic {IMAGE_TOPIC}; there are: none")
    answer = world.call(Trigger, f"{NODE}/start")
    assert not answer.success and IMAGE_TOPIC in answer.message


def test_kill_while_recording_costs_one_frame_at_most(world: World, bag: Path, recorded: Path) -> None:
    node = start(world)
    status = world.diagnostics()
    play(world, bag)
    assert wait(lambda: frames_made(status) >= 10)
    written = int(status[STATUS]["frames"])
    node.stop(signal.SIGKILL)
    assert (world.folder / "live" / "drive_0.mcap.tmp").is_file()
    again = start(world)
    again.says("drive drive was cut off; its")
    row = whole(world.folder / "live")["drive"]
    assert row["frames"] >= written
    truth = FrameStore(recorded)
    frames = list(FrameStore(world.folder / "live").frames())
    assert [f.stamp_ns for f in frames] == [START_NS + t * MS for t in SWEEPS][: len(frames)]
    for frame in frames:
        assert np.array_equal(frame.views[0].regions, truth.frame("bag", frame.stamp_ns).views[0].regions)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_asked_to_end_while_busy_it_closes_the_drive(world: World, bag: Path, how: signal.Signals) -> None:
    node = start(world)
    status = world.diagnostics()
    play(world, bag)
    assert wait(lambda: frames_made(status) >= 5)
    assert node.stop(how) == 0, node.log
    assert "Traceback" not in node.log
    assert whole(world.folder / "live")["drive"]["frames"] >= 5
    assert "drive drive: " in node.log


def test_too_little_disk_stops_cleanly(world: World, bag: Path) -> None:
    start(world, min_free_disk=1e9)
    status = world.diagnostics()
    player = world.python(PLAYER, str(bag))
    assert wait(lambda: "GB left, less than 1e+09" in status.get(STATUS, {}).get("message", ""))
    assert status[STATUS]["level"] == "2" and status[STATUS]["recording"] == "no"
    player.says("ended")
    assert not list((world.folder / "live").glob("*.mcap*"))


def test_the_lifecycle_begins_and_ends_drives(world: World, bag: Path) -> None:
    node = start(world, autostart=False)
    assert world.state(NODE) == "unconfigured"
    assert world.transition(NODE, "configure") and world.transition(NODE, "activate")
    status = world.diagnostics()
    player = play(world, bag)
    assert wait(lambda: frames_made(status) >= 5)
    assert world.transition(NODE, "deactivate")
    assert whole(world.folder / "live")["drive"]["frames"] >= 5
    assert not world.call(Trigger, f"{NODE}/start").success
    player.says("ended")
    assert world.transition(NODE, "activate")
    played(world, bag)
    assert wait(lambda: frames_made(status) == len(SWEEPS))
    assert world.transition(NODE, "deactivate") and world.transition(NODE, "cleanup")
    assert whole(world.folder / "live")["drive_2"]["frames"] == len(SWEEPS)
    assert node.stop() == 0 and "Traceback" not in node.log


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("memory", 1.0, "memory"),
        ("record", "sometimes", "record = 'sometimes' must be one of continuous, events"),
        ("drive", "../up", "must give a name"),
        ("out", None, "the parameter out is not set"),
        ("topics.calibration", "/nowhere.yaml", "/nowhere.yaml: cannot be read"),
        ("ego.box", "[1.0, 2.0]", "must be six numbers"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(world: World, name: str, value: Any, said: str) -> None:
    node = start(world, **{name.replace(".", "__"): value})
    node.says(said)
    assert "Traceback" not in node.log


def test_pictures_for_rviz_are_the_frames(world: World, tmp_path: Path) -> None:
    clouds = world.collect(PointCloud2, f"{NODE}/points")
    boxes = world.collect(MarkerArray, f"{NODE}/boxes")
    overlays = world.collect(Image, f"{NODE}/overlay/camera")
    long = range(0, 60_000, 200)  # what nobody is known to listen to yet is not published
    bag = write_bag(tmp_path / "bag", long, [t + 4 for t in long])
    start(world)
    play(world, bag)
    assert wait(lambda: clouds and boxes and overlays)
    call(world, "stop")
    truth = {frame.stamp_ns: frame for frame in FrameStore(world.folder / "live").frames()}
    cloud = clouds[-1]
    frame = truth[ros.stamp_ns(cloud)]
    columns = ros.columns_from_cloud(cloud)
    assert cloud.header.frame_id == "lidar"
    assert np.array_equal(np.stack([columns[a] for a in "xyz"], 1), frame.sweep.xyz)
    assert np.array_equal(columns["proposal"], frame.proposals)
    packed = columns["rgb"].view(np.uint32)
    assert np.array_equal(np.stack([packed >> 16, packed >> 8 & 255, packed & 255], 1), region_colors(frame.proposals))
    picture = overlays[-1]
    view = next(f.views[0] for f in truth.values() if f.views[0].stamp_ns == ros.stamp_ns(picture))
    pixels = np.asarray(picture.data).reshape(picture.height, picture.width, 3).astype(int)
    assert picture.header.frame_id == "camera_optical" and picture.encoding == "rgb8"
    rgb, none = decode(view.image), view.regions == 0
    assert np.array_equal(pixels[none], rgb[none])
    expected = (rgb.astype(float) + region_colors(view.regions)) / 2
    assert np.abs(pixels - expected)[~none].max() <= 1 and none.any() and not none.all()
    first, *cubes = boxes[-1].markers
    assert first.action == Marker.DELETEALL and len(cubes) >= 1
    box = min(cubes, key=lambda cube: abs(cube.pose.position.x - 6))  # its face is 6 m ahead, 1 m wide, 1.4 m high
    assert abs(box.pose.position.x - 6) < 0.2 and abs(box.pose.position.y) < 0.2
    assert abs(max(box.scale.x, box.scale.y) - 1) < 0.2 and 1.0 < box.scale.z < 1.5


def test_what_a_segmenter_makes_is_no_sensor(world: World, bag: Path) -> None:
    """Its painted points and its overlay, with a camera_info beside it, have the types of sensors."""
    made = {"points": PointCloud2, "overlay": Image, "camera_info": CameraInfo, "pipeline_latency_ms": Float64}
    for name, kind in made.items():
        world.node.create_publisher(kind, f"/segmenter/{name}", 10)
    start(world, topics__lidar=None, topics__cameras=None)
    play(world, bag)
    log = world.processes[0].says("[recorder]: sensors: ")
    assert log.rpartition("[recorder]: sensors: ")[2].splitlines()[0] == f"{LIDAR_TOPIC}, {IMAGE_TOPIC}"


def test_nothing_is_computed_that_nobody_wants(world: World, bag: Path) -> None:
    node = start(world)
    played(world, bag)
    call(world, "stop")
    offered = {f"{NODE}/points", f"{NODE}/boxes", f"{NODE}/overlay/camera"}
    assert wait(lambda: offered <= dict(world.node.get_topic_names_and_types()).keys())
    assert node.stop() == 0
