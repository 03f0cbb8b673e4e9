"""Teacher, constraint and student on toy frames, and what a run refuses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from dseg_core import student_from_teacher, teacher_from_labels
from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.networks.build import build_network
from dseg_core.networks.checkpoint import TrainedNetwork, load_network
from dseg_core.networks.curves import read_curves
from dseg_core.records import ViewKey
from dseg_core.stage_options import DeviceOptions, FitOptions, NetworkOptions, TargetOptions, TrainOptions
from dseg_core.student_from_teacher import targets_from_teacher, train

NETWORK = NetworkOptions(height=32, width=64, channels=8)
FIT = FitOptions(steps=100, batch=4, warmup=2, log_every=5, checkpoint_every=10)
OPTIONS = TrainOptions(network=NETWORK, teacher=FIT, student=FIT, device=DeviceOptions(accelerator="cpu", threads=1))


class Frames:
    """Six views of 64x128: a bright box (class 1, region 5) on dark ground (class 0, region 1), sky without region."""

    def __init__(self, folder: Path) -> None:
        self.view_keys = tuple(ViewKey("drive", stamp, "camera") for stamp in range(6))

    def draw(self, key: ViewKey) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(key.stamp_ns)
        regions = np.ones((64, 128), np.uint16)
        regions[:20] = 0
        x, y = random.integers(5, 90), random.integers(22, 40)
        regions[y : y + 20, x : x + 30] = 5
        image = random.normal(np.array([80, 60, 200])[np.where(regions == 5, 2, regions)][..., None], 10, (64, 128, 3))
        return np.clip(image, 0, 255).astype(np.uint8), regions

    def view(self, key: ViewKey) -> SimpleNamespace:
        image, regions = self.draw(key)
        return SimpleNamespace(image=image, regions=regions)


class Labels:
    changed = False

    def __init__(self, folder: Path, name: str) -> None:
        self.path, self.frames = folder / "labels" / name, Frames(folder)
        self.classes = ClassTable.of_clusters(1)

    def keys(self) -> tuple[ViewKey, ...]:
        return self.frames.view_keys[:5]

    def mask(self, key: ViewKey) -> np.ndarray:
        _, regions = self.frames.draw(key)
        mask = np.array([255, 0, 255, 255, 255, 1], np.uint8)[regions]
        if self.changed:
            mask[30, 30] = 255
        return mask


@pytest.fixture(autouse=True)
def frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_from_labels, "FrameStore", Frames)
    monkeypatch.setattr(teacher_from_labels, "LabelStore", Labels)
    monkeypatch.setattr(teacher_from_labels, "decode", lambda image: image)


def test_run_learns_resumes_and_refuses_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, out = tmp_path / "frames", tmp_path / "run"
    summary = train(frames, out, OPTIONS)
    assert "100 steps" in summary.text
    assert json.loads((out / "summary.json").read_text())["results"]["views"] == 5
    assert {p["phase"] for p in read_curves(out)} == {"teacher", "student"}
    assert not list((out / "checkpoints").iterdir())
    assert list((out / "tensorboard").iterdir())
    for which in ("teacher", "student"):
        trained = load_network(out, which)
        unseen, regions = Frames(frames).draw(ViewKey("drive", 5, "camera"))
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
    monkeypatch.setattr(Labels, "changed", True)
    with pytest.raises(DsegError, match="holds a run on other labels"):
        train(frames, out, OPTIONS)


def test_cut_off_in_the_student_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path, tmp_path / "whole", OPTIONS)
    with monkeypatch.context() as patch:

        def cut(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(student_from_teacher, "targets_from_teacher", cut)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, tmp_path / "parts", OPTIONS)
    summary = train(tmp_path, tmp_path / "parts", OPTIONS)
    assert "teacher was finished before" in summary.text
    whole, parts = ((tmp_path / run / "student.safetensors").read_bytes() for run in ("whole", "parts"))
    assert whole == parts


@pytest.mark.parametrize("targets", [TargetOptions(targets="hard", constraint="majority"), TargetOptions(ground=True)])
def test_other_targets_and_first_weights(tmp_path: Path, targets: TargetOptions) -> None:
    short = dataclasses.replace(OPTIONS, targets=targets, student=dataclasses.replace(FIT, steps=5))
    first: dict[str, float] = {}
    for weights in ("scratch", "teacher"):
        run = tmp_path / weights
        train(tmp_path, run, dataclasses.replace(short, student_from=weights))
        first[weights] = next(float(p["loss"]) for p in read_curves(run) if p["phase"] == "student")
    assert first["teacher"] < 0.9 * first["scratch"]  # begins with what the teacher knows


def untrained() -> TrainedNetwork:
    torch.manual_seed(0)
    network = build_network(NETWORK, 5).eval()
    torch.nn.init.normal_(network.head.weight, std=3)
    return TrainedNetwork(network, ClassTable.of_clusters(4), 32, 64, (0, 0, 0), (1, 1, 1))


def test_targets_are_one_inside_proposals_and_free_outside() -> None:
    image, regions = Frames(Path()).draw(ViewKey("drive", 2, "camera"))
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
    image, regions = Frames(Path()).draw(ViewKey("drive", 1, "camera"))
    options = TargetOptions(constraint="none")
    one = targets_from_teacher(untrained(), image, regions, options)
    other = targets_from_teacher(untrained(), image[:, ::-1].copy(), regions[:, ::-1].copy(), options)
    np.testing.assert_allclose(one, other[:, :, ::-1], atol=2e-3)
    alone = dataclasses.replace(options, flip=False)
    assert np.abs(one.astype(float) - targets_from_teacher(untrained(), image, regions, alone)).max() > 0.01


def test_temperature_softens() -> None:
    image, regions = Frames(Path()).draw(ViewKey("drive", 1, "camera"))
    sharp, soft = (
        targets_from_teacher(untrained(), image, regions, TargetOptions(temperature=t)).max(axis=0).mean()
        for t in (0.5, 4.0)
    )
    assert sharp > soft


def broken(change: Callable[[np.ndarray], np.ndarray]) -> type[Labels]:
    class Broken(Labels):
        def mask(self, key: ViewKey) -> np.ndarray:
            return change(super().mask(key))

    return Broken


def test_labels_beyond_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_from_labels, "LabelStore", broken(lambda mask: np.where(mask == 1, 7, mask)))
    with pytest.raises(DsegError, match=r"has class 7, classes.yaml only 2"):
        train(tmp_path, tmp_path / "run", OPTIONS)


def test_no_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Labels, "keys", lambda self: ())
    with pytest.raises(DsegError, match="no view of these frames has a pseudo-label mask"):
        train(tmp_path, tmp_path / "run", OPTIONS)
    assert not (tmp_path / "run").exists()
