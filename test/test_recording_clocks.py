"""Bags whose time is not the usual: simulated time with /clock, bags played in loops, stamps that are none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bags
import numpy as np
import pytest
from bag_kinds import KINDS, Row
from bags import MS, START_NS, cloud, picture

from dseg_core import messages as ros
from dseg_core.cli import main
from dseg_core.image_codecs import decode
from dseg_core.store import FrameStore
from dseg_core.words import count

SECOND = 1_000_000_000
TF, INFO = "/tf_static", "/camera/camera_info"
STORAGES = ("rosbag1", "sqlite3", "mcap", "bare mcap without summary")


def clock(stamp: int) -> Any:
    time = ros.message("builtin_interfaces/msg/Time", sec=stamp // SECOND, nanosec=stamp % SECOND)
    return ros.message("rosgraph_msgs/msg/Clock", clock=time)


def image(stamp: int, number: int) -> Any:
    return ros.image_to_message(stamp, "camera_optical", picture(number))


def drive(stamps: Sequence[int], log_after: int, late: int = 4 * MS, number: int = 0) -> list[Row]:
    """Sweeps at the stamps, images a little later, /clock at each; received so much after their stamps."""
    rows: list[Row] = []
    for n, stamp in enumerate(stamps, number):
        rows += [
            ("/clock", clock(stamp), stamp + log_after),
            ("/lidar/points", cloud(stamp), stamp + log_after),
            ("/camera/image_raw", image(stamp + late, n), stamp + late + log_after),
            (INFO, ros.camera_to_message(stamp + late, bags.CAMERA), stamp + late + log_after),
        ]
    return rows


def mounting(log_ns: int) -> list[Row]:
    return [(TF, bags.transforms(), log_ns)]


def recorded(tmp_path: Path, rows: Sequence[Row], kind: str = "mcap", *options: str) -> dict[str, Any]:
    """The drive's account, by the command; what it wrote is checked."""
    bag = KINDS[kind](tmp_path / "drive", sorted(rows, key=lambda row: row[2]))
    assert main(["record", str(bag), "--out", str(tmp_path / "frames"), "--store.image-format", "png", *options]) == 0
    assert main(["check", str(tmp_path / "frames")]) == 0
    results = json.loads((tmp_path / "frames" / "summary.json").read_text())["results"]
    return dict(results["drives"]["drive"])


def stamps_of(tmp_path: Path) -> list[int]:
    return [stamp for _, stamp in FrameStore(tmp_path / "frames").frame_keys]


def counts(messages: int, paired: int, **dropped: int) -> dict[str, Any]:
    reasons = {reason.replace("_", " "): number for reason, number in dropped.items()}
    return {"messages": messages, "paired": paired, "surplus": messages - paired - sum(dropped.values()),
            "dropped": reasons}  # fmt: skip


SIM = [n * 100 * MS for n in range(1, 8)]  # 0.1 to 0.7 s of simulated time


@pytest.mark.parametrize("kind", STORAGES)
@pytest.mark.parametrize("log_after", [START_NS, 0], ids=["received on the wall's clock", "recorded with use_sim_time"])
def test_simulated_time(tmp_path: Path, kind: str, log_after: int) -> None:
    """Stamps of a simulation that begins at zero; /clock is neither a sensor nor in the way."""
    found = recorded(tmp_path, mounting(log_after) + drive(SIM, log_after), kind)
    assert found["sensors"] == {"lidar": counts(7, 7), "camera": counts(7, 7)}
    assert found["offsets_ms"]["camera"]["median"] == 4.0
    assert stamps_of(tmp_path) == SIM
    for number, frame in enumerate(FrameStore(tmp_path / "frames").frames()):
        assert (frame.stamp_ns, frame.views[0].stamp_ns) == (SIM[number], SIM[number] + 4 * MS)
        np.testing.assert_array_equal(decode(frame.views[0].image), picture(number))


def test_times_are_chosen_by_when_messages_were_received_also_in_simulated_time(tmp_path: Path) -> None:
    found = recorded(tmp_path, mounting(0) + drive(SIM, 0), "mcap", "--windows", "0.25:0.55")
    assert stamps_of(tmp_path) == [300 * MS, 400 * MS, 500 * MS]
    assert found["sensors"]["lidar"] == counts(7, 3, outside_the_chosen_times=4)


def test_a_simulation_that_begins_at_zero_loses_that_moment_only(tmp_path: Path) -> None:
    found = recorded(tmp_path, mounting(START_NS) + drive([0, *SIM], START_NS, late=0))
    assert found["sensors"] == {
        "lidar": counts(8, 7, header_stamp_is_zero=1), "camera": counts(8, 7, header_stamp_is_zero=1)
    }  # fmt: skip
    assert stamps_of(tmp_path) == SIM


def test_a_simulation_that_is_reset_is_recorded_before_and_after(tmp_path: Path) -> None:
    """/clock and all stamps go back by more than a second, to moments that were not yet seen."""
    first, second = [10 * SECOND + t for t in SIM], [5 * SECOND + t for t in SIM]
    rows = mounting(START_NS) + drive(first, START_NS) + drive(second, START_NS + 10 * SECOND, number=7)
    found = recorded(tmp_path, rows)
    assert found["sensors"] == {"lidar": counts(14, 14), "camera": counts(14, 14)}
    assert stamps_of(tmp_path) == second + first
    assert [note for note in found["notes"] if "clock" in note] == [
        "a sensor's clock was set back 1 time, and pairing begun anew"
    ]


@pytest.mark.parametrize("loops", [2, 3])
def test_a_bag_that_was_played_in_a_loop_gives_each_frame_once(tmp_path: Path, loops: int) -> None:
    """The same stamps again and again, 1.5 s of them, received one after the other."""
    stamps = [START_NS + n * 100 * MS for n in range(16)]
    rows = mounting(START_NS)
    for loop in range(loops):
        rows += drive(stamps, loop * 2 * SECOND)
    found = recorded(tmp_path, rows)
    again = 16 * (loops - 1)
    wanted = {"messages": 16 * loops, "paired": 16, "surplus": 0,
              "dropped": {"recorded already: the bag repeats itself": again}}  # fmt: skip
    assert found["sensors"] == {"lidar": wanted, "camera": wanted}
    assert stamps_of(tmp_path) == stamps
    assert f"a sensor's clock was set back {count(loops - 1, 'time')}, and pairing begun anew" in found["notes"]


def test_a_loop_shorter_than_a_jump_is_stamps_that_run_backwards(tmp_path: Path) -> None:
    """0.4 s again: less than --pairing.jump, so that pairing goes on and drops what is not later."""
    stamps = [START_NS + n * 100 * MS for n in range(5)]
    found = recorded(tmp_path, mounting(START_NS) + drive(stamps, 0) + drive(stamps, SECOND))
    dropped = {"stamp_runs_backwards": 4, "duplicate_stamp": 1}
    assert found["sensors"] == {"lidar": counts(10, 5, **dropped), "camera": counts(10, 5, **dropped)}
    assert stamps_of(tmp_path) == stamps


def with_stamp(message: Any, sec: int, nanosec: int = 0) -> Any:
    message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
    return message


@pytest.mark.parametrize(
    ("sec", "reason"),
    [(0, "header_stamp_is_zero"), (-5, "header_stamp_is_negative"), (-(2**31), "header_stamp_is_negative")],
)
@pytest.mark.parametrize("kind", ["sqlite3", "mcap"])
def test_stamps_that_are_none_cost_their_messages_only(tmp_path: Path, sec: int, reason: str, kind: str) -> None:
    stamps = [START_NS + n * 100 * MS for n in range(6)]
    rows = mounting(START_NS) + drive(stamps, 0)
    for n, (topic, message, log_ns) in enumerate(rows):
        if topic == "/lidar/points" and log_ns == stamps[2]:
            rows[n] = (topic, with_stamp(message, sec), log_ns)
        if topic == "/camera/image_raw" and log_ns == stamps[4] + 4 * MS:
            rows[n] = (topic, with_stamp(message, sec), log_ns)
        if topic == INFO:  # nothing depends on it
            rows[n] = (topic, with_stamp(message, sec), log_ns)
    found = recorded(tmp_path, rows, kind)
    # The sweep without its image and the image without its sweep have no other within the tolerance.
    lidar, camera = counts(6, 4, **{reason: 1, "too_far": 1}), counts(6, 4, **{reason: 1})
    assert found["sensors"] == {"lidar": lidar, "camera": camera}
    assert stamps_of(tmp_path) == [stamps[n] for n in (0, 1, 3, 5)]


@pytest.mark.parametrize("stamped", [0, START_NS + 77 * SECOND, START_NS - 10**6 * SECOND])
def test_when_a_mounting_was_stamped_is_no_matter(tmp_path: Path, stamped: int) -> None:
    edges = [("base_link", "lidar", np.eye(4)), ("lidar", "camera_optical", bags.T_LIDAR_CAMERA)]
    rows: list[Row] = [(TF, ros.transforms_to_message([(stamped, *edge) for edge in edges]), START_NS)]
    found = recorded(tmp_path, rows + drive([START_NS, START_NS + 100 * MS], 0))
    assert found["sensors"] == {"lidar": counts(2, 2), "camera": counts(2, 2)}
