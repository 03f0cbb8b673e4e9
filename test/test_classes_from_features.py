"""`dseg label` on frames made here: objects of three kinds that must come apart."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from dseg_core.cameras import Camera
from dseg_core.class_table import ClassTable
from dseg_core.classes_from_features import label, paint
from dseg_core.clusters import read_clusters
from dseg_core.contact_sheet import _brightened, choose
from dseg_core.errors import DsegError
from dseg_core.features_from_frames import features_from_frame
from dseg_core.frame_writer import FrameWriter
from dseg_core.image_codecs import encode
from dseg_core.label_store import LabelStore
from dseg_core.records import Frame, Sweep, View
from dseg_core.region_backbone import coverage, crop_window, load_backbone, pool
from dseg_core.stage_options import FeatureOptions, LabelOptions, StoreOptions

# kind: size [m], size [px], colour
KINDS = (((4.0, 1.8, 1.5), (30, 14), (40, 60, 180)), ((0.1, 0.1, 4.0), (4, 40), (90, 90, 90)),
         ((3.0, 3.0, 5.0), (26, 30), (40, 120, 40)))  # fmt: skip


def make_frame(drive: str, seed: int) -> tuple[Frame, np.ndarray]:
    """A frame with six objects; kinds (6,) of region 2, 3, ...; region 8 is tiny."""
    random = np.random.default_rng(seed)
    kinds = random.permutation([0, 0, 1, 1, 2, 2])
    xyz = [np.column_stack([random.uniform(-20, 20, (2000, 2)), np.full(2000, -1.7)])]
    rgb = np.full((80, 240, 3), 128, dtype=np.uint8)
    regions = np.zeros((80, 240), dtype=np.uint16)
    regions[60:] = 1
    for i, kind in enumerate(kinds):
        size, (width, height), color = KINDS[kind]
        xyz.append(random.uniform(0, 1, (200, 3)) * size + (8 + i, 3 * i - 8, -1.7))
        regions[60 - height : 60, 40 * i : 40 * i + width] = i + 2
        rgb[regions == i + 2] = color
    xyz.append(random.uniform((5, 0, 0), (5.2, 0.2, 0.2), (30, 3)))
    regions[0, :5] = 8
    noisy = np.clip(rgb + random.normal(0, 6, rgb.shape), 0, 255).astype(np.uint8)
    stamp = 10**9 * (seed + 1)
    proposals = np.repeat(np.arange(1, 9, dtype=np.uint16), [len(p) for p in xyz])
    camera = Camera.pinhole("front_optical", 240, 80, 100.0, 100.0, 120.0, 40.0)
    view = View("camera_front", encode(stamp, "front_optical", noisy, StoreOptions()), regions, camera, np.eye(4))
    sweep = Sweep(stamp, "lidar", np.concatenate(xyz).astype(np.float32))
    return Frame(drive, sweep, proposals, (view,)), kinds


def make_frames(folder: Path, seeds: range) -> Path:
    with FrameWriter(folder, "drive") as writer:
        for seed in seeds:
            writer.write(make_frame("drive", seed)[0])
    return folder


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_frames(tmp_path_factory.mktemp("frames") / "f", range(5))


OPTIONS = LabelOptions(clusters=3, samples=4)


def named(name: str, **changes: object) -> LabelOptions:
    return LabelOptions.from_mapping({"clusters": 3, "samples": 4, "name": name, **changes})


def kinds_of(mask: np.ndarray, seed: int) -> list[tuple[int, int]]:
    """(kind, label) of each object; a region has one label."""
    frame, kinds = make_frame("drive", seed)
    regions = frame.views[0].regions
    assert set(np.unique(mask[regions == 1])) == {0}
    assert set(np.unique(mask[(regions == 0) | (regions == 8)])) == {255}
    found = [np.unique(mask[regions == i + 2]) for i in range(6)]
    assert all(len(f) == 1 and 1 <= f[0] <= 3 for f in found)
    return [(int(k), int(f[0])) for k, f in zip(kinds, found, strict=True)]


def test_kinds_come_apart_and_masks_hold_the_ids(frames: Path) -> None:
    summary = label(frames, named("apart"))
    labels = LabelStore(frames, "apart")
    pairs = {p for seed, key in enumerate(labels.keys()) for p in kinds_of(labels.mask(key), seed)}
    assert len(pairs) == 3
    assert len({kind for kind, _ in pairs}) == len({cluster for _, cluster in pairs}) == 3
    assert summary.results["regions"] == 30
    assert summary.results["blocks"] == {"color": 14, "shape": 16}
    pixels = summary.results["pixels_per_cluster"]
    assert pixels == sorted(pixels, reverse=True)
    assert json.loads((labels.path / "summary.json").read_text())["results"]["regions"] == 30
    for name in ("contact_sheet.png", "contact_sheets/cluster_01.png", "contact_sheets/cluster_03.png"):
        assert cv2.imread(str(labels.path / name)).shape[1] > 400
    assert labels.classes == ClassTable.of_clusters(3)


def test_the_same_seed_gives_the_same_clusters(frames: Path) -> None:
    label(frames, named("one"))
    label(frames, named("two"))
    first, second = (read_clusters(frames / "labels" / name)[0] for name in ("one", "two"))
    assert np.array_equal(first.centroids, second.centroids)


def test_rerun_keeps_names_and_masks_but_repaints_what_is_missing(frames: Path) -> None:
    label(frames, named("names"))
    folder = frames / "labels" / "names"
    edited = (folder / "classes.yaml").read_text().replace("cluster_02", "pole")
    (folder / "classes.yaml").write_text(edited)
    masks = sorted(folder.glob("masks/*/*/*.png"))
    before = masks[0].read_bytes(), masks[1].stat().st_mtime_ns
    masks[0].unlink()
    summary = label(frames, named("names"))
    assert summary.results["masks_written"] == 1
    assert "measured before" in summary.text
    assert (folder / "classes.yaml").read_text() == edited
    assert (masks[0].read_bytes(), masks[1].stat().st_mtime_ns) == before
    changed = label(frames, named("names", clusters=2))
    assert changed.results["masks_written"] == 5
    assert (folder / "classes.previous_1.yaml").read_text() == edited
    assert "classes.previous_1.yaml" in changed.text
    assert "are few for" not in changed.text
    assert "30 regions are few for 4 clusters" in label(frames, named("many", clusters=4)).text
    again = label(frames, named("names", clusters=1))
    assert "previous" not in again.text, "nobody gave these names, and nothing replaces those that a person gave"
    assert (folder / "classes.previous_1.yaml").read_text() == edited


def test_clusters_of_other_frames_label_alike(frames: Path, tmp_path: Path) -> None:
    label(frames, named("source"))
    source = frames / "labels" / "source"
    names = source / "classes.yaml"
    names.write_text(names.read_text().replace("cluster_03", "pole"))
    label(frames, named("again", clusters_from=source, clusters=30))
    one, two = LabelStore(frames, "source"), LabelStore(frames, "again")
    keys = one.keys()
    assert len(keys) == 5
    assert all(np.array_equal(one.mask(key), two.mask(key)) for key in keys)
    assert two.classes.names[3] == "pole"
    fresh = make_frames(tmp_path / "fresh", range(5, 7))
    label(fresh, named("default", clusters_from=source, **{"features.blocks": "color"}))
    mapping = {p for s, k in enumerate(one.keys()) for p in kinds_of(one.mask(k), s)}
    held_out = LabelStore(fresh, "default")
    assert {p for s, k in enumerate(held_out.keys(), 5) for p in kinds_of(held_out.mask(k), s)} == mapping


def test_too_few_regions(frames: Path) -> None:
    with pytest.raises(DsegError, match=r"30 regions of at least 40 px are too few for 31 clusters\. Lower --clusters"):
        label(frames, named("few", clusters=31))


def test_clusters_from_itself_or_nowhere(frames: Path) -> None:
    with pytest.raises(DsegError, match="there are no clusters"):
        label(frames, named("x", clusters_from=frames / "labels" / "none"))
    with pytest.raises(DsegError, match="are the labels to write"):
        label(frames, named("x", clusters_from=frames / "labels" / "x"))


def test_regions_without_points_are_an_error() -> None:
    frame, _ = make_frame("drive", 0)
    frame = Frame(
        "drive", frame.sweep, np.where(frame.proposals == 4, 0, frame.proposals).astype(np.uint16), frame.views
    )
    with pytest.raises(DsegError, match="region 4 has no points"):
        features_from_frame(frame, FeatureOptions(), None)


def test_paint() -> None:
    regions = np.array([[0, 1, 2], [3, 4, 2]], dtype=np.uint16)
    assert paint(regions, np.array([2, 4]), np.array([0, 6])).tolist() == [[255, 0, 1], [255, 7, 1]]


def test_samples_are_distinct_and_far_apart_in_drive_and_time() -> None:
    """Four drives of 2 s at 10 Hz, two regions a frame: eight samples are two of each drive, more than half a second
    apart, and the first is the most typical."""
    drive = np.repeat(np.arange(4), 40)
    stamp = np.tile(np.repeat(np.arange(20), 2), 4) * 100_000_000
    distance = np.random.default_rng(1).permutation(160).astype(np.float32)
    rows = choose(stamp, drive, distance, 8, np.random.default_rng(0))
    assert len(set(rows)) == 8 and rows[0] == distance.argmin()
    assert sorted(drive[rows[:4]]) == [0, 1, 2, 3] and np.bincount(drive[rows]).tolist() == [2] * 4
    for one in range(4):
        first, second = stamp[rows[drive[rows] == one]]
        assert abs(first - second) > 5e8
    assert (distance[rows[::2]] < 160 / 3 + 1).all()


def test_every_region_is_a_sample_when_there_are_few() -> None:
    same = np.zeros(20, np.int64)
    assert sorted(choose(same, same, np.zeros(20, np.float32), 50, np.random.default_rng(0))) == list(range(20))
    assert len(choose(same, same, np.zeros(20, np.float32), 7, np.random.default_rng(0))) == 7
    assert len(choose(same[:0], same[:0], np.zeros(0, np.float32), 7, np.random.default_rng(0))) == 0


def test_dark_crops_are_brightened_and_bright_ones_left_alone() -> None:
    dark = np.linspace(0, 60, 192).astype(np.uint8).reshape(8, 8, 3)
    lifted = _brightened(dark)
    assert np.median(lifted) > 2 * np.median(dark) and (np.diff(lifted.ravel().astype(int)) >= 0).all()
    bright = np.full((4, 4, 3), 128, np.uint8)
    assert np.array_equal(_brightened(bright), bright)


def test_crop_windows_are_square_and_inside() -> None:
    assert crop_window(np.array([10, 0, 20, 40]), (100, 200), 0.0) == (0, 0, 40, 40)
    assert crop_window(np.array([0, 20, 200, 60]), (100, 200), 0.1) == (0, 0, 200, 100)


def test_pooling_equals_a_loop() -> None:
    random = np.random.default_rng(0)
    mask = random.random((28, 28)) > 0.6
    maps = random.normal(size=(1, 5, 7, 7)).astype(np.float32)
    covered = coverage(mask, (7, 7))
    expected = np.zeros(5)
    for y in range(28):
        for x in range(28):
            if mask[y, x]:
                expected += maps[0, :, y // 4, x // 4]
    assert pool(maps, covered[None])[0] == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)


def test_backbone_from_a_file(frames: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    name = "vit_tiny_patch16_224"
    network = timm.create_model(name, pretrained=False, img_size=64)
    weights = tmp_path / "tiny.safetensors"
    save_file(network.state_dict(), weights)
    wrong = FeatureOptions(blocks=("image",), backbone=name, backbone_weights=tmp_path / "none.safetensors")
    with pytest.raises(DsegError, match=r"cannot be read.*leave image out"):
        load_backbone(wrong)
    other = FeatureOptions(blocks=("image",), backbone="vit_small_patch16_224", backbone_weights=weights)
    with pytest.raises(DsegError, match="does not fit vit_small_patch16_224"):
        load_backbone(other)
    with pytest.raises(DsegError, match="timm has no backbone nonsense"):
        load_backbone(FeatureOptions(backbone="nonsense"))


def test_image_block_labels(frames: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", pretrained=False)
    save_file(network.state_dict(), tmp_path / "tiny.safetensors")
    features = {
        "blocks": "image,shape", "backbone": "vit_tiny_patch16_224", "crop_size": 64, "device": "cpu",
        "backbone_weights": tmp_path / "tiny.safetensors",
    }  # fmt: skip
    summary = label(frames, named("image", features=features))
    assert summary.results["blocks"] == {"image": 192, "shape": 16}
    assert "image (weight 1), shape (weight 1)" in summary.text
