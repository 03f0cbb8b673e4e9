"""Sweeps told with earlier ones: what is too thin in one alone, which sweeps these are, live as from a bag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_player import rows_of
from bags import CAMERA, MS, START_NS, T_LIDAR_CAMERA, scene, write_bag
from hypothesis import given, settings
from hypothesis import strategies as st
from live import IMAGE_TOPIC, LIDAR_TOPIC, Car, assert_same_frames, tree
from numpy.typing import NDArray
from test_live_recorder import until
from test_sweeps_merged import blob, part
from test_transforms_from_bag import odometry

from dseg_core import messages as ros
from dseg_core.bag import BagReader
from dseg_core.checks_from_frames import check
from dseg_core.frames_from_bag import record
from dseg_core.frames_from_pairs import FrameRecorder
from dseg_core.ledger import Ledger
from dseg_core.live.frames import _messages, _size
from dseg_core.live.messages import LiveMessage, Memory
from dseg_core.live.recorder import LiveRecorder
from dseg_core.pairs_from_bag import Paired, SweepDone
from dseg_core.pairs_from_messages import ChosenPairs
from dseg_core.sensors_from_bag import LIDAR, CameraTopic, Sensors, sensors_from_bag
from dseg_core.stage_options import FrameCheckOptions, ProposalOptions, RecordOptions
from dseg_core.store import FrameStore, read_json
from dseg_core.sweeps_aggregated import filled, options_for, told_together

OPTIONS = RecordOptions.from_mapping({"proposals.aggregate": 2, "proposals.method": "euclidean"})
POLE = np.column_stack([np.full(4, 4.0), np.full(4, 0.6), np.linspace(-1.2, -0.6, 4)]).astype(np.float32)


def test_thin_objects_need_their_points_in_all_sweeps_together() -> None:
    options = ProposalOptions(min_points=9)
    assert options_for(options, 2).min_points == 3 and options_for(options, 0) is options
    pole, gone, wall = blob([4, 0, 0], 4), blob([9, 5, 0]), blob([7, -3, 0])
    now = part(np.vstack([pole, wall, [[3, 0, -2]]]), [3] * 4 + [2] * 40 + [1])
    before = [
        part(np.vstack([blob([4, 0, 0], 4, seed), gone, [[3, 1, -2], [1, 1, 1]]]), [3] * 4 + [2] * 40 + [1, 0])
        for seed in (1, 2)
    ]
    (found,), earlier = told_together([now], before, options)
    assert list(np.unique(found.proposals[4:44])) == [2] and list(np.unique(found.proposals[:4])) == [3]
    assert found.proposals[-1] == 1
    for each in earlier:
        assert list(each.proposals[:4]) == [3] * 4, "one pole, seen three times"
        assert not each.proposals[4:44].any(), "what has only been seen before is none"
        assert list(each.proposals[44:]) == [1, 0]
    (alone,), _ = told_together([now], before[:1], options)
    assert not alone.proposals[:4].any(), "eight points of nine"


def test_what_is_seen_now_is_where_it_is_now() -> None:
    now, before = np.array([[0, 0, 2], [1, 3, 0]], np.uint16), np.array([[2, 0, 3], [3, 1, 1]], np.uint16)
    np.testing.assert_array_equal(filled(now, before), [[2, 0, 2], [1, 3, 1]])


def thin(stamp: int) -> Any:
    """The scene of `bags` and a pole of four points a sweep; every other one sees nothing to its left."""
    seen = scene()
    seen = seen[np.isfinite(seen).all(axis=1)]
    if stamp // MS % 200:
        seen = seen[seen[:, 1] < 1.5]
    xyz = np.concatenate([seen, POLE + np.float32((stamp // MS) % 7 * 0.01)])
    return ros.cloud_to_message(stamp, "lidar", {axis: xyz[:, i].copy() for i, axis in enumerate("xyz")})


def truth() -> NDArray[np.uint16]:
    """What each pixel of the camera shows but for the pole: 1 ground, 2 the box, 0 the sky; uint16 (H, W)."""
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width]
    ray = np.stack([(u - 31.5) / 40, (v - 23.5) / 40, np.ones(u.shape)], -1) @ T_LIDAR_CAMERA[:3, :3].T
    eye = T_LIDAR_CAMERA[:3, 3]
    face = eye + ray * ((6 - eye[0]) / ray[..., :1])
    on_box = (np.abs(face[..., 1]) < 0.5) & (face[..., 2] > -1.8) & (face[..., 2] < -0.4)
    return np.where(on_box, 2, ray[..., 2] < 0).astype(np.uint16)


def near_pole(pixels: int = 4) -> NDArray[np.bool_]:
    """Pixels about where the pole is in the image, bool (H, W)."""
    optical = (POLE - T_LIDAR_CAMERA[:3, 3]) @ T_LIDAR_CAMERA[:3, :3]
    at = optical[:, :2] / optical[:, 2:] * 40 + (31.5, 23.5)
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width]
    inside = [
        (low - pixels <= axis) & (axis <= high + pixels)
        for axis, low, high in zip((u, v), at.min(0), at.max(0), strict=True)
    ]
    return np.asarray(inside[0] & inside[1])


def standing(path: Path, sweeps: Any = range(0, 600, 100), speed: float = 0.0, **extra: Any) -> Path:
    """A bag with odometry."""
    poses = [odometry(t, speed * t / 1000, child="base_link") for t in range(-200, 1300, 20)]
    more = [("/odom", pose, ros.stamp_ns(pose)) for pose in poses]
    return write_bag(path, sweeps, range(4, 1000, 50), sweep=thin, more=more, **extra)


def test_a_pole_of_few_points_is_found_with_those_of_before(tmp_path: Path) -> None:
    bag = standing(tmp_path / "bag")
    record([bag], tmp_path / "one", RecordOptions.from_mapping({"proposals.method": "euclidean"}))
    record([bag], tmp_path / "told", OPTIONS)
    alone, told = (list(FrameStore(tmp_path / name).frames()) for name in ("one", "told"))
    assert len(alone) == len(told) == 6
    for number, (one, two) in enumerate(zip(alone, told, strict=True)):
        np.testing.assert_array_equal(one.sweep.xyz, two.sweep.xyz)  # only its own points are stored
        assert not one.proposals[-4:].any()
        assert len(set(two.proposals[-4:])) == 1 and (two.proposals[-1] > 1) == (number >= 1)
        assert set(np.unique(two.views[0].regions)) <= {0, *np.unique(two.proposals)}
    assert check(tmp_path / "told", FrameCheckOptions(least_share=0.0)).problems == ()
    for one, two in zip(alone[2:], told[2:], strict=True):
        before, after = one.views[0].regions, two.views[0].regions
        pole, sent = two.proposals[-1], np.zeros(int(one.proposals.max()) + 1, np.uint16)
        sent[one.proposals] = two.proposals  # an object's new id
        own, added = before > 0, (before == 0) & (after > 0)
        assert np.all((after == sent[before])[own & ~near_pole()]), "what it paints itself stays"
        assert np.all((after == truth())[added] | (after == pole)[added])
        assert added.any() or one.stamp_ns // MS % 200 == 0, "what it does not see, it has from those before"
        assert not np.any((after == pole) & ~near_pole())
        assert np.any(after == pole)


def test_live_gives_the_same(tmp_path: Path) -> None:
    bag = standing(tmp_path / "bag", range(0, 1000, 100), speed=3.0)
    options = {"proposals.aggregate": 3, "every": 2}
    recorded = RecordOptions.from_mapping({**options, "threads": 3})
    record([bag], tmp_path / "frames", recorded)
    with Car(tmp_path / "live", drive="drive", **options) as car, BagReader(bag) as reader:
        sensors = sensors_from_bag(reader, recorded.topics)
        car.recorder = LiveRecorder(car.folder, sensors, car.options, car.memory, car.said.append)
        car.recorder.start()
        car.play(rows_of(bag))
    assert_same_frames(tmp_path / "live", tmp_path / "frames")
    assert len(FrameStore(tmp_path / "frames")) == 5


def test_without_odometry_it_is_told_alone_and_that_is_counted(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", range(0, 400, 100), range(4, 404, 100), sweep=thin)
    summary = record([bag], tmp_path / "told", OPTIONS)
    assert "not told with earlier sweeps (proposals.aggregate): no odometry (3 sweeps)" in summary.text
    assert not any(frame.proposals[-4:].any() for frame in FrameStore(tmp_path / "told").frames())


def test_a_broken_sweep_before_is_left_out(tmp_path: Path) -> None:
    def broken(stamp: int) -> Any:
        message = thin(stamp)
        if stamp == START_NS + 100 * MS:
            message.point_step = 0
        return message

    poses = [odometry(t, 0.0, child="base_link") for t in range(-200, 1300, 20)]
    more = [("/odom", pose, ros.stamp_ns(pose)) for pose in poses]
    bag = write_bag(tmp_path / "bag", range(0, 400, 100), range(4, 404, 50), sweep=broken, more=more)
    record([bag], tmp_path / "told", OPTIONS)
    frames = list(FrameStore(tmp_path / "told").frames())
    assert [(f.stamp_ns - START_NS) // MS for f in frames] == [0, 200, 300]
    assert [bool(f.proposals[-1]) for f in frames] == [False, True, True]
    dropped = read_json(tmp_path / "told" / "summary.json")["results"]["drives"]["bag"]["sensors"]["lidar"]["dropped"]
    assert sum(dropped.values()) == 1


STEP = st.tuples(
    st.sampled_from([0, 40, 100, 100, 100, 300, 1200, -100, -2500]), st.sampled_from(["image", "sweep", "alone"])
)


@settings(max_examples=40, deadline=None)
@given(st.lists(STEP, min_size=3, max_size=30), st.integers(1, 4))
def test_the_sweeps_before_are_those_of_the_last_second(steps: list[tuple[int, str]], most: int) -> None:
    """Whatever stamps do, and whose message comes first, if any of the camera's does.

    Of those that pairing did not drop at once, since the clock was set back last, the latest; and none is kept for
    longer than it may be asked for.
    """
    pairs, stamp, era = _pairs(RecordOptions.from_mapping({"proposals.aggregate": most})), START_NS, list[int]()
    expected: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}
    found: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}
    number, latest = 0, 0  # of the clock, and the newest stamp of it, whichever sensor's
    for step, first in [(0, "sweep"), *steps]:
        stamp += step * MS
        if stamp < latest - 1000 * MS and (first == "image" or stamp < era[-1] - 1000 * MS):
            number, latest, era = number + 1, 0, []
        latest = max(latest, stamp)
        if not era or stamp > era[-1]:
            expected[number, stamp] = tuple((number, s) for s in era if s >= stamp - 1000 * MS)[-most:]
            era.append(stamp)
        for sensor in {"image": ("camera", LIDAR), "sweep": (LIDAR, "camera"), "alone": (LIDAR,)}[first]:
            for event in pairs.push(sensor, stamp, (number, stamp)):
                found[event.sweep] = event.before
        waiting = sum(1 for _ in pairs.pairing.held)
        assert sum(1 for _ in pairs.held) <= waiting + most + 1
        assert len(pairs._before) <= waiting + most + 1
    for event in pairs.flush():
        found[event.sweep] = event.before
    assert all(found[at] == expected[at] for at in found)
    assert found or all(first == "alone" for _, first in steps)


def test_sweeps_before_are_let_go_where_nothing_else_can_be(tmp_path: Path) -> None:
    """Those that wait for a camera count as those that are kept for others do; what is let go is no more told with."""
    pairs = _pairs(RecordOptions.from_mapping({"proposals.aggregate": 3}))
    for number in range(5):
        stamp = START_NS + number * 100 * MS
        for sensor in ("camera", LIDAR):
            list(pairs.push(sensor, stamp, (sensor, number)))
    sweeps = [number for sensor, number in pairs.held if sensor == LIDAR]
    assert sweeps[0] <= 2 and sweeps[-1] == 4 and len(sweeps) == len(set(sweeps))
    assert pairs.forget()
    while pairs.forget():
        pass
    assert not [number for sensor, number in pairs.held if sensor == LIDAR]
    assert not list(pairs.push(LIDAR, START_NS + 350 * MS, (LIDAR, -1)))  # it runs backwards, also with none kept
    later = START_NS + 500 * MS
    (done,) = (e for sensor in ("camera", LIDAR) for e in pairs.push(sensor, later, (sensor, 5)))
    assert done.before == () and pairs.shortened == 1
    later += 1200 * MS
    (done,) = (e for sensor in ("camera", LIDAR) for e in pairs.push(sensor, later, (sensor, 6)))
    assert done.before == () and pairs.shortened == 1, "none was forgotten of the last second"


def test_what_several_waiting_frames_share_takes_its_memory_once() -> None:
    memory = Memory(1000)
    sweeps = [LiveMessage("cloud", bytes(100), (stamp, ""), memory) for stamp in range(4)]
    image = LiveMessage("image", bytes(7), (2, ""), memory)
    pairs = {"camera": Paired("camera", image, 2, 0, False)}
    events = [SweepDone(sweeps[n], n, pairs, tuple(sweeps[n - 2 : n])) for n in (2, 3)]
    assert _size(_messages(events[:1])) == 307 and _size(_messages(events)) == 407


@pytest.mark.parametrize("aggregate", [0, 2])
def test_a_camera_that_begins_late_starves_nothing(tmp_path: Path, aggregate: int) -> None:
    """Its first image comes after 4 s; half of that time's sweeps would fill the memory."""
    bag = write_bag(tmp_path / "bag", range(0, 6000, 100), range(4004, 6100, 100), sweep=thin)
    with Car(tmp_path / "live", drive="drive", **{"proposals.aggregate": aggregate}) as car:
        car.recorder.start()
        rows = [row for row in rows_of(bag) if row[0] in (LIDAR_TOPIC, IMAGE_TOPIC)]
        car.memory.limit = 20 * len(rows[0][3])
        for row in rows:
            car.play([row])  # which there must be room for
            until(lambda: car.recorder.settle() or car.recorder._look().waiting == 0)
    drive = read_json(tmp_path / "live" / "summary.json")["results"]["drives"]["drive"]
    assert drive["frames"] == 20 and drive["sensors"]["camera"]["paired"] == 20
    told = {note.partition(" (")[0]: note.rpartition("(")[2] for note in drive["notes"]}
    assert told.get("a sweep was told with fewer earlier ones", "1 time)") in ("1 time)", "2 times)")


def _pairs(options: RecordOptions) -> ChosenPairs:
    sensors = Sensors(LIDAR_TOPIC, (CameraTopic("camera", IMAGE_TOPIC, CAMERA),), tree(), ())
    return ChosenPairs(sensors, options, FrameRecorder(lambda event: None, Ledger(), 1))  # type: ignore[arg-type, return-value]
