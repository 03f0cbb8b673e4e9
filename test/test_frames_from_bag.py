"""`dseg record` on tiny bags whose every message is known, and on the real drives."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import bags
import numpy as np
import pytest
from bags import CAMERA, MS, START_NS, write_bag

from dseg_core import messages as ros
from dseg_core.errors import DsegError
from dseg_core.frames_from_bag import record
from dseg_core.image_codecs import decode
from dseg_core.records import REGION_FIRST_OBJECT, REGION_GROUND, ViewKey
from dseg_core.stage_options import PairingOptions, RecordOptions, StoreOptions, TopicOptions
from dseg_core.store import FrameStore
from dseg_core.topic_names import info_topic
from dseg_core.transforms import matrix_from_pose


def drives(out: Path) -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text())["results"]["drives"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_known_pixels_points_and_counts(tmp_path: Path, storage: str) -> None:
    bag = write_bag(tmp_path / "drive", images=(4, 37, 70, 104, 204), storage=storage)
    record([bag], tmp_path / "frames", RecordOptions(store=StoreOptions(image_format="png")))
    store = FrameStore(tmp_path / "frames")
    assert store.frame_keys == tuple(("drive", START_NS + t * MS) for t in (0, 100, 200))
    frame = store.frame("drive", START_NS + 100 * MS)
    np.testing.assert_array_equal(decode(frame.views[0].image), bags.picture(3))
    finite = np.isfinite(bags.scene()).all(axis=1)
    np.testing.assert_array_equal(frame.sweep.xyz, bags.scene()[finite])
    np.testing.assert_array_equal(frame.sweep.ring, bags.rings()[finite])
    row = drives(tmp_path / "frames")["drive"]
    assert row["sensors"] == {
        "lidar": {"messages": 3, "paired": 3, "surplus": 0, "dropped": {}},
        "camera": {"messages": 5, "paired": 3, "surplus": 2, "dropped": {}},
    }
    assert row["offsets_ms"]["camera"]["median"] == 4.0


def test_the_box_becomes_a_region_on_the_ground(tmp_path: Path) -> None:
    record([write_bag(tmp_path / "drive")], tmp_path / "frames", RecordOptions())
    view = FrameStore(tmp_path / "frames").view(ViewKey("drive", START_NS, "camera"))
    # The box: 6 m ahead of the LiDAR, 1 m wide, from -0.4 m down to the ground.
    corners = np.array([[6.0, y, z] for y in (-0.5, 0.5) for z in (-0.4, -1.8)])
    in_camera = np.c_[corners, np.ones(4)] @ np.linalg.inv(bags.T_LIDAR_CAMERA).T
    uv, visible = CAMERA.project(in_camera[:, :3])
    assert visible.all()
    (left, top), (right, bottom) = uv.min(axis=0), uv.max(axis=0)
    expected = np.zeros(view.regions.shape, dtype=bool)
    expected[round(top) : round(bottom) + 1, round(left) : round(right) + 1] = True
    objects = view.regions >= REGION_FIRST_OBJECT
    assert (objects & expected).sum() / (objects | expected).sum() > 0.6
    assert (view.regions[-5:] == REGION_GROUND).mean() > 0.8
    assert not view.regions[:5].any()


def test_compressed_images_pass_through_untouched(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "drive", image=bags.compressed)
    record([bag], tmp_path / "frames", RecordOptions())
    view = FrameStore(tmp_path / "frames").view(ViewKey("drive", START_NS, "camera"))
    assert view.image.data == bytes(bags.compressed(START_NS + 4 * MS, 0).data)


def test_a_calibration_that_was_edited_is_another_one(tmp_path: Path) -> None:
    """The path is the same; frames made with the old content must not count as made with the new one."""
    bag, out, file = write_bag(tmp_path / "drive"), tmp_path / "frames", tmp_path / "mounting.yaml"
    row = "transforms: [{parent: other, child: more, translation: [%s, 0, 0], quaternion: [0, 0, 0, 1]}]\n"
    file.write_text(row % 1)
    options = RecordOptions(topics=TopicOptions(calibration=file))
    record([bag], out, options)
    assert "kept" in record([bag], out, options).text
    file.write_text(row % 2)
    with pytest.raises(DsegError, match=r"recorded with another content of .*mounting\.yaml\. Give --out another"):
        record([bag], out, options)
    file.write_text(row % 1)
    assert "kept" in record([bag], out, options).text


def test_an_option_that_a_folder_does_not_know_yet_has_its_default(tmp_path: Path) -> None:
    bag, out = write_bag(tmp_path / "drive"), tmp_path / "frames"
    record([bag], out, RecordOptions())
    mark = out / "record.yaml"
    old = "".join(line for line in mark.read_text().splitlines(keepends=True) if "other_lidars" not in line)
    mark.write_text(old)
    assert "kept" in record([bag], out, RecordOptions()).text


def test_a_second_run_keeps_and_other_options_are_refused(tmp_path: Path) -> None:
    bag, out = write_bag(tmp_path / "drive"), tmp_path / "frames"
    record([bag], out, RecordOptions())
    before = (out / "drive_0.mcap").stat().st_mtime_ns
    assert "kept" in record([bag], out, RecordOptions()).text
    assert (out / "drive_0.mcap").stat().st_mtime_ns == before
    with pytest.raises(DsegError, match=r"recorded with other options: every = 2, not 1\. Give"):
        record([bag], out, RecordOptions(every=2))
    record([bag, write_bag(tmp_path / "second")], out, RecordOptions())
    assert FrameStore(out).drives == ("drive", "second")


def test_options_of_a_run_that_failed_do_not_stick(tmp_path: Path) -> None:
    bag, out = write_bag(tmp_path / "drive"), tmp_path / "frames"
    with pytest.raises(DsegError, match="no cloud topic /nope"):
        record([bag], out, RecordOptions(topics=TopicOptions(lidar="/nope")))
    record([bag], out, RecordOptions())
    assert len(FrameStore(out)) == 3


def test_options_of_a_crash_before_the_first_frame_do_not_stick(tmp_path: Path) -> None:
    """What was killed left a part, but no frame in it; one with frames is of its options."""
    bag, out = write_bag(tmp_path / "drive"), tmp_path / "frames"
    record([bag], out, RecordOptions())
    data = (out / "drive_0.mcap").read_bytes()
    for left in ("drive_0.mcap", "summary.json"):
        (out / left).unlink()
    (out / "drive_0.mcap.tmp").write_bytes(data[: len(data) // 2])
    with pytest.raises(DsegError, match="recorded with other options"):
        record([bag], out, RecordOptions(every=2))
    (out / "drive_0.mcap.tmp").write_bytes(data[:40])
    record([bag], out, RecordOptions(every=2))
    assert len(FrameStore(out)) == 2


def test_a_cut_off_drive_is_finished(tmp_path: Path) -> None:
    times = tuple(range(0, 1000, 100))
    bag, out, whole = write_bag(tmp_path / "drive", times, times), tmp_path / "frames", tmp_path / "whole"
    record([bag], whole, RecordOptions())
    record([bag], out, RecordOptions())
    data = (out / "drive_0.mcap").read_bytes()
    (out / "drive_0.mcap").unlink()
    (out / "summary.json").unlink()
    (out / "drive_0.mcap.tmp").write_bytes(data[: int(len(data) * 0.6)])
    record([bag], out, RecordOptions())
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in whole.iterdir())
    ours, theirs = FrameStore(out), FrameStore(whole)
    assert ours.frame_keys == theirs.frame_keys
    for key in ours.view_keys:
        np.testing.assert_array_equal(ours.view(key).regions, theirs.view(key).regions)
    assert drives(out)["drive"]["sensors"] == drives(whole)["drive"]["sensors"]


def test_every_and_max_frames_are_accounted_for(tmp_path: Path) -> None:
    times = tuple(range(0, 1000, 100))
    bag = write_bag(tmp_path / "drive", times, times)
    record([bag], tmp_path / "every", RecordOptions(every=3))
    sensors = drives(tmp_path / "every")["drive"]["sensors"]
    assert sensors["lidar"] == {"messages": 10, "paired": 4, "surplus": 0, "dropped": {"not chosen by --every": 6}}
    assert sensors["camera"]["dropped"] == {"not chosen by --every": 6}
    record([bag], tmp_path / "few", RecordOptions(max_frames=2))
    row = drives(tmp_path / "few")["drive"]
    assert row["frames"] == 2 and row["sensors"]["lidar"]["dropped"] == {"after --max-frames": 8}


def test_motion_moves_the_points_to_the_images_time(tmp_path: Path) -> None:
    """At 20 m/s an image 40 ms late sees the box 0.8 m nearer."""
    odometry = []
    for t in range(-20, 400, 20):
        T = matrix_from_pose((0.02 * t, 0, 0), (0, 0, 0, 1))
        stamp = START_NS + t * MS
        odometry.append(("/tf", ros.transforms_to_message([(stamp, "odom", "base_link", T)]), stamp))
    still = write_bag(tmp_path / "still", images=(40, 140, 240))
    moving = write_bag(tmp_path / "moving", images=(40, 140, 240), more=odometry)
    record([still, moving], tmp_path / "frames", RecordOptions())
    rows = drives(tmp_path / "frames")
    assert rows["still"]["motion"] == {"compensated": 0, "not_compensated": {"no odometry": 3}}
    assert rows["moving"]["motion"] == {"compensated": 3, "not_compensated": {}}
    store = FrameStore(tmp_path / "frames")
    at = {drive: store.view(ViewKey(drive, START_NS, "camera")) for drive in ("still", "moving")}
    assert at["still"].T_image_sweep[2, 3] - at["moving"].T_image_sweep[2, 3] == pytest.approx(0.8)
    width = {d: int((v.regions >= REGION_FIRST_OBJECT).any(axis=0).sum()) for d, v in at.items()}
    assert width["moving"] > width["still"]


def unreadable(stamp: int, seed: int) -> Any:
    message = ros.image_to_message(stamp, "camera_optical", bags.picture(seed))
    message.encoding = "32FC1"
    return message


def test_unusable_messages_are_dropped_with_a_reason(tmp_path: Path) -> None:
    def some(stamp: int, seed: int) -> Any:
        return (
            unreadable(stamp, seed) if seed == 1 else ros.image_to_message(stamp, "camera_optical", bags.picture(seed))
        )

    empty = ros.cloud_to_message(START_NS + 300 * MS, "lidar", {a: np.zeros(0, np.float32) for a in "xyz"})
    more = [("/lidar/points", empty, START_NS + 300 * MS), ("/lidar/points", bags.cloud(0), START_NS + 310 * MS)]
    record(
        [write_bag(tmp_path / "drive", images=(4, 104, 204, 304), image=some, more=more)],
        tmp_path / "frames",
        RecordOptions(),
    )
    sensors = drives(tmp_path / "frames")["drive"]["sensors"]
    assert sensors["lidar"] == {
        "messages": 5, "paired": 2, "surplus": 0,
        "dropped": {"no usable image": 1, "cloud without points": 1, "header stamp is zero": 1},
    }  # fmt: skip
    assert sensors["camera"]["dropped"] == {"encoding '32FC1' cannot be read": 1, "no usable sweep": 1}


def test_topics_and_calibration_can_be_given(tmp_path: Path) -> None:
    more = [("/rear/points", bags.cloud(START_NS), START_NS)]
    bag = write_bag(tmp_path / "drive", leave_out=["/tf_static"], more=more)
    calibration = tmp_path / "calibration.yaml"
    calibration.write_text(
        "transforms:\n- {parent: lidar, child: camera_optical, translation: [0.1, 0, -0.2],"
        " quaternion: [-0.5, 0.5, -0.5, 0.5]}\n"
    )
    topics = TopicOptions(lidar="/lidar/points", cameras=("/camera/image_raw",), calibration=calibration)
    record([bag], tmp_path / "frames", RecordOptions(topics=topics))
    view = FrameStore(tmp_path / "frames").view(ViewKey("drive", START_NS, "camera"))
    np.testing.assert_allclose(np.linalg.inv(view.T_image_sweep), bags.T_LIDAR_CAMERA, atol=1e-9)


def test_kitti(tmp_path: Path, kitti_bag: Path) -> None:
    record([kitti_bag], tmp_path / "frames", RecordOptions(max_frames=4))
    store = FrameStore(tmp_path / "frames")
    assert len(store) == 4 and store.cameras == ("camera_front",)
    assert drives(tmp_path / "frames")["kitti_city"]["offsets_ms"]["camera_front"]["median"] == pytest.approx(
        4, abs=0.01
    )
    for key in store.view_keys:
        regions = store.view(key).regions
        assert (regions == REGION_GROUND).mean() > 0.1
        assert len(np.unique(regions)) > 8


def test_nuscenes_gives_one_frame_with_six_cameras(tmp_path: Path, nuscenes_bag: Path) -> None:
    record([nuscenes_bag], tmp_path / "frames", RecordOptions())
    store = FrameStore(tmp_path / "frames")
    (key,) = store.frame_keys
    assert len(store.frame(*key).views) == 6


def test_crossing_reference_measures_from_the_beam(tmp_path: Path) -> None:
    """Times run over the turn from 180 deg down: the beam crosses the camera's axis (0 deg) at half the turn."""
    times = np.tile(np.linspace(0, 100e6, 360, endpoint=False), 32).astype(np.uint32)
    bag = write_bag(tmp_path / "drive", images=(4, 54, 104, 154, 204, 254), sweep=lambda s: bags.cloud(s, t=times))
    options = RecordOptions(pairing=PairingOptions(tolerance=0.01, reference="crossing"))
    record([bag], tmp_path / "frames", options)
    offsets = drives(tmp_path / "frames")["drive"]["offsets_ms"]["camera"]
    assert offsets["count"] == 3 and offsets["median"] == pytest.approx(4, abs=1)


BENT = replace(CAMERA, D=np.array([-0.3, 0.1, 0, 0, 0]), rectified=False)


@pytest.mark.parametrize(
    ("topic", "rectified"),
    [
        ("/camera/image_raw", False),
        ("/camera/image_rect", True),
        ("/camera/image_rect_color", True),
        ("/front_direct/image_raw", False),
        ("/camera/rect/image", True),
        ("/image_raw", False),
    ],
)
def test_images_of_a_rectifying_node_follow_p_and_all_others_d(tmp_path: Path, topic: str, rectified: bool) -> None:
    """The camera_info beside both is the same."""
    rows = []
    for t in (4, 104, 204):
        stamp = START_NS + t * MS
        rows.append((topic, ros.image_to_message(stamp, "camera_optical", bags.picture(t)), stamp))
        rows.append((info_topic(topic), ros.camera_to_message(stamp, BENT), stamp))
    bag = write_bag(tmp_path / "drive", images=(), more=rows)
    record([bag], tmp_path / "frames", RecordOptions())
    view = FrameStore(tmp_path / "frames").frame("drive", START_NS).views[0]
    assert view.calibration.rectified == rectified and view.calibration.distorted != rectified


def test_no_camera_is_called_as_the_lidar_or_another_one(tmp_path: Path) -> None:
    rows = []
    for name in ("/lidar", "/a/b", "/a_b"):
        for t in (4, 104, 204):
            stamp = START_NS + t * MS
            rows.append((f"{name}/image_raw", ros.image_to_message(stamp, "camera_optical", bags.picture(t)), stamp))
            rows.append((f"{name}/camera_info", ros.camera_to_message(stamp, CAMERA), stamp))
    bag = write_bag(tmp_path / "drive", images=(), more=rows)
    for out, topics in (
        ("found", TopicOptions()),
        ("given", TopicOptions(cameras=("/lidar/image_raw", "/a/b/image_raw", "/a_b/image_raw"))),
    ):
        record([bag], tmp_path / out, RecordOptions(topics=topics))
        row = drives(tmp_path / out)["drive"]
        assert row["cameras"] == {
            "a_b": "/a/b/image_raw", "a_b_2": "/a_b/image_raw", "lidar_camera": "/lidar/image_raw",
        }  # fmt: skip
        assert all(sensor["paired"] == 3 for sensor in row["sensors"].values()) and len(row["sensors"]) == 4


def test_a_bag_that_announces_other_counts_is_counted(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "drive")
    metadata = bag / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("message_count: 3\n", "message_count: 4\n"))
    record([bag], tmp_path / "frames", RecordOptions())
    assert drives(tmp_path / "frames")["drive"]["sensors"]["camera"]["messages"] == 3


def test_a_transform_that_is_none_costs_only_itself(tmp_path: Path) -> None:
    """A node that has not begun to work publishes zeros; NaN is no place."""
    rows = []
    for number, value in enumerate((0.0, np.nan)):
        made = ros.transforms_to_message([(START_NS, "base_link", "arm", np.eye(4))])
        made.transforms[0].transform.rotation.w = 0.0
        if number:
            made = ros.transforms_to_message([(START_NS, "base_link", "arm", np.eye(4))])
            made.transforms[0].transform.translation.x = value
        rows.append(("/tf", made, START_NS))
    summary = record([write_bag(tmp_path / "drive", more=rows)], tmp_path / "frames", RecordOptions())
    assert "/tf: base_link -> arm: 2 transforms left out: the quaternion" in summary.text
    loop = [("/tf", ros.transforms_to_message([(START_NS, "lidar", "base_link", np.eye(4))]), START_NS)]
    with pytest.raises(DsegError, match=r"loop: /tf: the transform lidar -> base_link would make a loop"):
        record([write_bag(tmp_path / "loop", more=loop)], tmp_path / "frames", RecordOptions())


def test_a_bag_given_twice_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = write_bag(tmp_path / "drive")
    monkeypatch.chdir(tmp_path)
    for again in (bag, Path("drive"), tmp_path / "." / "elsewhere" / ".." / "drive"):
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        with pytest.raises(DsegError, match=r"drive: is given twice\. Give it once"):
            record([bag, again], tmp_path / "frames", RecordOptions())


def test_what_the_choice_of_sweeps_needs_is_told_of_the_bag(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "drive")
    with pytest.raises(DsegError, match=rf"^{bag}: --min-distance and --min-speed need the vehicle's motion"):
        record([bag], tmp_path / "frames", RecordOptions(min_distance=5))


@pytest.mark.parametrize("out", ["made/../frames", "made/deeper/../frames", "made/frames"])
def test_a_recording_that_fails_leaves_no_folder_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    bag = write_bag(tmp_path / "bags" / "drive", images=())
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(DsegError):
        record([bag], Path(out), RecordOptions())
    assert [path.name for path in tmp_path.iterdir() if path.name != "bags"] == ["work"]
    assert not list((tmp_path / "work").iterdir())


def test_finished_frames_may_lie_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is finished is told as ever; what is not is refused before it is begun."""
    bags_given = [write_bag(tmp_path / name) for name in ("one", "two")]
    record(bags_given[:1], tmp_path / "frames", RecordOptions())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "frames").iterdir() if path.name != ".lock"}

    def refused(folder: Path, *_: Any) -> None:
        raise DsegError("Read-only file system", where=folder)

    monkeypatch.setattr("dseg_core.progress.write_whole", refused)
    monkeypatch.setattr("dseg_core.frames_from_bag.check_writable", refused)
    assert "1 drive recorded before and kept" in record(bags_given[:1], tmp_path / "frames", RecordOptions()).text
    with pytest.raises(DsegError, match="frames: Read-only file system"):
        record(bags_given, tmp_path / "frames", RecordOptions())
    assert before == {path: path.stat().st_mtime_ns for path in before}
