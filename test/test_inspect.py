"""What `dseg inspect` says against what `dseg record` then does, and bags that cannot be recorded."""

from __future__ import annotations

import errno
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bags
import numpy as np
import pytest
import videos
from bag_kinds import humble_db3

from dseg_core import messages as ros
from dseg_core.bag import BagWriter
from dseg_core.cameras import Camera
from dseg_core.cli import main
from dseg_core.errors import DsegError
from dseg_core.frames_from_bag import record
from dseg_core.inspection.inspect import inspect
from dseg_core.inspection.report import histogram
from dseg_core.options import Options
from dseg_core.stage_options import InspectOptions, RecordOptions

# Of a recording, what only frames that are made tell.
OF_FRAMES = {"seconds", "ground", "objects", "distance_m", "seen", "unseen"}
ALONG_AT_ONCE = ("workers", "threads", "ray_address", "view")


def inspected(bag: Path, **options: Any) -> Any:
    return inspect(bag, InspectOptions.from_mapping({"out": str(bag.parent), **options}))


def mixed_bag(path: Path) -> Path:
    """Surplus images, one too far, duplicates, stamps that run backwards or are zero, one of another encoding.

    And a second LiDAR, one of whose sweeps is broken.
    """

    def image(stamp: int, seed: int) -> Any:
        made = ros.image_to_message(stamp if seed != 5 else 0, "camera_optical", bags.picture(seed))
        if seed == 6:
            made.encoding = "32FC1"
        return made

    def sweep(stamp: int) -> Any:
        empty = stamp == bags.START_NS + 300 * bags.MS
        return bags.cloud(stamp) if not empty else ros.cloud_to_message(stamp, "lidar", {"x": np.zeros(0, np.float32)})

    def rear(stamp: int) -> Any:
        cloud = ros.cloud_to_message(stamp, "rear", {axis: np.arange(9, dtype=np.float32) for axis in "xyz"})
        cloud.point_step = 0 if stamp == bags.START_NS + 430 * bags.MS else cloud.point_step
        return cloud

    images = (4, 37, 104, 104, 204, 250, 297, 330, 404, 480, 504, 1600)
    mounted = ros.transforms_to_message([(bags.START_NS, "lidar", "rear", np.eye(4))])
    more = [("/tf_static", mounted, bags.START_NS)]
    more += [
        ("/rear/points", rear(bags.START_NS + t * bags.MS), bags.START_NS + t * bags.MS) for t in range(30, 900, 100)
    ]
    return bags.write_bag(path, tuple(range(0, 1000, 100)), images, image=image, sweep=sweep, more=more)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"every": 2},
        {"pairing": {"tolerance": 0.01}},
        {"windows": ["0.1:0.45"]},
        {"pairing": {"offsets": ["camera:0.03"]}},
        {"proposals": {"aggregate": 2}},
        {"topics": {"lidar": "/lidar/points", "other_lidars": ["/rear/points"]}},
    ],
)
def test_the_account_is_the_one_that_record_then_gives(options: dict[str, Any], tmp_path: Path) -> None:
    bag = mixed_bag(tmp_path / "mixed")
    options = {"topics": {"lidar": "/lidar/points"}, **options}
    told = inspected(bag, **options).results["account"]
    done = record([bag], tmp_path / "frames", RecordOptions.from_mapping(options)).results["drives"]["mixed"]
    for name in done.keys() - OF_FRAMES:
        assert told[name] == done[name], name


@pytest.mark.parametrize("kind", [videos.FOXGLOVE, videos.FFMPEG])
@pytest.mark.parametrize("first", [0, 1])
def test_the_account_of_a_video_is_the_one_that_record_then_gives(first: int, kind: str, tmp_path: Path) -> None:
    """Also when its first packets are lost, so that pictures cannot be had until the next key frame."""
    video = videos.video("h264", 0)
    with BagWriter(tmp_path / "film") as writer:
        writer.write("/tf_static", bags.transforms(), bags.START_NS)
        writer.write("/camera/camera_info", ros.camera_to_message(bags.START_NS, bags.CAMERA), bags.START_NS)
        for number in range(first, len(video.packets)):
            stamp = video.stamp(number)
            writer.write("/camera/image_raw/video", video.message(number, kind), stamp)
            if number % 3 == 0:
                writer.write("/lidar/points", bags.cloud(stamp), stamp)
    told = inspected(tmp_path / "film")
    try:
        done = record([tmp_path / "film"], tmp_path / "frames", RecordOptions()).results["drives"]["film"]
    except DsegError:
        assert first and told.problems and not told.results["account"]["frames"]
    else:
        account = told.results["account"]
        assert {k: v for k, v in account.items() if k not in OF_FRAMES} == {
            k: v for k, v in done.items() if k not in OF_FRAMES
        }


def test_the_account_of_a_real_drive(kitti_bag: Path, tmp_path: Path) -> None:
    found = inspect(kitti_bag, InspectOptions.from_mapping({"out": str(tmp_path), "check": {"frames": 0}})).results
    done = record([kitti_bag], tmp_path / "frames", RecordOptions()).results["drives"]["kitti_city"]
    assert {k: v for k, v in found["account"].items() if k not in OF_FRAMES} == {
        k: v for k, v in done.items() if k not in OF_FRAMES
    }
    size = (tmp_path / "frames" / "kitti_city_0.mcap").stat().st_size
    assert found["disk"]["bytes"] == pytest.approx(size, rel=0.1)
    assert found["lidar"]["rows"] == 64 and found["lidar"]["returns"] == 1


def test_every_option_of_record_that_changes_frames_is_known() -> None:
    def paths(options: type[Options]) -> dict[str, Any]:
        return {field.path: field.default for field in options.fields()}

    known = paths(InspectOptions)
    wanted = {name: value for name, value in paths(RecordOptions).items() if name not in ALONG_AT_ONCE}
    assert {name: known.get(name, "missing") for name in wanted} == wanted


def without_lidar(path: Path) -> Path:
    return bags.write_bag(path, leave_out=["/lidar/points"])


def without_info(path: Path) -> Path:
    return bags.write_bag(path, leave_out=["/camera/camera_info"])


def without_tf(path: Path) -> Path:
    return bags.write_bag(path, leave_out=["/tf_static"])


def looking_up(path: Path) -> Path:
    T = bags.T_LIDAR_CAMERA.copy()
    T[:3, :3] = np.eye(3)  # the optical axis is the LiDAR's upright one, where it has no beams
    turned = ros.transforms_to_message([(bags.START_NS, "lidar", "camera_optical", T)])
    return bags.write_bag(path, more=[("/tf_static", turned, bags.START_NS + 1)])


def two_lidars(path: Path) -> Path:
    more = [("/other/points", bags.cloud(bags.START_NS), bags.START_NS)]
    return bags.write_bag(path, more=more)


def other_camera(path: Path, info: Callable[[], Any]) -> Path:
    """Instead of the usual camera one with this camera_info."""
    more = []
    for t in (4, 104, 204):
        stamp = bags.START_NS + t * bags.MS
        picture = ros.image_to_message(stamp, "camera_optical", bags.picture(t))
        more += [("/bad/image_raw", picture, stamp), ("/bad/camera_info", info(), stamp)]
    return bags.write_bag(path, leave_out=["/camera/image_raw", "/camera/camera_info"], more=more)


def uncalibrated(path: Path) -> Path:
    def info() -> Any:
        made = ros.camera_to_message(bags.START_NS, bags.CAMERA)
        made.k, made.p = np.zeros(9), np.zeros(12)
        return made

    return other_camera(path, info)


def other_size(path: Path) -> Path:
    cropped = Camera.pinhole("camera_optical", 64, 20, 40.0, 40.0, 31.5, 9.5)
    return other_camera(path, lambda: ros.camera_to_message(bags.START_NS, cropped))


def shifted(seconds: float) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        late = round(seconds * 1e9)
        return bags.write_bag(
            path, image=lambda stamp, seed: ros.image_to_message(stamp + late, "camera_optical", bags.picture(seed))
        )

    return write


def strange_encoding(path: Path) -> Path:
    def image(stamp: int, seed: int) -> Any:
        made = ros.image_to_message(stamp, "camera_optical", bags.picture(seed))
        made.encoding = "32FC1"
        return made

    return bags.write_bag(path, image=image)


def zero_stamps(path: Path) -> Path:
    return bags.write_bag(path, image=lambda _, seed: ros.image_to_message(0, "camera_optical", bags.picture(seed)))


def zero_sweeps(path: Path) -> Path:
    return bags.write_bag(path, sweep=lambda _: bags.cloud(0))


def far_apart(path: Path) -> Path:
    return bags.write_bag(path, sweeps=(0, 1000, 2000, 3000), images=(300, 1300, 2300, 3300))


def lidar_and_camera_missing(path: Path) -> Path:
    return bags.write_bag(path, leave_out=["/lidar/points", "/camera/camera_info"])


def two_lidars_no_tf_zero_stamps(path: Path) -> Path:
    more = [("/other/points", bags.cloud(bags.START_NS), bags.START_NS)]
    return bags.write_bag(path, leave_out=["/tf_static"], more=more, image=lambda _, seed: ros.image_to_message(
        0, "camera_optical", bags.picture(seed)))  # fmt: skip


BROKEN: list[tuple[Callable[[Path], Path], list[tuple[str, str]]]] = [
    (without_lidar, [("no PointCloud2 topic", "as PointCloud2, Livox CustomMsg or VelodyneScan")]),
    (two_lidars, [("several PointCloud2 topics: /lidar/points, /other/points", "--topics.lidar")]),
    (without_info, [("there is no /camera/camera_info", "camera_info")]),
    (uncalibrated, [("is not calibrated", "Calibrate it")]),
    (without_tf, [("no transform connects lidar and camera_optical", "Record /tf")]),
    (other_size, [("64x48, but camera_info of 64x20", "camera_info of these images")]),
    (strange_encoding, [("encoding '32FC1'", "Record")]),
    (zero_stamps, [("camera (/camera/image_raw): 3 of 3 messages cannot be used: header stamp is zero", "stamp")]),
    (zero_sweeps, [("lidar (/lidar/points): 3 of 3 messages cannot be used: header stamp is zero", "header.stamp")]),
    (shifted(37.0), [("stamps are 37.000 s later", "Synchronise the clocks")]),
    (shifted(-1.6e9), [("1600000000 s (18518.5 days) earlier", "Synchronise the clocks")]),
    (far_apart, [("300 ms (median) from their sweep, allowed are 50", "--pairing.offsets camera:0.300")]),
    (looking_up, [("no point of the sweeps lies in an image of camera", "/tf_static")]),
    (lidar_and_camera_missing, [("no PointCloud2", "LiDAR"), ("there is no /camera/camera_info", "camera_info")]),
    (
        two_lidars_no_tf_zero_stamps,
        [
            ("several PointCloud2", "--topics.lidar"),
            ("no transform connects lidar and camera_optical", "Record /tf"),
            ("header stamp is zero", "header.stamp"),
        ],
    ),
]  # fmt: skip


def test_without_a_place_for_the_picture_the_report_is_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a folder of bags on a disk that is only read."""
    bag = bags.write_bag(tmp_path / "bag", range(0, 1000, 100), range(4, 1100, 50))

    def refuse(path: Path, _: bytes) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("dseg_core.inspection.inspect.write_whole", refuse)
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", str(bag), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["account"]["frames"] == 10 and found["picture"] is None
    assert "no picture: inspect-bag.png: Permission denied. Name another folder with --out" in found["warnings"]
    (tmp_path / "file").touch()
    assert main(["inspect", str(bag), "--out", "file/x"]) == 1, "a place that was asked for is looked at first"
    assert capsys.readouterr().err == "dseg inspect: file: is a file where a folder is needed. Give another place\n"


def test_one_thing_is_told_in_the_singular(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bag of one sweep, one image and one garbled cloud: what all commands tell of it."""
    lost = [("/lidar/points", bags.cloud(0), bags.START_NS + 50 * bags.MS)]
    bag, frames = bags.write_bag(tmp_path / "bag", [0], [4], more=lost), tmp_path / "frames"
    for arguments in (["inspect", bag, "--out", tmp_path], ["record", bag, "--out", frames], ["check", frames]):
        assert main([str(argument) for argument in arguments]) == 0
        shown = capsys.readouterr().out
        assert re.search(r"\b1 (message|frame|view)\b", shown)
        assert not re.findall(
            r"(?<![\d.,:-])1 (?:messages|frames|views|sweeps|images|drives|cameras|problems)\b", shown
        )


@pytest.mark.parametrize(("write", "expected"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_every_reason_why_record_cannot_work_is_told_with_its_fix(
    write: Callable[[Path], Path], expected: list[tuple[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write(tmp_path / "bag")
    assert main(["inspect", str(bag), "--json", "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    problems = json.loads(shown.out)["problems"]
    assert len(problems) == len(expected), problems
    for (what, fix), problem in zip(expected, problems, strict=True):
        assert what in problem["what"] and fix in problem["fix"], problem
        assert f"dseg inspect: {problem['what']}" in shown.err
    assert main(["inspect", str(bag), "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert f"RECORD CANNOT WORK, for {len(expected)} reason(s):" in shown.out
    assert len(shown.err.split("dseg inspect: ")) == len(expected) + 1
    # A missing overlap makes empty frames; everything else stops record itself.
    if write is not looking_up:
        assert main(["record", str(bag), "--out", str(tmp_path / "frames")]) == 1


@pytest.mark.parametrize("given", ["-0.1", "0.2"])
def test_the_offset_that_it_proposes_is_the_one_to_give(given: str, tmp_path: Path) -> None:
    """In the place of one that was given, not on top of it."""
    bag = far_apart(tmp_path / "bag")
    (problem,) = inspected(bag, pairing={"offsets": [f"camera:{given}"]}).results["problems"]
    assert problem["fix"].startswith("Give --pairing.offsets camera:0.300 ")
    assert not inspected(bag, pairing={"offsets": ["camera:0.300"]}).problems


def test_clocks_that_an_offset_brings_together_are_not_apart(tmp_path: Path) -> None:
    found = inspected(shifted(37.0)(tmp_path / "bag"), pairing={"offsets": ["camera:37"]})
    assert found.results["account"]["frames"] == 3
    assert not [warning for warning in found.results["warnings"] if "two clocks" in warning]


def test_a_bag_that_can_be_recorded_costs_no_error_and_80_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = bags.write_bag(tmp_path / "bag", sweeps=range(0, 1000, 100), images=range(4, 1000, 50))
    assert main(["inspect", str(bag), "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines if str(tmp_path) not in line), max(lines, key=len)
    text = "\n".join(lines)
    assert "camera: 20 messages, 10 paired, 10 surplus" in text and "+4..+5 ms" in text
    assert " beams, from their rings\n  they look from -30 to " in text
    assert (tmp_path / "inspect-bag.png").is_file()


def test_another_lidar_is_among_what_record_uses(tmp_path: Path) -> None:
    """By its topic and name; what it gives are no images."""
    options = {"topics": {"lidar": "/lidar/points", "other_lidars": ["/rear/points"]}}
    text = inspected(mixed_bag(tmp_path / "mixed"), **options).text
    assert "  LiDAR   /rear/points -> lidar_2: chosen by --topics.other-lidars" in text
    assert "lidar_2: its sweep minus that of lidar, median" in text and "  camera: image minus sweep, median" in text


def test_a_sweep_of_one_point_is_one_point(tmp_path: Path) -> None:
    def sweep(stamp: int) -> Any:
        return ros.cloud_to_message(stamp, "lidar", {axis: np.full(1, 9, np.float32) for axis in "xyz"})

    assert "LIDAR: 1 point a sweep" in inspected(bags.write_bag(tmp_path / "bag", sweep=sweep)).text


def test_what_bags_may_be_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["inspect", "--help"])
    assert "ROS 1 .bag" in capsys.readouterr().out


def test_a_camera_without_info_is_no_reason_to_fail_when_another_has_it(tmp_path: Path) -> None:
    image = ros.image_to_message(bags.START_NS, "rear", bags.picture(0))
    summary = inspected(bags.write_bag(tmp_path / "bag", more=[("/rear/image_raw", image, bags.START_NS)]))
    assert not summary.problems
    assert "/rear/image_raw is left out: there is no /rear/camera_info" in summary.results["sensors"]["notes"]


def test_topics_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """Packets of a LiDAR, in a bag that does not define them: they are why there are no points."""
    path = humble_db3(tmp_path / "drive", [row for row in bags.bag_rows() if row[0] != "/lidar/points"])
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO topics VALUES (99, '/packets', 'pandar_msgs/msg/PandarScan', 'cdr', '')")
        database.execute(
            "INSERT INTO messages(topic_id, timestamp, data) VALUES (99, ?, x'00010000')", (bags.START_NS,)
        )
    summary = inspected(path)
    note = "/packets is skipped, its type is pandar_msgs/msg/PandarScan: the bag has no definition of it"
    assert note in summary.results["sensors"]["notes"] and note in " ".join(summary.text.split())
    assert any("its driver makes them of packets" in problem for problem in summary.problems)


def test_histograms_are_signed_and_keep_their_sum() -> None:
    lines = histogram([[-41.0, 2], [-3.0, 1], [0.0, 4], [38.0, 8]], "ms")
    assert sum(int(line.split()[-1]) for line in lines if line[-1].isdigit()) == 15
    assert lines[0].split()[0] == "-50..-40" and lines[-1].split()[0] == "+30..+40"
    assert len(lines[-1]) > len(lines[0]) and len(lines) <= 17


def test_a_lidar_far_from_level_is_told_before_and_after_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ground is missed without a word otherwise, and the picture does not show ground."""
    tilted = np.eye(4)
    tilted[:3, :3] = [[0.94, 0, 0.342], [0, 1, 0], [-0.342, 0, 0.94]]
    edges = [("base_link", "lidar", tilted), ("lidar", "camera_optical", bags.T_LIDAR_CAMERA)]
    rows = [(bags.START_NS, *edge) for edge in edges]
    monkeypatch.setattr(bags, "transforms", lambda: ros.transforms_to_message(rows))
    bag = bags.write_bag(tmp_path / "bag")
    told = "lidar is turned by 20 deg from level: give --proposals.level base_link, else ground may be missed"
    assert told in inspect(bag, InspectOptions(out=tmp_path)).results["sensors"]["notes"]
    assert f"{told}." in record([bag], tmp_path / "frames", RecordOptions()).text
    level = RecordOptions.from_mapping({"proposals": {"level": "base_link"}})
    assert "from level" not in record([bag], tmp_path / "level", level).text
