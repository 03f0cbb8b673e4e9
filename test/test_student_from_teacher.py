"""Teacher, constraint and student on toy frames, and what a run refuses."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dseg_core import student_from_teacher
from dseg_core.cameras import Camera
from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.frame_writer import FrameWriter
from dseg_core.image_codecs import encode
from dseg_core.label_store import LabelStore
from dseg_core.networks.build import build_network
from dseg_core.networks.checkpoint import TrainedNetwork, load_network
from dseg_core.networks.curves import read_curves
from dseg_core.records import Frame, Sweep, View, ViewKey
from dseg_core.stage_options import DeviceOptions, FitOptions, NetworkOptions, StoreOptions, TargetOptions, TrainOptions
from dseg_core.student_from_teacher import targets_from_teacher, train

NETWORK = NetworkOptions(height=32, width=64, channels=8)
FIT = FitOptions(steps=100, batch=4, warmup=2, log_every=5, checkpoint_every=10)
OPTIONS = TrainOptions(network=NETWORK, teacher=FIT, student=FIT, device=DeviceOptions(accelerator="cpu", threads=1))


def draw(index: int) -> tuple[np.ndarray, np.ndarray]:
    """64x128: a bright box (region 5, class 1) on dark ground (region 1, class 0), sky without region."""
    random = np.random.default_rng(index)
    regions = np.ones((64, 128), np.uint16)
    regions[:20] = 0
    x, y = random.integers(5, 90), random.integers(22, 40)
    regions[y : y + 20, x : x + 30] = 5
    image = random.normal(np.array([80, 60, 200])[np.where(regions == 5, 2, regions)][..., None], 10, (64, 128, 3))
    return np.clip(image, 0, 255).astype(np.uint8), regions


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames, five of them with a mask."""
    folder = tmp_path_factory.mktemp("frames")
    store = StoreOptions(image_format="png")
    labels = LabelStore(folder, "default")
    with FrameWriter(folder, "drive") as writer:
        for index in range(6):
            image, regions = draw(index)
            camera = Camera.pinhole("optical", 128, 64, 100.0, 100.0, 63.5, 31.5)
            view = View("front", encode(index + 1, "optical", image, store), regions, camera, np.eye(4))
            sweep = Sweep(index + 1, "lidar", np.ones((3, 3), np.float32))
            writer.write(Frame("drive", sweep, np.zeros(3, np.uint16), (view,)))
            if index < 5:
                mask = np.array([255, 0, 255, 255, 255, 1], np.uint8)[regions]
                labels.write_mask(ViewKey("drive", index + 1, "front"), mask)
    ClassTable.of_clusters(1).write(labels.path / "classes.yaml")
    return folder


@pytest.fixture
def frames(recorded: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(recorded, tmp_path / "frames"))


def change_mask(frames: Path, value: int) -> None:
    labels, key = LabelStore(frames, "default"), ViewKey("drive", 1, "front")
    mask = labels.mask(key).copy()
    mask[30, 30] = value
    labels.write_mask(key, mask)


def test_run_learns_resumes_and_refuses_others(frames: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    summary = train(frames, out, OPTIONS)
    assert "100 steps" in summary.text
    assert json.loads((out / "summary.json").read_text())["results"]["views"] == 5
    assert {p["phase"] for p in read_curves(out)} == {"teacher", "student"}
    assert not list((out / "checkpoints").iterdir())
    assert list((out / "tensorboard").iterdir())
    for which in ("teacher", "student"):
        trained = load_network(out, which)
        unseen, regions = draw(5)
        still = TargetOptions(targets="hard", constraint="none")
        found = targets_from_teacher(trained, unseen, regions, still)
        truth = cv2.resize(regions, (16, 8), interpolation=cv2.INTER_NEAREST_EXACT)
        assert (found == (truth == 5))[truth > 0].mean() > 0.9, which
        assert (found[truth == 5] == 1).mean() > 0.6, which

    weights = (out / "student.safetensors").read_bytes()
    assert "was finished before" in train(frames, out, OPTIONS).text
    assert (out / "student.safetensors").read_bytes() == weights
    with pytest.raises(DsegError, match=r"holds a run with student.steps = 100, not 30"):
        train(frames, out, dataclasses.replace(OPTIONS, student=dataclasses.replace(FIT, steps=30)))
    with pytest.raises(DsegError, match=r"holds a run with targets.support = 4, not 9"):
        train(frames, out, dataclasses.replace(OPTIONS, targets=TargetOptions(support=9)))
    train(frames, out, dataclasses.replace(OPTIONS, device=DeviceOptions(accelerator="cpu", cache=0.0)))
    change_mask(frames, 255)
    with pytest.raises(DsegError, match="holds a run on other labels"):
        train(frames, out, OPTIONS)


def test_cut_off_in_the_student_goes_on(frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(frames, tmp_path / "whole", OPTIONS)
    with monkeypatch.context() as patch:

        def cut(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(student_from_teacher, "targets_from_teacher", cut)
        with pytest.raises(KeyboardInterrupt):
            train(frames, tmp_path / "parts", OPTIONS)
    summary = train(frames, tmp_path / "parts", OPTIONS)
    assert "teacher was finished before" in summary.text
    whole, parts = ((tmp_path / run / "student.safetensors").read_bytes() for run in ("whole", "parts"))
    assert whole == parts


@pytest.mark.parametrize("targets", [TargetOptions(targets="hard", constraint="majority"), TargetOptions(ground=True)])
def test_other_targets_and_first_weights(frames: Path, tmp_path: Path, targets: TargetOptions) -> None:
    short = dataclasses.replace(OPTIONS, targets=targets, student=dataclasses.replace(FIT, steps=5))
    first: dict[str, float] = {}
    for weights in ("scratch", "teacher"):
        run = tmp_path / weights
        train(frames, run, dataclasses.replace(short, student_from=weights))
        first[weights] = next(float(p["loss"]) for p in read_curves(run) if p["phase"] == "student")
    assert first["teacher"] < 0.9 * first["scratch"]  # begins with what the teacher knows


def untrained() -> TrainedNetwork:
    torch.manual_seed(0)
    network = build_network(NETWORK, 5).eval()
    torch.nn.init.normal_(network.head.weight, std=3)
    return TrainedNetwork(network, ClassTable.of_clusters(4), 32, 64, (0, 0, 0), (1, 1, 1))


def test_targets_are_one_inside_proposals_and_free_outside() -> None:
    image, regions = draw(2)
    free = targets_from_teacher(untrained(), image, regions, TargetOptions(constraint="none"))
    bound = targets_from_teacher(untrained(), image, regions, TargetOptions())
    cells = regions[4::8, 4::8]  # stride 4 of an input half as large
    inside = bound[:, cells == 5]
    assert bound.dtype == np.float16
    assert bound.shape == (5, 8, 16)
    assert (inside == inside[:, :1]).all()
    np.testing.assert_allclose(inside[:, 0], free[:, cells == 5].astype(float).mean(axis=1), atol=2e-3)
    np.testing.assert_array_equal(bound[:, cells != 5], free[:, cells != 5])
    np.testing.assert_allclose(bound.astype(float).sum(axis=0), 1, atol=5e-3)


def test_mirrored_image_gives_mirrored_targets_when_both_are_averaged() -> None:
    image, regions = draw(1)
    options = TargetOptions(constraint="none")
    one = targets_from_teacher(untrained(), image, regions, options)
    other = targets_from_teacher(untrained(), image[:, ::-1].copy(), regions[:, ::-1].copy(), options)
    np.testing.assert_allclose(one, other[:, :, ::-1], atol=2e-3)
    alone = dataclasses.replace(options, flip=False)
    assert np.abs(one.astype(float) - targets_from_teacher(untrained(), image, regions, alone)).max() > 0.01


def test_temperature_softens() -> None:
    image, regions = draw(1)
    sharp, soft = (
        targets_from_teacher(untrained(), image, regions, TargetOptions(temperature=t)).max(axis=0).mean()
        for t in (0.5, 4.0)
    )
    assert sharp > soft


def test_labels_beyond_the_table(frames: Path, tmp_path: Path) -> None:
    change_mask(frames, 7)
    with pytest.raises(DsegError, match=r"has class 7, classes.yaml only 2"):
        train(frames, tmp_path / "run", OPTIONS)


def test_size_comes_from_the_frames_and_a_squeezed_one_is_told(frames: Path, tmp_path: Path) -> None:
    """The frames' images are twice as wide as high."""
    short = dataclasses.replace(FIT, steps=1)
    auto = dataclasses.replace(
        OPTIONS, teacher=short, student=short, network=dataclasses.replace(NETWORK, height=0, width=128)
    )
    summary = train(frames, tmp_path / "run", auto)
    assert "at 128x64; the run" in summary.text and "WARNING" not in summary.text
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (described["height"], described["width"]) == (64, 128) and described["options"]["network"]["height"] == 64
    assert "finished before" in train(frames, tmp_path / "run", auto).text
    square = dataclasses.replace(auto, network=dataclasses.replace(NETWORK, height=64, width=64))
    assert "WARNING: 128x64 stretched to 64x64" in train(frames, tmp_path / "square", square).text


def test_frames_are_not_written_into(frames: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "summary.json").write_text('{"command": "record", "results": {"drives": {}}}')
    before = (other / "summary.json").read_bytes()
    for out, message in ((frames, "is what is read"), (other, "holds what `dseg record` made")):
        with pytest.raises(DsegError, match=message):
            train(frames, out, OPTIONS)
        assert not (out / "run.json").exists()
    assert (other / "summary.json").read_bytes() == before


def test_no_masks(frames: Path, tmp_path: Path) -> None:
    shutil.rmtree(frames / "labels" / "default" / "masks")
    with pytest.raises(DsegError, match="no view of these frames has a pseudo-label mask"):
        train(frames, tmp_path / "run", OPTIONS)
    assert not (tmp_path / "run").exists()
