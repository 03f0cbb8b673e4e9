"""Which sweeps are recorded, what of the vehicle itself is left out, and whose work it is: over real tiny bags."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from bags import CAMERA, MS, START_NS, cloud, picture, write_bag
from hypothesis import given
from hypothesis import strategies as st
from ros_world import LIMIT, wait

from dseg_core import messages as ros
from dseg_core.cli import main
from dseg_core.errors import DsegError, OptionError
from dseg_core.frames_from_bag import record
from dseg_core.records import REGION_FIRST_OBJECT
from dseg_core.selection import Selection
from dseg_core.stage_options import EgoOptions, PairingOptions, RecordOptions, SelectionOptions
from dseg_core.store import FrameStore
from dseg_core.transforms import TransformTree, matrix_from_pose

TEN = tuple(range(0, 1000, 100))


def driven(speed: float, until: int = 1200) -> list[tuple[str, Any, int]]:
    """Transforms of a vehicle that drives ahead at `speed` m/s for half a second, and then stands."""
    rows = []
    for t in range(-200, until, 20):
        T = matrix_from_pose((speed * min(t, 500) / 1000, 0, 0), (0, 0, 0, 1))
        stamp = START_NS + t * MS
        rows.append(("/tf", ros.transforms_to_message([(stamp, "odom", "base_link", T)]), stamp))
    return rows


def times(out: Path) -> list[int]:
    """Milliseconds of the frames recorded."""
    return [(stamp - START_NS) // MS for _, stamp in FrameStore(out).frame_keys]


def row(out: Path, drive: str = "drive") -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text())["results"]["drives"][drive]  # type: ignore[no-any-return]


def adds_up(out: Path) -> bool:
    """Every message is accounted for."""
    sensors = row(out)["sensors"].values()
    return all(s["paired"] + s["surplus"] + sum(s["dropped"].values()) == s["messages"] for s in sensors)


def test_by_distance_and_standstill(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "drive", TEN, TEN, more=driven(10.0))
    record([bag], tmp_path / "far", RecordOptions(min_distance=1.9))  # a metre a sweep, for half a second
    assert times(tmp_path / "far") == [0, 200, 400] and adds_up(tmp_path / "far")
    assert row(tmp_path / "far")["sensors"]["lidar"]["dropped"] == {"nearer than --min-distance": 7}
    record([bag], tmp_path / "fast", RecordOptions(min_speed=1.0))
    assert times(tmp_path / "fast") == [0, 100, 200, 300, 400, 500] and adds_up(tmp_path / "fast")


def test_sweeps_of_unknown_position_are_kept_and_only_those_that_are_count() -> None:
    tree = TransformTree()
    for t in (0, 1000):
        tree.add("odom", "lidar", np.eye(4), START_NS + t * MS)
    selection = Selection(SelectionOptions(min_distance=1.0, every=2), tree, "lidar")
    kept = [t for t in range(-300, 1300, 100) if selection.refuse(START_NS + t * MS) is None]
    assert kept == [-300, -100, 100, 1200], "where it is known, the vehicle stands"
    assert selection.unknown == 3


def test_distance_needs_motion(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "drive")
    with pytest.raises(DsegError, match="need the vehicle's motion, and nothing moves lidar"):
        record([bag], tmp_path / "frames", RecordOptions(min_distance=1.0))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"windows": ("0.25:0.55",)}, [300, 400, 500]),
        ({"windows": (":0.15", "0.75:")}, [0, 100, 800, 900]),
        ({"windows": ("-5:0.15", "0.75:inf", "1e300:")}, [0, 100, 800, 900]),
        ({"events": (0.5,), "before": 0.21, "after": 0.11}, [300, 400, 500, 600]),
        ({"events": (START_NS / 1e9 + 0.5,), "before": 0.11, "after": 0.0}, [400, 500]),
        ({"windows": ("0.25:0.55", "0.35:0.65")}, [300, 400, 500, 600]),
    ],
)
def test_by_time(tmp_path: Path, options: dict[str, Any], expected: list[int]) -> None:
    bag = write_bag(tmp_path / "drive", TEN, tuple(t + 4 for t in TEN))
    record([bag], tmp_path / "frames", RecordOptions(**options))
    assert times(tmp_path / "frames") == expected
    assert adds_up(tmp_path / "frames")


def test_chosen_times_read_no_more_of_the_bag(tmp_path: Path) -> None:
    """A long drive's messages outside the times are not even read, and accounted for all the same."""
    long = tuple(range(0, 5000, 100))
    bag = write_bag(tmp_path / "drive", long, long)
    record([bag], tmp_path / "frames", RecordOptions(windows=("2:2.35",)))
    assert times(tmp_path / "frames") == [2000, 2100, 2200, 2300] and adds_up(tmp_path / "frames")
    sensors = row(tmp_path / "frames")["sensors"]
    assert [sensors[name]["dropped"] for name in sensors] == [{"outside the chosen times": 46}] * 2


def test_what_lies_outside_the_chosen_times_is_called_so_also_where_few_frames_are_asked_for(tmp_path: Path) -> None:
    """Images at the ends are read for the sweeps inside; and where no frame was made, none came before the others."""
    bag = write_bag(tmp_path / "drive", TEN, tuple(t + 4 for t in TEN))
    record([bag], tmp_path / "frames", RecordOptions(windows=("0.25:0.55",), max_frames=5))
    sensors = row(tmp_path / "frames")["sensors"]
    assert [sensors[name]["dropped"] for name in sensors] == [{"outside the chosen times": 7}] * 2
    with pytest.raises(DsegError, match=r"0 paired, dropped 10 \(outside the chosen times\); lidar"):
        record([bag], tmp_path / "none", RecordOptions(windows=("100:200",), max_frames=2))


@pytest.mark.parametrize(
    ("windows", "images"),
    [
        (("0.25:0.65",), {"after --max-frames": 2, "outside the chosen times": 6}),
        (("0.05:0.35", "0.55:0.85"), {"after --max-frames": 4, "outside the chosen times": 4}),
        ((":",), {"after --max-frames": 8}),
    ],
)
def test_what_a_full_recording_left_is_told_from_what_was_not_chosen(
    tmp_path: Path, windows: tuple[str, ...], images: dict[str, int]
) -> None:
    """Sweeps and images of 0.0 to 0.9 s; the first two of those within the windows are enough."""
    bag = write_bag(tmp_path / "drive", TEN, tuple(t + 4 for t in TEN))
    record([bag], tmp_path / "frames", RecordOptions(windows=windows, max_frames=2))
    assert adds_up(tmp_path / "frames")
    sensors = row(tmp_path / "frames")["sensors"]
    assert [sensors[name]["dropped"] for name in ("lidar", "camera")] == [images] * 2


def test_an_image_from_beyond_the_chosen_times_may_be_the_nearest(tmp_path: Path) -> None:
    """Images come 4 ms before the sweeps: the first window's first sweep is used with one from before it."""
    bag = write_bag(tmp_path / "drive", TEN, tuple(max(t - 4, 0) for t in TEN))
    record([bag], tmp_path / "frames", RecordOptions(windows=("0.198:0.65",), max_frames=2))
    assert times(tmp_path / "frames") == [200, 300] and adds_up(tmp_path / "frames")
    sensors = row(tmp_path / "frames")["sensors"]
    outside = {"lidar": 5, "camera": 5}  # sweeps at 0, 1, 7, 8, 9; the image of sweep 2 is used, that of 7 is within
    for name, number in outside.items():
        assert sensors[name]["dropped"]["outside the chosen times"] == number
        assert sensors[name]["dropped"]["after --max-frames"] == 10 - 2 - number


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0.01, 50)), max_size=6),
    st.lists(st.floats(0, 100), max_size=4),
    st.floats(0, 120),
)
def test_windows_are_sorted_apart_and_hold_what_they_say(
    windows: list[tuple[float, float]], events: list[float], moment: float
) -> None:
    options = SelectionOptions(
        windows=tuple(f"{a}:{a + length}" for a, length in windows), events=tuple(events), before=2, after=1
    )
    found = options.windows_ns(10**18, 10**18 + 200 * 10**9)
    assert all(one[1] < other[0] for one, other in pairwise(found))
    at = 10**18 + round(moment * 1e9)
    spans = [(a, a + length) for a, length in windows] + [(e - 2, e + 1) for e in events]
    if any(a + 1e-6 < moment < b - 1e-6 for a, b in spans) or not spans:
        assert any(a <= at <= b for a, b in found)
    elif not any(a - 1e-6 <= moment <= b + 1e-6 for a, b in spans):
        assert not any(a <= at <= b for a, b in found)


@pytest.mark.parametrize("window", ["5", "a:b", "5:3", "3:3", "1:2:3", "nan:5", "nan:", "5:nan"])
def test_no_window(window: str) -> None:
    with pytest.raises(OptionError, match="must be START:END"):
        SelectionOptions(windows=(window,))


def test_a_clock_set_back_begins_anew_and_a_loop_is_seen(tmp_path: Path) -> None:
    """A minute back: new stamps are recorded. The same stamps again, as of a bag played in a loop: they are not."""
    again = []
    for shift, log in ((-60_000, 2000), (0, 4000)):
        for t in TEN:
            stamp = START_NS + (t + shift) * MS
            again.append(("/lidar/points", cloud(stamp), START_NS + (t + log) * MS))
            image = ros.image_to_message(stamp + 4 * MS, "camera_optical", picture(t))
            again.append(("/camera/image_raw", image, START_NS + (t + log + 4) * MS))
    bag = write_bag(tmp_path / "drive", TEN, tuple(t + 4 for t in TEN), more=again)
    summary = record([bag], tmp_path / "frames", RecordOptions())
    assert times(tmp_path / "frames") == [t - 60_000 for t in TEN] + list(TEN)
    assert row(tmp_path / "frames")["sensors"]["lidar"]["dropped"] == {"recorded already: the bag repeats itself": 10}
    assert adds_up(tmp_path / "frames") and "clock was set back" in summary.text


def test_the_vehicle_itself_is_in_no_region(tmp_path: Path) -> None:
    """A box around the obstacle takes its points away; a mask takes pixels away."""
    bag = write_bag(tmp_path / "drive")
    record([bag], tmp_path / "all", RecordOptions())
    record([bag], tmp_path / "box", RecordOptions(ego=EgoOptions(box=(5.5, -0.7, -1.75, 6.5, 0.7, 0.0))))
    before, after = (FrameStore(tmp_path / name).frame("drive", START_NS) for name in ("all", "box"))
    np.testing.assert_array_equal(before.sweep.xyz, after.sweep.xyz)
    assert (before.views[0].regions >= REGION_FIRST_OBJECT).sum() > 50
    assert not (after.views[0].regions >= REGION_FIRST_OBJECT).any()
    mask = np.zeros((CAMERA.height, CAMERA.width), np.uint8)
    mask[30:] = 255
    PIL.Image.fromarray(mask).save(tmp_path / "hood.png")
    record([bag], tmp_path / "mask", RecordOptions(ego=EgoOptions(masks=(f"camera:{tmp_path / 'hood.png'}",))))
    masked = FrameStore(tmp_path / "mask").frame("drive", START_NS).views[0].regions
    assert not masked[30:].any()
    np.testing.assert_array_equal(masked[:30], before.views[0].regions[:30])


def test_bad_masks_cost_one_line(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "drive")
    PIL.Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "small.png")
    for text, message in (
        (f"camera:{tmp_path}/small.png", "has 4x4 pixels, its camera's images 64x48"),
        (f"camera:{tmp_path}/none.png", "cannot be read as an image"),
        ("front:x.png", "must be CAMERA:FILE; cameras are camera"),
    ):
        with pytest.raises(DsegError, match=message):
            record([bag], tmp_path / "frames", RecordOptions(ego=EgoOptions(masks=(text,))))


def test_images_smaller_than_their_camera_info_are_used_and_cropped_ones_are_not(tmp_path: Path) -> None:
    def image(size: tuple[int, int]) -> Any:
        return lambda stamp, seed: ros.image_to_message(stamp, "camera_optical", np.zeros((*size, 3), np.uint8))

    half = write_bag(tmp_path / "half", image=image((24, 32)))
    summary = record([half], tmp_path / "frames", RecordOptions())
    view = FrameStore(tmp_path / "frames").frame("half", START_NS).views[0]
    assert (view.calibration.width, view.calibration.height) == (32, 24)
    assert view.calibration.P[0, 0] == pytest.approx(20.0)
    assert "its calibration was scaled (3 images)" in summary.text
    with pytest.raises(DsegError, match="images of 64x40, but camera_info of 64x48"):
        record([write_bag(tmp_path / "cropped", image=image((40, 64)))], tmp_path / "other", RecordOptions())


@pytest.mark.parametrize(("binning", "roi"), [((2, 2), None), ((1, 1), (8, 4, 40, 40)), ((2, 2), (8, 4, 40, 40))])
def test_binning_and_region_of_interest_give_the_same_regions(
    tmp_path: Path, binning: tuple[int, int], roi: tuple[int, int, int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images as the driver takes them: a part of the sensor, every second pixel."""
    x, y, width, height = roi or (0, 0, CAMERA.width, CAMERA.height)
    size = (height // binning[1], width // binning[0])

    plain = ros.camera_to_message

    def info(stamp: int, camera: Any) -> Any:
        made = plain(stamp, camera)
        made.binning_x, made.binning_y = binning
        if roi:
            made.roi.x_offset, made.roi.y_offset, made.roi.width, made.roi.height = roi
        return made

    def image(stamp: int, seed: int) -> Any:
        return ros.image_to_message(stamp, "camera_optical", np.zeros((*size, 3), np.uint8))

    with monkeypatch.context() as patched:
        patched.setattr("bags.ros.camera_to_message", info)
        bag = write_bag(tmp_path / "drive", image=image)
    whole = write_bag(tmp_path / "whole")
    record([whole], tmp_path / "all", RecordOptions())
    expected = FrameStore(tmp_path / "all").frame("whole", START_NS).views[0].regions
    record([bag], tmp_path / "frames", RecordOptions())
    found = FrameStore(tmp_path / "frames").frame("drive", START_NS).views[0].regions
    assert found.shape == size
    part = expected[y : y + height : binning[1], x : x + width : binning[0]]
    assert np.mean(found == part) > 0.9


def test_any_number_of_threads_makes_the_same(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "drive", TEN, TEN, more=driven(10.0))
    for threads in (1, 3):
        record([bag], tmp_path / str(threads), RecordOptions(threads=threads))
    assert (tmp_path / "1" / "drive_0.mcap").read_bytes() == (tmp_path / "3" / "drive_0.mcap").read_bytes()


def test_another_bag_of_a_known_name_is_not_taken_for_it(tmp_path: Path) -> None:
    one, out = write_bag(tmp_path / "monday" / "drive", TEN, TEN), tmp_path / "frames"
    record([one], out, RecordOptions())
    other = write_bag(tmp_path / "tuesday" / "drive", TEN[:5], TEN[:5])
    with pytest.raises(DsegError, match=r"tuesday/drive: another bag of this name, .*monday/drive, was recorded"):
        record([other], out, RecordOptions())
    moved = one.rename(tmp_path / "drive")
    assert "1 drive recorded before and kept" in record([moved], out, RecordOptions()).text


def test_nothing_of_the_users_is_written_over(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "drive")
    before = {path: path.read_bytes() for path in bag.iterdir()}
    other = write_bag(tmp_path / "other")
    for out, message in (
        (bag, "lies in the bag that is recorded"),
        (bag / "frames", "lies in the bag that is recorded"),
        (tmp_path, "holds the bag"),
        (other, "is a bag"),
    ):
        with pytest.raises(DsegError, match=message):
            record([bag], out, RecordOptions())
    lone = tmp_path / "lone" / "drive_0.mcap"  # named as `ros2 bag record` does, and as a part of frames would be
    lone.parent.mkdir()
    lone.write_bytes(next(bag.glob("*.mcap")).read_bytes())
    with pytest.raises(DsegError, match="holds the bag"):
        record([lone], lone.parent, RecordOptions())
    assert lone.read_bytes() in before.values()
    odd = tmp_path / "odd"
    odd.mkdir()
    for results in ("[]", '{"drives": {"a": 3}}'):
        (odd / "summary.json").write_text(f'{{"command": "record", "results": {results}}}')
        with pytest.raises(DsegError, match="is no account of a recording"):
            record([bag], odd, RecordOptions())
    run = tmp_path / "run"
    run.mkdir()
    (run / "summary.json").write_text('{"command": "train", "results": {}}')
    with pytest.raises(DsegError, match=r"holds what `dseg train` made"):
        record([bag], run, RecordOptions())
    record([bag], tmp_path / "frames", RecordOptions())
    with pytest.raises(DsegError, match="is a folder of frames that `dseg record` wrote"):
        record([tmp_path / "frames"], tmp_path / "more", RecordOptions())


def test_a_wrong_call_does_not_stand_in_the_way_of_the_right_one(tmp_path: Path) -> None:
    bag, out = write_bag(tmp_path / "drive"), tmp_path / "frames"
    with pytest.raises(DsegError, match=r"offsets = 'front=0.1' must be CAMERA:SECONDS"):
        record([bag], out, RecordOptions(pairing=PairingOptions(offsets=("front=0.1",))))
    with pytest.raises(DsegError, match="gave no frame"):
        record([bag], out, RecordOptions(pairing=PairingOptions(tolerance=0.001)))
    record([bag], out, RecordOptions())
    assert len(FrameStore(out)) == 3


@pytest.mark.parametrize("aggregate", [0, 2])
@pytest.mark.parametrize("lidars", [1, 2])
def test_a_resumed_account_is_that_of_an_uninterrupted_run(tmp_path: Path, lidars: int, aggregate: int) -> None:
    """Motion that reaches half of the sweeps, one camera's broken image, images smaller than their camera_info.

    The second LiDAR shows no beams, and one of its sweeps is broken.
    """
    topics = {"lidar": "/lidar/points", "other_lidars": ["/rear/points"] * (lidars - 1)}
    options = RecordOptions.from_mapping({"topics": topics, "proposals.aggregate": aggregate})

    def image(stamp: int, seed: int) -> Any:
        made = ros.image_to_message(stamp, "camera_optical", np.zeros((24, 32, 3), np.uint8))
        made.encoding = "wrong" if seed == 2 else made.encoding
        return made

    def rear(t: int) -> Any:
        xyz = np.random.default_rng(0).normal(0, 5, (3, 2000)).astype(np.float32)
        made = ros.cloud_to_message(START_NS + t * MS, "rear", dict(zip("xyz", xyz, strict=True)))
        made.point_step = 0 if t == 130 else made.point_step
        return made

    more = [("/tf_static", ros.transforms_to_message([(START_NS, "lidar", "rear", np.eye(4))]), START_NS)]
    more += [("/rear/points", rear(t + 30), START_NS + (t + 30) * MS) for t in TEN]
    for t in TEN:
        stamp = START_NS + t * MS
        more.append(("/side/image_raw", ros.image_to_message(stamp, "camera_optical", picture(t)), stamp))
        more.append(("/side/camera_info", ros.camera_to_message(stamp, CAMERA), stamp))
    bag = write_bag(tmp_path / "drive", TEN, TEN, image=image, more=[*more, *driven(10.0, until=500)])
    record([bag], tmp_path / "whole", options)
    out = tmp_path / "cut"
    record([bag], out, options)
    data = (out / "drive_0.mcap").read_bytes()
    for name in ("drive_0.mcap", "summary.json"):
        (out / name).unlink()
    (out / "drive_0.mcap.tmp").write_bytes(data[: int(len(data) * 0.7)])
    record([bag], out, options)
    resumed, whole = row(out), row(tmp_path / "whole")
    assert resumed["motion"]["compensated"] and resumed["motion"]["not_compensated"]
    assert resumed["sensors"]["camera"]["dropped"]
    notes = " ".join(whole["notes"])
    assert ("points of rear show no beams" in notes) == (lidars == 2)
    assert ("not told with earlier sweeps" in notes) == (aggregate == 2)
    for account in (resumed, whole):
        account.pop("seconds")
    assert resumed == whole
    assert (out / "drive_0.mcap").read_bytes() == (tmp_path / "whole" / "drive_0.mcap").read_bytes()


def several(tmp_path: Path) -> list[Path]:
    """Two good bags and one that has no image."""
    good = [write_bag(tmp_path / "bags" / name, TEN[:4], TEN[:4]) for name in ("one", "two")]
    return [*good, write_bag(tmp_path / "bags" / "worse", images=())]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_bag_does_not_stop_the_rest(tmp_path: Path, workers: int) -> None:
    summary = record(several(tmp_path), tmp_path / "frames", RecordOptions(workers=workers))
    assert FrameStore(tmp_path / "frames").drives == ("one", "two")
    assert len(summary.problems) == 1 and "worse" in summary.problems[0]
    lines = summary.text.splitlines()[-3:]
    assert [line.split()[:2] for line in lines] == [["one", "4"], ["two", "4"], ["worse", "failed"]]
    assert "image" not in lines[-1], "why is told once, as a problem"
    again = record(sorted((tmp_path / "bags").iterdir()), tmp_path / "frames", RecordOptions(workers=3 - workers))
    assert "2 drives recorded before and kept" in again.text


def test_exit_status_of_a_bad_bag_among_good_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", *map(str, several(tmp_path)), "--out", str(tmp_path / "frames")]) == 1
    shown = capsys.readouterr()
    assert "Recorded 8 frames" in shown.out and "no calibrated camera" in shown.err.splitlines()[-1]


def test_on_a_ray_cluster_of_two_nodes(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    code = """
import json, sys
from itertools import pairwise
from pathlib import Path
from ray.cluster_utils import Cluster
from dseg_core.frames_from_bag import record
from dseg_core.stage_options import RecordOptions
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
cluster.wait_for_nodes(timeout=300)
bags = [Path(p) for p in sys.argv[2:]]
summary = record(bags, Path(sys.argv[1]), RecordOptions(ray_address=cluster.address))
print(json.dumps([summary.results["frames"], summary.problems]))
"""
    arguments = [str(tmp_path / "frames"), *map(str, several(tmp_path))]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=2 * LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    frames, problems = json.loads(done.stdout.splitlines()[-1])
    assert frames == 8 and len(problems) == 1 and "worse" in problems[0]
    assert FrameStore(tmp_path / "frames").drives == ("one", "two")


def test_no_ray_cluster_costs_one_line(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with pytest.raises(DsegError, match="no Ray cluster answers"):
        record([write_bag(tmp_path / "drive")], tmp_path / "frames", RecordOptions(ray_address="127.0.0.1:1"))


def test_a_second_run_on_the_folder_is_refused(tmp_path: Path) -> None:
    bag, out = write_bag(tmp_path / "drive"), tmp_path / "frames"
    out.mkdir()
    with (out / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DsegError, match="another run is writing here"):
            record([bag], out, RecordOptions())
    record([bag], out, RecordOptions())


def size(path: Path) -> int:
    """Of a file, 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_says_so_and_is_finished_by_the_next(tmp_path: Path, kind: signal.Signals) -> None:
    many = tuple(range(0, 40_000, 100))
    bag, out = write_bag(tmp_path / "drive", many, many), tmp_path / "frames"
    command = [sys.executable, "-m", "dseg_core.cli", "record", str(bag), "--out", str(out), "--threads", "1"]
    part = out / "drive_0.mcap.tmp"
    for _ in range(20):
        running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "TQDM_DISABLE": "1"})
        wait(lambda running=running: running.poll() is not None or size(part) > 200_000)
        running.send_signal(kind)
        _, shown = running.communicate(timeout=LIMIT)
        if running.returncode != 0:
            break
        shutil.rmtree(out)  # this process was held up until the run was over
    assert running.returncode == 130 and shown.splitlines() == [
        "dseg record: interrupted; run the same command again: it keeps what is finished"
    ]
    assert part.exists() and not (out / "drive_0.mcap").exists()
    assert main(command[3:]) == 0
    assert times(out) == list(many) and adds_up(out)


def test_an_interrupted_run_does_not_wait_for_loops_that_it_compiles(tmp_path: Path) -> None:
    """A first sweep has thirty of them, in a thread of its own."""
    bag, cache = write_bag(tmp_path / "drive", range(0, 1000, 100), range(0, 1000, 100)), tmp_path / "cache"
    command = [sys.executable, "-m", "dseg_core.cli", "record", str(bag), "--out", str(tmp_path / "frames")]
    environment = {**os.environ, "TQDM_DISABLE": "1", "NUMBA_CACHE_DIR": str(cache)}
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert running.stderr is not None
    assert running.stderr.readline() == "dseg record: compiling once for this machine, 10 to 30 s\n"
    wait(lambda: running.poll() is not None or any(cache.rglob("*.nbi")))
    running.send_signal(signal.SIGINT)
    _, shown = running.communicate(timeout=LIMIT)
    assert running.returncode == 130
    assert shown == "dseg record: interrupted; run the same command again: it keeps what is finished\n"
    assert len([*cache.rglob("*.nbi")]) < 12
