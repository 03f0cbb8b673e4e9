"""Messages whose bytes were garbled where no checksum tells: they cost themselves, are counted, and end nothing."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from bag_kinds import Row, humble_db3
from bags import bag_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bag import small_rows

from dseg_core import messages as ros
from dseg_core.cli import main
from dseg_core.store import FrameStore
from dseg_core.words import count

TEN = tuple(range(0, 1000, 100))
SECOND_CAMERA = "/side/image_raw"


def two_cameras(times: tuple[int, ...] = TEN) -> list[Row]:
    """As `bag_rows`, and a second camera that sees the same."""
    rows: list[Row] = bag_rows(sweeps=times, images=[t + 4 for t in times])
    for topic, message, log_ns in list(rows):
        if topic == "/camera/image_raw":
            rows.append((SECOND_CAMERA, message, log_ns))
        elif topic == "/camera/camera_info":
            rows.append(("/side/camera_info", message, log_ns))
    return sorted(rows, key=lambda row: row[2])


def renamed(rows: list[Row], topic: str, wanted: set[int]) -> list[Row]:
    """Garble the frame_id of the topic's messages of these numbers."""
    found, number = [], 0
    for name, message, log_ns in rows:
        if name == topic:
            if number in wanted:
                message = ros.typestore().deserialize_cdr(
                    ros.typestore().serialize_cdr(message, message.__msgtype__), message.__msgtype__
                )
                message.header.frame_id = "c\x07mera_optica"
            number += 1
        found.append((name, message, log_ns))
    return found


def recorded(tmp_path: Path, rows: list[Row]) -> dict[str, Any]:
    bag, out = humble_db3(tmp_path / "drive", rows), tmp_path / "frames"
    assert main(["record", str(bag), "--out", str(out)]) == 0
    assert main(["check", str(out)]) == 0
    return dict(json.loads((out / "summary.json").read_text())["results"]["drives"]["drive"])


@pytest.mark.parametrize("wanted", [{0}, {3, 7}, {9}, set(range(9))], ids=str)
def test_images_of_a_frame_that_is_none_cost_their_views_only(tmp_path: Path, wanted: set[int]) -> None:
    found = recorded(tmp_path, renamed(two_cameras(), SECOND_CAMERA, wanted))
    left, all_of_them = 10 - len(wanted), {"messages": 10, "paired": 10, "surplus": 0, "dropped": {}}
    assert found["sensors"] == {
        "lidar": all_of_them,
        "camera": all_of_them,
        "side": {**all_of_them, "paired": left, "dropped": {"no transform to the LiDAR": len(wanted)}},
    }
    why = "no transform connects lidar and c\x07mera_optica; known frames: base_link, camera_optical, lidar"
    assert f"{SECOND_CAMERA}: {why} ({count(len(wanted), 'image')})" in found["notes"]
    for number, frame in enumerate(FrameStore(tmp_path / "frames").frames()):
        assert [view.camera for view in frame.views] == (["camera"] if number in wanted else ["camera", "side"])


@pytest.mark.parametrize("wanted", [{0}, {4, 5}], ids=str)
def test_a_sweep_of_a_frame_that_is_none_costs_itself_only(tmp_path: Path, wanted: set[int]) -> None:
    found = recorded(tmp_path, renamed(two_cameras(), "/lidar/points", wanted))
    assert found["frames"] == 10 - len(wanted)
    assert found["sensors"]["lidar"]["dropped"] == {"no usable image": len(wanted)}


@pytest.mark.parametrize("count", [3, 30])
def test_a_camera_that_is_never_connected_ends_the_recording_and_leaves_nothing(
    tmp_path: Path, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Frames of the other camera alone would not be what was asked for, and the next run would keep them."""
    rows = renamed(two_cameras(tuple(range(0, 100 * count, 100))), SECOND_CAMERA, set(range(count)))
    bag, out = humble_db3(tmp_path / "drive", rows), tmp_path / "frames"
    assert main(["record", str(bag), "--out", str(out)]) == 1
    assert f"{bag}: no transform connects lidar and c\\x07mera_optica; known frames: " in capsys.readouterr().err
    assert not out.exists()
    assert main(["inspect", str(bag), "--out", str(tmp_path)]) == 1
    assert "side: no transform connects lidar and c\\x07mera_optica" in capsys.readouterr().err
    assert main(["record", str(bag), "--out", str(out), "--topics.cameras", "/camera/image_raw"]) == 0
    assert len(FrameStore(out)) == count


def test_inspect_foretells_the_account_of_garbled_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = renamed(renamed(two_cameras(), SECOND_CAMERA, {2, 3}), "/lidar/points", {5})
    found = recorded(tmp_path, rows)
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "drive.db3"), "--json", "--out", str(tmp_path)]) == 0
    told = json.loads(capsys.readouterr().out)["account"]
    for name in found.keys() - {"seconds", "ground", "objects", "distance_m", "seen", "unseen"}:
        assert told[name] == found[name], name


def garble(data: st.DataObject) -> None:
    """Bytes of a few messages are others. The command ends well or with its one line; what it wrote is whole."""
    rows = small_rows(4)
    with TemporaryDirectory() as folder:
        bag, out = humble_db3(Path(folder) / "drive", rows), Path(folder) / "frames"
        with sqlite3.connect(bag) as database:
            for _ in range(data.draw(st.integers(1, 3))):
                number = data.draw(st.integers(1, len(rows)))
                (blob,) = database.execute("SELECT data FROM messages WHERE id = ?", (number,)).fetchone()
                content = bytearray(blob)
                # Most of a message are pixels; what matters is in front and behind them.
                place = data.draw(st.integers(0, min(len(content), 120) - 1) | st.integers(-40, -1))
                patch = data.draw(
                    st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f"]) | st.binary(max_size=6)
                )
                at = place % len(content)
                content[at : at + len(patch)] = patch
                database.execute("UPDATE messages SET data = ? WHERE id = ?", (bytes(content), number))
        database.close()
        status = main(["record", str(bag), "--out", str(out), "--threads", "1"])
        if status == 0:
            assert main(["check", str(out)]) == 0
            (drive,) = json.loads((out / "summary.json").read_text())["results"]["drives"].values()
            for row in drive["sensors"].values():
                assert row["messages"] == row["paired"] + row["surplus"] + sum(row["dropped"].values())
        assert status in (0, 1)
        assert main(["inspect", str(bag), "--out", folder]) in (0, 1)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_garbled_bags_are_recorded_or_refused(data: st.DataObject) -> None:
    garble(data)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(st.data())
def test_many_garbled_bags_are_recorded_or_refused(data: st.DataObject) -> None:
    garble(data)
