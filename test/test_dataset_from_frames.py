"""What `dseg export-frames` writes is read back by the tools that it is for, and by formats' own readers."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections import Counter
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from bags import write_bag
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from dseg_core.cameras import Camera
from dseg_core.class_table import ClassTable
from dseg_core.dataset_formats import WebdatasetWriter, cityscapes_camera
from dseg_core.dataset_from_frames import _safe_names, export_frames, val_drives
from dseg_core.errors import DsegError
from dseg_core.frames_from_bag import record
from dseg_core.image_codecs import decode
from dseg_core.label_store import LabelStore
from dseg_core.records import UNLABELLED, View
from dseg_core.stage_options import ExportFramesOptions, RecordOptions
from dseg_core.store import FrameStore

DRIVES = ("a_city", "b.city", "c_city")


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drives; clusters 1 and 3 are both called car, cluster 2 tree, the first column is unlabelled."""
    folder = tmp_path_factory.mktemp("recorded")
    record([write_bag(folder / drive) for drive in DRIVES], folder / "frames", RecordOptions())
    labels = LabelStore(folder / "frames", "mine")
    for key in FrameStore(folder / "frames").view_keys:
        labels.write_mask(key, _mask())
    colors = [(1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4)]
    ClassTable.of_names(["ground", "car", "tree", "car"], colors).write(labels.path / "classes.yaml")
    return folder / "frames"


def _mask() -> NDArray[np.uint8]:
    mask = np.tile(np.repeat(np.arange(4, dtype=np.uint8), 16), (48, 1))  # stripes of ids 0, 1, 2, 3
    mask[:, 0] = UNLABELLED
    return mask


def _expected() -> NDArray[np.uint8]:
    """By name: ground 0, car 1, tree 2."""
    expected = _mask()
    expected[expected == 3] = 1
    return expected


def options(**values: Any) -> ExportFramesOptions:
    return ExportFramesOptions(**{"labels": "mine", **values})


def test_torchvision_reads_cityscapes(frames: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    summary = export_frames(frames, tmp_path / "set", options())
    assert summary.results["views"] == {"train": 6, "val": 3} and len(summary.results["val_drives"]) == 1
    assert summary.results["renamed_drives"] == {"a_city": "a-city", "b.city": "b-city", "c_city": "c-city"}
    assert "3 names changed: a_city to a-city, b.city to b-city, c_city to c-city." in summary.text
    store, seen = FrameStore(frames), set()
    for split in ("train", "val"):
        read = datasets.Cityscapes(str(tmp_path / "set"), split, "fine", ["semantic", "instance"])
        for path, (image, (semantic, instance)) in zip(read.images, read, strict=True):
            about = json.loads(Path(path.replace("leftImg8bit", "camera").replace(".png", ".json")).read_text())["dseg"]
            view = next(
                store.view(key)
                for key in store.view_keys
                if (key.drive, key.stamp_ns) == (about["drive"], about["stamp_ns"])
            )
            assert np.array_equal(np.asarray(image), decode(view.image))
            assert np.array_equal(np.asarray(semantic), _expected())
            assert np.array_equal(np.asarray(instance), view.regions) and view.regions.max() >= 2
            assert np.array_equal(about["T_image_sweep"], view.T_image_sweep)
            assert (about["drive"] in summary.results["val_drives"]) == (split == "val")
            seen.add((about["drive"], about["stamp_ns"]))
    assert len(seen) == 9
    classes = json.loads((tmp_path / "set" / "classes.json").read_text())
    assert [row["name"] for row in classes["classes"]] == ["ground", "car", "tree"]


def test_cityscapesscripts_splits_the_names(frames: Path, tmp_path: Path) -> None:
    helpers = pytest.importorskip("cityscapesscripts.helpers.csHelpers")
    export_frames(frames, tmp_path / "set", options())
    for path in (tmp_path / "set").rglob("*labelIds.png"):
        info = helpers.getCsFileInfo(str(path))
        assert (info.city, info.frameNb, info.type, info.type2) == (path.parent.name, "camera", "gtFine", "labelIds")
        image = path.name.replace("gtFine_labelIds", "leftImg8bit")
        assert helpers.getCoreImageFileName(image) == helpers.getCoreImageFileName(path.name)


def test_cityscapes_camera_is_in_its_axes(frames: Path) -> None:
    """A camera 1.5 m ahead and 0.2 m up, turned left by 0.3 and looking down by 0.1."""
    view: View = FrameStore(frames).view(FrameStore(frames).view_keys[0])
    yaw, pitch = 0.3, 0.1
    forward = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), -np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    T = np.eye(4)  # the optical frame (x right, y down, z forward) in the LiDAR's
    T[:3, :3], T[:3, 3] = np.stack([right, np.cross(forward, right), forward], axis=1), (1.5, 0.0, 0.2)
    made = cityscapes_camera(replace(view, T_image_sweep=np.linalg.inv(T)))
    assert made["extrinsic"] == pytest.approx(
        {"baseline": 0, "yaw": 0.3, "pitch": 0.1, "roll": 0, "x": 1.5, "y": 0, "z": 0.2}, abs=1e-9
    )
    K = view.calibration.matrix
    assert made["intrinsic"] == {"fx": K[0, 0], "fy": K[1, 1], "u0": K[0, 2], "v0": K[1, 2]}


def test_cityscapes_camera_projects_as_the_calibration(frames: Path) -> None:
    """By the formula of Cityscapes' own csCalibration: also for the turned right camera of a rectified stereo pair."""
    view = next(iter(FrameStore(frames).frames())).views[0]
    P = np.array([[300.0, 0, 320, -150], [0, 310, 240, 0], [0, 0, 1, 0]])
    R = Rotation.from_euler("xyz", [0.03, -0.05, 0.02]).as_matrix()
    right = Camera("camera", 640, 480, np.eye(3), "plumb_bob", np.zeros(5), R, P, rectified=True)
    made = cityscapes_camera(replace(view, calibration=right))
    place, lens = made["extrinsic"], made["intrinsic"]
    sy, cy, sp, cp = (f(place[angle]) for angle in ("yaw", "pitch") for f in (np.sin, np.cos))
    sr, cr = np.sin(place["roll"]), np.cos(place["roll"])
    R_vehicle_camera = np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )
    points = np.random.default_rng(0).uniform([5, -3, -3], [20, 3, 3], (50, 3))  # in the sweep's frame
    x, y, z = ((points - [place["x"], place["y"], place["z"]]) @ R_vehicle_camera).T  # forward, left, up
    uv, seen = right.project(points @ view.T_image_sweep[:3, :3].T + view.T_image_sweep[:3, 3])
    assert seen.sum() > 20
    np.testing.assert_allclose(uv[:, 0], lens["u0"] - lens["fx"] * y / x, atol=1e-6)
    np.testing.assert_allclose(uv[:, 1], lens["v0"] - lens["fy"] * z / x, atol=1e-6)


def test_webdataset_reads_shards(frames: Path, tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    export_frames(frames, tmp_path / "set", options(format="webdataset", points=True))
    samples = list(wds.WebDataset(str(tmp_path / "set/train/000000.tar"), shardshuffle=False))
    decoded = list(
        wds.WebDataset(str(tmp_path / "set/train/000000.tar"), shardshuffle=False).decode(
            "pil", only=["jpg", "png", "json", "npy", "points.npy", "proposals.npy"]
        )
    )
    assert len(samples) == len(decoded) == 6
    store = FrameStore(frames)
    for raw, sample in zip(samples, decoded, strict=True):
        about = sample["json"]
        frame = store.frame(about["drive"], about["stamp_ns"])
        assert raw["jpg"] == frame.views[0].image.data  # as recorded
        assert np.array_equal(PIL.Image.open(BytesIO(raw["labels.png"])), _expected())
        assert np.array_equal(PIL.Image.open(BytesIO(raw["regions.png"])), frame.views[0].regions)
        assert np.array_equal(np.load(BytesIO(raw["points.npy"])), frame.sweep.xyz)
        assert np.array_equal(np.load(BytesIO(raw["proposals.npy"])), frame.proposals)
        assert sample["jpg"].size == (64, 48) and isinstance(sample["regions.png"], bytes)


def test_shards_are_the_same_bytes_and_hold_whole_samples(frames: Path, tmp_path: Path) -> None:
    first, second = (tmp_path / name for name in "ab")
    for out in (first, second):
        export_frames(frames, out, options(format="webdataset"))
    tars = sorted(path.relative_to(first) for path in first.rglob("*.tar"))
    assert [str(t) for t in tars] == ["train/000000.tar", "val/000000.tar"]
    assert all((first / tar).read_bytes() == (second / tar).read_bytes() for tar in tars)
    with tarfile.open(first / tars[0]) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == sorted(m.name for m in members)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}


def test_a_full_shard_ends_between_samples(frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = WebdatasetWriter.__init__
    monkeypatch.setattr(WebdatasetWriter, "__init__", lambda self, out, size: made(self, out, 1))
    export_frames(frames, tmp_path / "set", options(format="webdataset"))
    shards = sorted((tmp_path / "set/train").glob("*.tar"))
    assert [path.name for path in shards] == [f"{i:06d}.tar" for i in range(6)]
    for path in shards:
        with tarfile.open(path) as tar:
            assert len({name.split(".")[0] for name in tar.getnames()}) == 1 and len(tar.getnames()) == 4


def test_drives_with_long_names_have_shards(tmp_path: Path) -> None:
    """A member's name has the drive's, a stamp and the camera's: more than the 100 bytes of the first tar files."""
    name = "night-rain-" * 12
    record([write_bag(tmp_path / name)], tmp_path / "frames", RecordOptions())
    export_frames(tmp_path / "frames", tmp_path / "set", options(labels=None, format="webdataset"))
    with tarfile.open(tmp_path / "set/train/000000.tar", "r|") as tar:
        kinds = Counter(member.name.partition(".")[::2] for member in tar)
    store = FrameStore(tmp_path / "frames")
    keys = {f"{name.strip('-')}_{key.stamp_ns}_{key.camera}" for key in store.view_keys}
    assert kinds == Counter((key, kind) for key in keys for kind in ("jpg", "json", "regions.png"))


def test_without_labels(frames: Path, tmp_path: Path) -> None:
    with pytest.raises(DsegError, match=r"no such labels.*`dseg label FRAMES` makes them"):
        export_frames(frames, tmp_path / "set", options(labels="default"))
    assert not (tmp_path / "set").exists()
    summary = export_frames(frames, tmp_path / "set", options(labels="none"))
    assert "No labels" in summary.text
    assert not list((tmp_path / "set").rglob("*labelIds*")) and list((tmp_path / "set").rglob("*instanceIds.png"))


def test_views_without_a_mask_are_counted(frames: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(frames, tmp_path / "frames"))
    next((own / "labels/mine/masks").rglob("*.png")).unlink()
    summary = export_frames(own, tmp_path / "set", options())
    assert summary.results["left_out"] == 1 and "1 view without pseudo-labels left out" in summary.text
    assert len(list((tmp_path / "set").rglob("*leftImg8bit.png"))) == 8


def test_it_is_there_whole_or_not_at_all(frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "set"
    with monkeypatch.context() as patch:
        calls: list[int] = []

        def fail(view: View) -> Any:
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return cityscapes_camera(view)

        patch.setattr("dseg_core.dataset_formats.cityscapes_camera", fail)
        with pytest.raises(KeyboardInterrupt):
            export_frames(frames, out, options())
    assert not out.exists()
    left = tmp_path / ".set.unfinished" / "stray.png"
    left.write_bytes(b"of the run before")
    export_frames(frames, out, options())
    assert [path.name for path in tmp_path.iterdir()] == ["set"] and not list(out.rglob("stray.png"))
    assert sorted(path.name for path in out.iterdir()) == [
        "camera", "classes.json", "gtFine", "leftImg8bit", "summary.json",
    ]  # fmt: skip
    assert "was made before" in export_frames(frames, out, options()).text
    with pytest.raises(DsegError, match="data set of other frames, labels or options"):
        export_frames(frames, out, options(val_share=0.5))


def test_what_others_wrote_is_left_alone(frames: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DsegError, match="holds something else"):
        export_frames(frames, tmp_path, options())
    with pytest.raises(DsegError, match="lies in the frames"):
        export_frames(frames, frames / "set", options())


def test_a_png_stays_as_it_was_recorded(tmp_path: Path) -> None:
    recorded = RecordOptions.from_mapping({"store.image_format": "png"})
    record([write_bag(tmp_path / "drive")], tmp_path / "frames", recorded)
    export_frames(tmp_path / "frames", tmp_path / "set", options(labels="none"))
    images = sorted((tmp_path / "set/leftImg8bit/train/drive").iterdir())
    store = FrameStore(tmp_path / "frames")
    assert [path.read_bytes() for path in images] == [store.view(key).image.data for key in store.view_keys]
    assert cv2.imread(str(images[0])).shape == (48, 64, 3)


def test_names_keep_apart() -> None:
    assert _safe_names(["a.b", "a_b", "ü", "../x"]) == {"a.b": "a-b", "a_b": "a-b-2", "ü": "unnamed", "../x": "x"}


@pytest.mark.parametrize(("drives", "share", "wanted"), [(1, 0.2, 0), (1, 1, 1), (2, 0.01, 1), (10, 0.2, 2), (9, 0, 0)])
def test_whole_drives_are_for_validation(drives: int, share: float, wanted: int) -> None:
    names = [f"drive_{i}" for i in range(drives)]
    assert len(val_drives(names, share)) == wanted
    assert val_drives(names[::-1], share) == val_drives(names, share) <= set(names)
