"""Real drives through the whole chain: record, label, train, export, segment. Skipped where they are not at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from dseg_core.cli import main
from dseg_core.label_store import LabelStore
from dseg_core.records import REGION_GROUND, UNLABELLED
from dseg_core.store import FrameStore

SMALL_TRAINING = [
    *("--network.width", "320", "--network.height", "96", "--network.channels", "8"),
    *("--teacher.steps", "20", "--student.steps", "20"),
]


@pytest.fixture(scope="module")
def kitti_frames(kitti_bag: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = tmp_path_factory.mktemp("kitti") / "frames"
    assert main(["record", str(kitti_bag), "--out", str(frames), "--every", "5"]) == 0
    return frames


def test_things_of_a_street_come_out_apart(kitti_frames: Path) -> None:
    """The first picture, by hand: the car ahead, the red van left of it, the lorry, a far car, road."""
    store = FrameStore(kitti_frames)
    regions = store.view(store.view_keys[0]).regions
    at = {"car ahead": (630, 265), "red van": (420, 195), "lorry": (900, 220), "far car": (714, 200)}
    ids = {name: _id_around(regions, u, v) for name, (u, v) in at.items()}
    assert all(identity > REGION_GROUND for identity in ids.values()), ids
    assert len(set(ids.values())) == len(ids), ids
    assert _id_around(regions, 480, 320) == _id_around(regions, 700, 330) == REGION_GROUND
    assert not regions[:60, :900].any(), "sky and the bridge above the LiDAR's reach are no region"


def _id_around(regions: np.ndarray, u: int, v: int) -> int:
    """The most frequent id within 4 pixels."""
    ids, counts = np.unique(regions[v - 4 : v + 5, u - 4 : u + 5], return_counts=True)
    return int(ids[np.argmax(counts)])


def test_kitti_from_bag_to_masks(kitti_bag: Path, kitti_frames: Path, tmp_path: Path) -> None:
    run, masks = tmp_path / "run", tmp_path / "masks"
    assert main(["label", str(kitti_frames), "--clusters", "12"]) == 0
    store, labels = FrameStore(kitti_frames), LabelStore(kitti_frames, "default")
    assert labels.keys() == store.view_keys
    for key in store.view_keys:
        mask, regions = labels.mask(key), store.view(key).regions
        assert ((mask == 0) == (regions == REGION_GROUND)).all()
        assert (mask[regions == 0] == UNLABELLED).all()
        assert len(np.unique(mask)) > 4
    assert main(["train", str(kitti_frames), "--out", str(run), *SMALL_TRAINING]) == 0
    assert main(["export", str(run)]) == 0
    assert main(["segment", str(run / "model.onnx"), str(kitti_bag), "--out", str(masks)]) == 0
    with AnyReader([kitti_bag]) as source, AnyReader([masks / "masks_bag"]) as made:
        images = [c for c in source.connections if c.topic == "/camera/front/image_raw"]
        answers = [c for c in made.connections if c.topic == "/camera_front/mask"]
        sent = [source.deserialize(raw, c.msgtype) for c, _, raw in source.messages(images)]
        got = [made.deserialize(raw, c.msgtype) for c, _, raw in made.messages(answers)]
    assert len(got) == len(sent) == 40
    for one, other in zip(sent, got, strict=True):
        assert (one.header.stamp, one.header.frame_id) == (other.header.stamp, other.header.frame_id)  # type: ignore[attr-defined]
        assert (one.height, one.width, other.encoding) == (other.height, other.width, "mono8")  # type: ignore[attr-defined]


def test_nuscenes_gives_a_frame_of_six_cameras(nuscenes_bag: Path, tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    assert main(["record", str(nuscenes_bag), "--out", str(frames)]) == 0
    assert main(["label", str(frames), "--clusters", "8"]) == 0
    store = FrameStore(frames)
    (key,) = store.frame_keys
    frame = store.frame(*key)
    assert [view.camera for view in frame.views] == [
        *("cam_back", "cam_back_left", "cam_back_right", "cam_front", "cam_front_left", "cam_front_right")
    ]
    for view in frame.views:
        assert abs(view.stamp_ns - frame.stamp_ns) <= 50_000_000
        assert (view.regions == REGION_GROUND).mean() > 0.2
        assert len(np.unique(view.regions)) > 4
