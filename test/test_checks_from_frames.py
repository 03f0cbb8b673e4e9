"""Each thing that can go wrong with recorded frames is put wrong in a tiny folder, found, and named."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from bags import write_bag

from dseg_core.checks_from_frames import check
from dseg_core.cli import main
from dseg_core.errors import DsegError
from dseg_core.findings_from_frame import is_rigid, picture_size
from dseg_core.frame_writer import FrameWriter
from dseg_core.frames_from_bag import record
from dseg_core.records import EncodedImage, Frame
from dseg_core.stage_options import CheckOptions, RecordOptions
from dseg_core.store import FrameStore

PART = "drive_0.mcap"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    record([write_bag(folder / "drive")], folder / "frames", RecordOptions())
    return folder / "frames"


@pytest.fixture
def frames(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "frames"))


def problems(frames: Path, **options: object) -> str:
    return "\n".join(check(frames, CheckOptions(**options)).problems)  # type: ignore[arg-type]


@pytest.mark.parametrize("deep", [True, False])
def test_what_record_writes_is_fine(frames: Path, deep: bool) -> None:
    summary = check(frames, CheckOptions(deep=deep))
    assert summary.problems == () and summary.results["warnings"] == []
    assert (summary.results["frames"], summary.results["views"]) == (3, 3)


@pytest.mark.parametrize("where", np.linspace(0.0, 0.9999, 23).tolist())
@pytest.mark.parametrize("deep", [True, False])
def test_any_flipped_byte_is_found(frames: Path, where: float, deep: bool) -> None:
    part = frames / PART
    data = bytearray(part.read_bytes())
    data[int(where * len(data))] ^= 0x10
    part.write_bytes(data)
    assert PART in problems(frames, deep=deep)


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_a_cut_part_is_found(frames: Path, keep: float) -> None:
    data = (frames / PART).read_bytes()
    (frames / PART).write_bytes(data[: int(keep * len(data))])
    assert PART in problems(frames) and main(["check", str(frames)]) == 1


def _summary(edit: Callable[[dict], None]) -> Callable[[Path], None]:  # type: ignore[type-arg]
    def mutate(frames: Path) -> None:
        content = json.loads((frames / "summary.json").read_text())
        edit(content["results"])
        (frames / "summary.json").write_text(json.dumps(content))

    return mutate


def _metadata(edit: Callable[[dict], None]) -> Callable[[Path], None]:  # type: ignore[type-arg]
    def mutate(frames: Path) -> None:
        content = yaml.safe_load((frames / "metadata.yaml").read_text())
        edit(content["rosbag2_bagfile_information"])
        (frames / "metadata.yaml").write_text(yaml.safe_dump(content))

    return mutate


@pytest.mark.parametrize(
    ("mutate", "message"),
    [
        (_summary(lambda r: r["drives"]["drive"].update(frames=4)), "drive drive: 4 frames, the part has 3"),
        (_summary(lambda r: r["drives"]["drive"].update(views=2)), "drive drive: 2 views, the part has 3"),
        (_summary(lambda r: r.update(frames=7)), "7 frames in all, its drives have 3"),
        (_summary(lambda r: r["drives"].update(gone=r["drives"]["drive"])), "drive gone, which has no part"),
        (_summary(lambda r: r["drives"].clear()), "does not tell of drive drive"),
        (_summary(lambda r: r["drives"]["drive"]["sensors"]["lidar"].update(paired=9)), "lidar has 3, of which 9 are"),
        (_summary(lambda r: r["drives"]["drive"]["offsets_ms"]["camera"].update(max=40.0)), "max offset of camera is"),
        (lambda f: (f / "summary.json").unlink(), r"summary.json: cannot be read"),
        (lambda f: (f / "summary.json").write_text("{}"), r"summary.json: lacks what"),
        (lambda f: (f / "metadata.yaml").unlink(), r"metadata.yaml: cannot be read.*reindex"),
        (lambda f: (f / "metadata.yaml").write_text("a: 1"), r"metadata.yaml: is no metadata of rosbag2"),
        (_metadata(lambda m: m["relative_file_paths"].append("b_0.mcap")), "lists b_0.mcap, which is not here"),
        (_metadata(lambda m: m["relative_file_paths"].clear()), "does not list drive_0.mcap"),
        (_metadata(lambda m: m.update(message_count=1)), "message_count is 1, the parts have 18"),
        (_metadata(lambda m: m["files"][0].update(message_count=1)), "the counts under files"),
        (_metadata(lambda m: m["topics_with_message_count"][0].update(message_count=1)), "counts under topics"),
        (lambda f: (f / "drive_0.mcap.tmp").write_bytes(b""), r"drive_0.mcap.tmp: is an unfinished part.*again"),
        (lambda f: (f / "x.mcap").write_bytes(b""), r"x.mcap: is no part of frames"),
        (lambda f: (f / PART).unlink(), "holds no frames"),
    ],
)
def test_a_wrong_folder_is_found(frames: Path, mutate: Callable[[Path], None], message: str) -> None:
    mutate(frames)
    assert re.search(message, problems(frames))


def _swap(frame: Frame) -> Frame:
    """Ground takes the object's id and the object ground's."""
    table = np.arange(2**16, dtype=np.uint16)
    table[[1, 2]] = 2, 1
    return replace(frame, proposals=table[frame.proposals])


def _view(**changes: object) -> Callable[[Frame], Frame]:
    return lambda frame: replace(frame, views=(replace(frame.views[0], **changes),))


def _image(data: Callable[[bytes], bytes], late_ns: int = 0) -> Callable[[Frame], Frame]:
    def change(frame: Frame) -> Frame:
        image = frame.views[0].image
        new = EncodedImage(image.stamp_ns + late_ns, image.frame_id, image.format, data(image.data))
        return replace(frame, views=(replace(frame.views[0], image=new),))

    return change


def _nan(frame: Frame) -> Frame:
    xyz = frame.sweep.xyz.copy()
    xyz[0] = np.nan
    return replace(frame, sweep=replace(frame.sweep, xyz=xyz))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_swap, r"ground \(id 1\) lies above the objects"),
        (_swap, "regions do not lie where the points of their proposals are"),
        (lambda f: replace(f, proposals=np.where(f.proposals == 2, 9, f.proposals).astype(np.uint16)), "ids have gaps"),
        (lambda f: replace(f, proposals=np.where(f.proposals == 1, 0, f.proposals).astype(np.uint16)), "no point is g"),
        (lambda f: replace(f, proposals=np.minimum(f.proposals, 1)), "regions have ids that no proposal has"),
        (_nan, "points are not finite"),
        (_view(regions=np.ones((10, 12), np.uint16)), "regions are 12x10, the calibration 64x48"),
        (_view(T_image_sweep=np.full((4, 4), np.nan)), r"quaternion|no rigid transform"),
        (_image(lambda d: d[: len(d) // 2]), "the image cannot be decoded"),
        (_image(lambda d: d, 10**9), "further from the sweep's than pairing allows"),
    ],
)
def test_wrong_frames_are_found(frames: Path, change: Callable[[Frame], Frame], message: str) -> None:
    changed = [change(frame) for frame in FrameStore(frames).frames()]
    (frames / PART).unlink()
    with FrameWriter(frames, "drive") as writer:
        for frame in changed:
            writer.write(frame)
    found = problems(frames)
    assert re.search(message, found), found
    assert "3 frames, first" in found


def test_stamps_that_do_not_grow_are_found(frames: Path) -> None:
    first, second, third = FrameStore(frames).frames()
    (frames / PART).unlink()
    with FrameWriter(frames, "drive") as writer:
        for frame in (first, third, second):
            writer.write(frame)
    assert problems(frames) == f"drive: stamps do not grow (frame {second.stamp_ns}). " + (
        "Remove the part and record its drive again"
    )


def test_strays_and_small_regions_are_warnings(frames: Path) -> None:
    (frames / "notes.txt").write_text("mine")
    summary = check(frames, CheckOptions(least_share=99.9))
    assert summary.problems == () and len(summary.results["warnings"]) == 2
    assert "warning: drive/camera: regions cover" in summary.text and "notes.txt" in summary.text
    assert main(["check", str(frames)]) == 0


def test_a_missing_folder_costs_one_line(tmp_path: Path) -> None:
    with pytest.raises(DsegError, match="does not exist"):
        check(tmp_path / "none", CheckOptions())


def test_rigid_means_rotation_and_translation() -> None:
    assert is_rigid(np.eye(4))
    assert not is_rigid(np.diag([1.0, 1, -1, 1])) and not is_rigid(np.diag([2.0, 2, 2, 1]))


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xff\xd8\xff\xe0"])
def test_no_picture_is_told(data: bytes) -> None:
    with pytest.raises(DsegError, match="cannot be decoded"):
        picture_size(data)
