"""Several LiDARs: one frame of all, objects that touch are one, and the nearer one is seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_player import rows_of
from bags import MS, START_NS, bag_rows, rings, scene, write_bag
from hypothesis import given, settings
from hypothesis import strategies as st
from live import IMAGE_TOPIC, LIDAR_TOPIC, Car, assert_same_frames
from numpy.typing import NDArray
from test_transforms_from_bag import odometry

from dseg_core import messages as ros
from dseg_core.bag import BagReader, BagWriter
from dseg_core.checks_from_frames import check
from dseg_core.cli import main
from dseg_core.errors import DsegError
from dseg_core.frames_from_bag import record
from dseg_core.live.recorder import LiveRecorder
from dseg_core.records import Sweep
from dseg_core.sensors_from_bag import LIDAR, sensors_from_bag
from dseg_core.stage_options import FrameCheckOptions, RecordOptions, TopicOptions
from dseg_core.store import FrameStore, read_json
from dseg_core.sweeps_merged import SweepPart, merged_regions, merged_sweep, with_common_ids
from dseg_core.transforms import inverse

REAR_TOPIC = "/rear/points"
# The other LiDAR is turned to the left; what it sees is the same scene.
T_LIDAR_REAR = np.array([[0, -1, 0, 0.0], [1, 0, 0, 0.0], [0, 0, 1, 0.0], [0, 0, 0, 1.0]])
OPTIONS = RecordOptions(topics=TopicOptions(lidar=LIDAR_TOPIC, other_lidars=(REAR_TOPIC,)))


def part(xyz: Any, ids: Any, T: Any = None, stamp: int = 0) -> SweepPart:
    sweep = Sweep(stamp, "lidar", np.asarray(xyz, np.float32).reshape(-1, 3))
    return SweepPart(sweep, np.asarray(ids, np.uint16), np.eye(4) if T is None else T)


def blob(center: Any, count: int = 40, seed: int = 0) -> NDArray[np.float32]:
    return np.asarray(np.random.default_rng(seed).uniform(-0.2, 0.2, (count, 3)) + center, np.float32)


def test_objects_that_touch_get_one_id_and_others_keep_theirs_apart() -> None:
    one = part(np.vstack([blob([5, 0, 0]), blob([9, 0, 0], 10), [[3, 0, -2]]]), [2] * 40 + [3] * 10 + [1])
    turned = np.vstack([blob([5, 0, 0], seed=1), blob([0, 7, 0], 60), [[2, 0, -2], [1, 1, 1]]])
    T = inverse(T_LIDAR_REAR)
    other = part(turned @ T[:3, :3].T, [4] * 40 + [2] * 60 + [1, 0], T_LIDAR_REAR)
    first, second = with_common_ids([one, other], 0.4)
    shared, alone, far = first.proposals[0], second.proposals[40], first.proposals[40]
    assert np.all(first.proposals[:40] == shared) and np.all(second.proposals[:40] == shared)
    assert len({int(shared), int(alone), int(far)}) == 3
    assert (shared, alone, far) == (2, 3, 4)  # larger ones first: 80, 60 and 10 points
    assert first.proposals[-1] == 1 and list(second.proposals[-2:]) == [1, 0]
    whole, ids = merged_sweep([first, second])
    assert np.allclose(whole.xyz[51:], turned, atol=1e-5) and np.array_equal(whole.xyz[:51], one.sweep.xyz)
    assert np.array_equal(ids, np.concatenate([first.proposals, second.proposals]))


def test_as_many_objects_have_ids_as_fit_into_16_bits() -> None:
    """65534 of 65536, 2 to 65535; of two LiDARs with more ids together than 16 bits hold."""
    half = 2**15
    xyz = np.column_stack([np.arange(2 * half) * 2.0, np.zeros(2 * half), np.zeros(2 * half)])
    own = np.arange(2, half + 2)
    twice = xyz[half:-2]  # larger than the last two
    first, second = with_common_ids(
        [part(xyz[:half].repeat(2, 0), own.repeat(2)), part(np.vstack([xyz[half:], twice]), [*own, *own[:-2]])], 0.4
    )
    found = np.concatenate([first.proposals[::2], second.proposals[:half]])
    assert list(found[-2:]) == [0, 0] and sorted(found[:-2]) == list(range(2, 2**16))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_ids_are_those_of_a_plain_search(seed: int) -> None:
    """Against every pair of points looked at one by one."""
    random, side = np.random.default_rng(seed), 0.5
    parts = []
    for _ in range(int(random.integers(2, 4))):
        centers = random.uniform(-2, 2, (4, 3))
        ids = random.integers(0, 5, 30)
        parts.append(part(centers[ids % 4] + random.uniform(-0.3, 0.3, (30, 3)), ids))
    xyz = np.concatenate([p.xyz for p in parts])
    names = [(n, int(i)) for n, p in enumerate(parts) for i in p.proposals]
    cubes = [tuple(c) for c in np.floor(xyz / side).astype(int)]
    groups = {name: {name} for name in names if name[1] >= 2}
    for a, name in enumerate(names):
        for b, other in enumerate(names):
            if cubes[a] == cubes[b] and name[1] >= 2 and other[1] >= 2 and groups[name] is not groups[other]:
                groups[name] |= groups[other]
                for member in groups[name]:
                    groups[member] = groups[name]
    found = np.concatenate([p.proposals for p in with_common_ids(parts, side)])
    for a, name in enumerate(names):
        if name[1] < 2:
            assert found[a] == name[1]
            continue
        for b, other in enumerate(names):
            if other[1] >= 2:
                assert (found[a] == found[b]) == (groups[name] is groups[other])


def test_where_regions_differ_the_nearer_object_is_seen() -> None:
    near, far, ground = [4, 0, 0], [8, 0, 0], [2, 0, -1]
    parts = [part([near, ground], [2, 1]), part([far, ground], [3, 1])]
    mine = np.array([[2, 1, 0, 2, 1]], np.uint16)
    theirs = np.array([[3, 3, 3, 0, 0]], np.uint16)
    for regions, order in (([mine, theirs], parts), ([theirs, mine], parts[::-1])):
        assert merged_regions(regions, order, np.zeros(3)).tolist() == [[2, 3, 3, 2, 1]]
    assert merged_regions([mine, theirs], parts, np.array([9.0, 0, 0])).tolist() == [[3, 3, 3, 2, 1]]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wild", [1e20, 3e38])
def test_points_of_no_object_may_be_anywhere(wild: float) -> None:
    """Garbled coordinates, whose squares overflow, change nothing and warn of nothing."""
    garbled = [wild, -wild, wild]
    parts = [part([[4, 0, 0], garbled], [2, 0]), part([garbled, [8, 0, 0]], [0, 3], T_LIDAR_REAR)]
    regions = [np.array([[2, 0]], np.uint16), np.array([[3, 3]], np.uint16)]
    assert merged_regions(regions, parts, np.zeros(3)).tolist() == [[2, 3]]


def test_a_garbled_pose_costs_itself_only(tmp_path: Path) -> None:
    """An odometry that jumps off the planet for one message: that one is left out, and the frames are as without it."""
    for name, wild in (("clean", {}), ("wild", {120: 1e40})):
        rows = []
        for t, x in ({t: 0.01 * t for t in range(-200, 500, 50)} | wild).items():
            T = np.eye(4)
            T[0, 3] = x
            stamp = START_NS + t * MS
            rows.append(("/tf", ros.transforms_to_message([(stamp, "odom", "base_link", T)]), stamp))
        write_bag(tmp_path / name / "drive", more=rows)
        record([tmp_path / name / "drive"], tmp_path / f"{name}_frames", RecordOptions())
    notes = read_json(tmp_path / "wild_frames" / "summary.json")["results"]["drives"]["drive"]["notes"]
    assert [note for note in notes if "farther than 1e+09 m" in note and "1 transform left out" in note]
    clean, found = (FrameStore(tmp_path / f"{name}_frames") for name in ("clean", "wild"))
    for key in clean.view_keys:
        assert np.array_equal(clean.view(key).T_image_sweep, found.view(key).T_image_sweep)
        assert np.array_equal(clean.view(key).regions, found.view(key).regions)


def rear(stamp: int) -> Any:
    xyz = scene() @ T_LIDAR_REAR[:3, :3].astype(np.float32)
    columns = {axis: xyz[:, i].copy() for i, axis in enumerate("xyz")} | {"ring": rings()}
    return ros.cloud_to_message(stamp, "rear", columns)


def two_lidars(path: Path, rear_times: Any = range(30, 1000, 100), motion: bool = False) -> Path:
    """A second of two LiDARs, 30 ms apart, and a camera."""
    mounted = ros.transforms_to_message([(START_NS, "lidar", "rear", T_LIDAR_REAR)])
    more = [("/tf_static", mounted, START_NS)]
    more += [(REAR_TOPIC, rear(START_NS + t * MS), START_NS + t * MS) for t in rear_times]
    if motion:
        poses = [odometry(t, 0.01 * t, child="base_link") for t in range(-200, 1300, 20)]
        more += [("/odom", pose, ros.stamp_ns(pose)) for pose in poses]
    return write_bag(path, range(0, 1000, 100), range(4, 1100, 50), more=more)


def whole(out: Path, drive: str) -> dict[str, Any]:
    assert check(out, FrameCheckOptions(least_share=0.0)).problems == ()
    found: dict[str, Any] = read_json(out / "summary.json")["results"]["drives"][drive]
    return found


def test_a_frame_has_both_lidars_in_the_triggers_frame(tmp_path: Path) -> None:
    bag = two_lidars(tmp_path / "bag")
    record([bag], tmp_path / "both", OPTIONS)
    record([bag], tmp_path / "one", RecordOptions(topics=TopicOptions(lidar=LIDAR_TOPIC)))
    alone = next(FrameStore(tmp_path / "one").frames())
    frame = next(FrameStore(tmp_path / "both").frames())
    count = len(alone.sweep)
    assert len(frame.sweep) == 2 * count and frame.sweep.frame_id == "lidar" and frame.stamp_ns == alone.stamp_ns
    assert np.allclose(frame.sweep.xyz[count:], frame.sweep.xyz[:count], atol=1e-4)
    assert np.mean(frame.proposals[count:] == frame.proposals[:count]) > 0.999  # one id for what both see
    on_box = (np.abs(frame.sweep.xyz[:, 0] - 6) < 0.05) & (np.abs(frame.sweep.xyz[:, 1]) < 0.45)
    assert len(np.unique(frame.proposals[on_box & (frame.sweep.xyz[:, 2] > -1.5)])) == 1
    assert np.mean(frame.views[0].regions == alone.views[0].regions) > 0.99
    row = whole(tmp_path / "both", "bag")
    assert row["sensors"]["lidar_2"] == {"messages": 10, "paired": 10, "surplus": 0, "dropped": {}}
    assert row["frames"] == row["views"] == 10 and row["offsets_ms"]["lidar_2"]["median"] == 30.0


def test_the_vehicles_motion_between_the_lidars_stamps(tmp_path: Path) -> None:
    """It drives 10 m/s to its left (see `odometry`): in 30 ms what does not move has come 0.3 m nearer."""
    record([two_lidars(tmp_path / "bag", motion=True)], tmp_path / "both", OPTIONS)
    frame = next(FrameStore(tmp_path / "both").frames())
    half = len(frame.sweep) // 2
    shift = frame.sweep.xyz[half:] - frame.sweep.xyz[:half]
    assert np.allclose(np.linalg.norm(shift, axis=1), 0.3, atol=2e-3)


def test_live_gives_the_same(tmp_path: Path) -> None:

    bag = two_lidars(tmp_path / "bag")
    record([bag], tmp_path / "frames", OPTIONS)
    topics = {"topics.lidar": LIDAR_TOPIC, "topics.other_lidars": [REAR_TOPIC]}
    with Car(tmp_path / "live", drive="drive", **topics) as car, BagReader(bag) as reader:
        sensors = sensors_from_bag(reader, OPTIONS.topics)
        car.recorder = LiveRecorder(car.folder, sensors, car.options, car.memory, car.said.append)
        car.recorder.start()
        names = {LIDAR_TOPIC: LIDAR, IMAGE_TOPIC: "camera", REAR_TOPIC: "lidar_2"}
        for topic, kind, _, data in rows_of(bag):
            if topic in names:
                car.push(names[topic], kind, data)
    assert_same_frames(tmp_path / "live", tmp_path / "frames")
    mine, theirs = whole(tmp_path / "live", "drive"), whole(tmp_path / "frames", "bag")
    assert mine["sensors"] == theirs["sensors"] and mine["views"] == theirs["views"]


def test_without_the_other_lidar_frames_have_one(tmp_path: Path) -> None:
    record([two_lidars(tmp_path / "bag", rear_times=range(30, 500, 100))], tmp_path / "both", OPTIONS)
    sizes = [len(frame.sweep) for frame in FrameStore(tmp_path / "both").frames()]
    assert len(sizes) == 10 and sizes[0] == 2 * sizes[-1]
    assert whole(tmp_path / "both", "bag")["sensors"]["lidar_2"]["paired"] == 5


def test_another_lidar_that_is_never_merged_is_told_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its sweeps lie 70 ms from the first one's, and 50 are allowed; the offset that `inspect` names mends it."""
    more = [("/tf_static", ros.transforms_to_message([(START_NS, "lidar", "rear", T_LIDAR_REAR)]), START_NS)]
    more += [(REAR_TOPIC, rear(START_NS + t * MS), START_NS + t * MS) for t in range(70, 1000, 200)]
    bag = write_bag(tmp_path / "drive", range(0, 1000, 200), range(4, 1100, 50), more=more)
    named = ["--topics.lidar", LIDAR_TOPIC, "--topics.other-lidars", REAR_TOPIC]
    assert main(["record", str(bag), "--out", str(tmp_path / "frames"), *named]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "was merged" in line]
    assert line == (
        "drive: no sweep of lidar_2 was merged (/rear/points): 5 (too far). Raise --pairing.tolerance, or correct its "
        "stamps with --pairing.offsets; `dseg inspect` measures them."
    )
    main(["inspect", str(bag), "--out", str(tmp_path), *named])
    told = " ".join(capsys.readouterr().out.split())
    assert "lidar_2 gives nothing: 5 (too far): the nearest are +70 ms" in told
    assert "Give --pairing.offsets lidar_2:0.070" in told
    named += ["--pairing.offsets", "lidar_2:0.070"]
    assert main(["record", str(bag), "--out", str(tmp_path / "both"), *named]) == 0
    assert "was merged" not in capsys.readouterr().out


def test_another_lidar_that_loses_its_place_costs_only_itself(tmp_path: Path) -> None:
    """Merged at first, then in a frame that nothing connects: recording goes on, and tells how many."""
    rows = bag_rows(range(0, 3000, 100), range(4, 3100, 100))
    rows.append(("/tf_static", ros.transforms_to_message([(START_NS, "lidar", "rear", T_LIDAR_REAR)]), START_NS))
    for t in range(0, 3000, 100):
        cloud = rear(START_NS + t * MS)
        cloud.header.frame_id = "rear" if t < 300 else "lost"
        rows.append((REAR_TOPIC, cloud, START_NS + t * MS))
    with BagWriter(tmp_path / "bag") as writer:
        for row in sorted(rows, key=lambda row: row[2]):
            writer.write(*row)
    record([tmp_path / "bag"], tmp_path / "both", OPTIONS)
    row = whole(tmp_path / "both", "bag")
    assert row["frames"] == 30 and row["sensors"]["lidar_2"]["paired"] == 3
    assert row["sensors"]["lidar_2"]["dropped"] == {"no transform to the LiDAR": 27}


def test_a_broken_other_sweep_is_counted_and_the_frame_made(tmp_path: Path) -> None:
    rows = bag_rows(range(0, 500, 100), range(4, 600, 50))
    rows.append(("/tf_static", ros.transforms_to_message([(START_NS, "lidar", "rear", T_LIDAR_REAR)]), START_NS))
    for t in range(30, 500, 100):
        cloud = rear(START_NS + t * MS)
        if t == 230:
            cloud.data = cloud.data[:-9]
        rows.append((REAR_TOPIC, cloud, START_NS + t * MS))
    with BagWriter(tmp_path / "bag", "mcap") as writer:
        for row in sorted(rows, key=lambda row: row[2]):
            writer.write(*row)
    record([tmp_path / "bag"], tmp_path / "both", OPTIONS)
    row = whole(tmp_path / "both", "bag")
    assert row["frames"] == 5 and row["sensors"]["lidar_2"]["paired"] == 4
    assert sum(row["sensors"]["lidar_2"]["dropped"].values()) == 1


def test_a_lidar_that_is_not_there_is_named(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag")
    with pytest.raises(DsegError, match=f"no cloud topic {REAR_TOPIC}; there are: {LIDAR_TOPIC}"):
        record([bag], tmp_path / "both", OPTIONS)
