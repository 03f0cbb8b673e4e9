"""The training loop on toy images: it learns, resumes to the bit, and stops when numbers break."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.networks import trainer
from dseg_core.networks.augmentation import normalise
from dseg_core.networks.build import build_network
from dseg_core.networks.checkpoint import RunDescription, load_network, read_tensors
from dseg_core.networks.curves import read_curves
from dseg_core.networks.training import Fit, FitResult, _fabric, fit, pick_device, train_on_masks
from dseg_core.stage_options import AugmentationOptions, DeviceOptions, FitOptions, NetworkOptions, TrainOptions

SIZE = (64, 128)
NETWORK = NetworkOptions(height=SIZE[0], width=SIZE[1], channels=8)
TINY = NetworkOptions(height=32, width=64, channels=8)


class Toys:
    """Grey noise with red discs (1), green boxes (2) over ground (0); above the horizon nothing is labelled."""

    def __init__(self, count: int, seed: int, labelled: float = 1.0) -> None:
        self.seed, self.count, self.labelled = seed, count, labelled

    def __len__(self) -> int:
        return self.count

    def _draw(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng((self.seed, index))
        image = random.normal(120, 25, (*SIZE, 3))
        mask = np.zeros(SIZE, np.uint8)
        for label in (1, 2):
            for _ in range(2):
                x, y = int(random.integers(10, SIZE[1] - 10)), int(random.integers(24, SIZE[0] - 8))
                shape = np.zeros(SIZE, np.uint8)
                if label == 1:
                    cv2.circle(shape, (x, y), int(random.integers(6, 12)), 1, -1)
                else:
                    cv2.rectangle(shape, (x - 7, y - 9), (x + 7, y + 9), 1, -1)
                mask[shape > 0] = label
        for label, shift in ((1, (60, -30, -30)), (2, (-30, 60, -30))):
            image[mask == label] += shift
        return np.clip(image, 0, 255).astype(np.uint8), mask

    def image(self, index: int) -> np.ndarray:
        return self._draw(index)[0]

    def truth(self, index: int) -> np.ndarray:
        return self._draw(index)[1]

    def target(self, index: int) -> np.ndarray:
        mask = self.truth(index)
        mask[: SIZE[0] // 4] = 255
        return mask

    def regions(self, index: int) -> np.ndarray | None:
        return None


def options(**changes: object) -> FitOptions:
    return dataclasses.replace(FitOptions(steps=12, batch=2, warmup=2, log_every=3, checkpoint_every=4), **changes)


def what(**changes: object) -> Fit:
    return dataclasses.replace(
        Fit("teacher", TINY, 3, options(ema=0.9), DeviceOptions(accelerator="cpu", threads=1), 0), **changes
    )


def iou(network: torch.nn.Module, toys: Toys) -> float:
    confusion = np.zeros((3, 3))
    for index in range(len(toys)):
        image = torch.from_numpy(toys.image(index)).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            found = network(normalise(image)).argmax(1)[0].numpy()
        truth = toys.truth(index)[2::4, 2::4]
        np.add.at(confusion, (truth.ravel(), found.ravel()), 1)
    hits = np.diag(confusion)
    return float((hits / (confusion.sum(0) + confusion.sum(1) - hits)).mean())


def test_learns_shapes_it_has_not_seen(tmp_path: Path) -> None:
    trained = TrainOptions(
        network=NETWORK,
        student=options(steps=150, batch=4, balance="class", augmentation=AugmentationOptions(largest=1.2)),
        device=DeviceOptions(accelerator="cpu", threads=1),
    )
    classes = ClassTable.of_names(["ground", "disc", "box"], [(0, 0, 0), (255, 0, 0), (0, 255, 0)])
    result = train_on_masks(Toys(24, seed=1), classes, tmp_path, trained)
    losses = [p["loss"] for p in read_curves(tmp_path)]
    assert losses[-1] < 0.5 * losses[0]
    assert result.loss == losses[-1]
    network = load_network(tmp_path, "capacity")
    assert iou(network.network, Toys(8, seed=2)) > 0.7
    assert train_on_masks(Toys(24, seed=1), classes, tmp_path, trained).steps_per_second == 0  # finished already


def stop_at(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    step = trainer.Trainer._step

    def cut(self: trainer.Trainer, number: int, weights: torch.Tensor) -> None:
        if number == last:
            raise KeyboardInterrupt
        step(self, number, weights)

    monkeypatch.setattr(trainer.Trainer, "_step", cut)


@pytest.mark.parametrize("network", [TINY, NetworkOptions("segmenter", 32, 64, backbone="vit_tiny_patch16_224")])
def test_resumed_equals_uninterrupted(tmp_path: Path, network: NetworkOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fit(what(network=network), Toys(5, 0), whole)
    with monkeypatch.context() as patch:
        stop_at(patch, 10)
        with pytest.raises(KeyboardInterrupt):
            fit(what(network=network), Toys(5, 0), parts)
    assert not (parts / "teacher.safetensors").exists()
    result = fit(what(network=network), Toys(5, 0), parts)
    assert result.resumed_at == 8
    assert (parts / "teacher.safetensors").read_bytes() == (whole / "teacher.safetensors").read_bytes()
    timeless = [[{k: v for k, v in p.items() if k != "seconds"} for p in read_curves(run)] for run in (whole, parts)]
    assert timeless[0] == timeless[1]
    assert [p["step"] for p in timeless[0]] == [3, 6, 9, 12]


def test_two_runs_agree_and_seeds_differ(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fit(what(seed=seed), Toys(5, 0), tmp_path / name)
    a, b, c = ((tmp_path / name / "teacher.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    fit(what(options=options(steps=2)), Toys(3, 0), tmp_path)
    assert torch.equal(before, torch.get_rng_state())


def test_other_options_or_data_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            fit(what(), Toys(5, 0), tmp_path)
    with pytest.raises(DsegError, match="checkpoint of the teacher with other options"):
        fit(what(inputs="other"), Toys(5, 0), tmp_path)
    fit(what(), Toys(5, 0), tmp_path)
    with pytest.raises(DsegError, match="trained with other options"):
        fit(what(seed=3), Toys(5, 0), tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(DsegError, match=r"step \d+ of the teacher has loss .*training stopped.*learning_rate"):
        fit(what(options=options(learning_rate=1e11, warmup=0, clip=0.0)), Toys(5, 0), tmp_path)
    assert not (tmp_path / "teacher.safetensors").exists()


def test_mixed_precision_runs_and_keeps_full_weights(tmp_path: Path) -> None:
    device = DeviceOptions(accelerator="cpu", threads=1, precision="bf16-mixed")
    result = fit(what(device=device), Toys(5, 0), tmp_path)
    assert 0 < result.loss < 2
    state = read_tensors(tmp_path / "teacher.safetensors")
    assert {t.dtype for t in state.values()} <= {torch.float32, torch.int64}


@pytest.mark.gpu
def test_trains_on_a_gpu(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    result = fit(what(device=DeviceOptions(accelerator="cuda")), Toys(5, 0), tmp_path)
    assert 0 < result.loss < 2


def test_a_device_that_is_not_there() -> None:
    if torch.backends.mps.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(
        DsegError, match=r"^device\.accelerator = mps: torch finds no such device here\. Use auto or cpu$"
    ):
        pick_device(DeviceOptions(accelerator="mps"))


def test_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(DsegError, match="nothing to train the teacher on"):
        fit(what(), Toys(0, 0), tmp_path)


def test_every_sample_is_seen_once_an_epoch() -> None:
    seen = [i for step in range(10) for i in trainer.chosen_samples(7, 3, step, 0, "teacher")]
    for epoch in range(4):
        assert sorted(seen[7 * epoch : 7 * epoch + 7]) == list(range(7))
    assert seen[:7] != seen[7:14]


def test_curves_survive_a_cut_off_line(tmp_path: Path) -> None:
    (tmp_path / "curves.jsonl").write_text(json.dumps({"phase": "teacher", "step": 3}) + '\n{"pha')
    assert read_curves(tmp_path) == [{"phase": "teacher", "step": 3}]


def test_run_of_other_classes_is_refused(tmp_path: Path) -> None:
    RunDescription(TINY, ClassTable.of_clusters(4), {}, {}).write(tmp_path)
    with pytest.raises(DsegError, match="other classes"):
        train_on_masks(Toys(2, 0), ClassTable.of_clusters(2), tmp_path, TrainOptions(network=TINY))


def test_result_rate() -> None:
    assert FitResult(steps=30, resumed_at=10, seconds=4.0, loss=1.0).steps_per_second == 5


def test_the_bar_shows_a_loss_from_the_first_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Long before the curves have a point; and it is the mean of what was."""
    what = Fit("teacher", TINY, 3, options(steps=3, log_every=50), DeviceOptions(accelerator="cpu", threads=1), 0)
    begun = trainer.Trainer(what, build_network(TINY, 3), Toys(2, 0), _fabric(what.device))
    begun.window = [1.0, 2.0]
    assert begun._note() == "loss 1.500"
    begun.loss = 0.25
    assert begun._note() == "loss 0.250"
    fit(what, Toys(2, 0), tmp_path)
    shown = capsys.readouterr().err
    assert "loss" in shown and "nan" not in shown
