"""The one training loop: teacher, student and the capacity row of the evaluation all go through `fit`."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.networks.augmentation import make_batch
from dseg_core.networks.build import build_network, usual_learning_rate
from dseg_core.networks.checkpoint import (
    RunDescription,
    digest,
    read_note,
    read_tensors,
    write_tensors,
)
from dseg_core.networks.curves import Curves
from dseg_core.networks.ema import MovingAverage
from dseg_core.networks.losses import batch_loss, class_weights_of
from dseg_core.networks.samples import SampleCache, Samples
from dseg_core.progress import progress
from dseg_core.stage_options import DeviceOptions, FitOptions, NetworkOptions, TrainOptions


@dataclass(frozen=True)
class Fit:
    """One training.

    `name`: of its files and curves. `classes`: outputs. `inputs`: digest of the data, so that a resumed run notices
    when they changed.
    """

    name: str
    network: NetworkOptions
    classes: int
    options: FitOptions
    device: DeviceOptions
    seed: int
    inputs: str = ""

    @property
    def identity(self) -> str:
        """Digest of all that decides the result."""
        parts = {
            "network": self.network.to_dict(),
            "options": {k: v for k, v in self.options.to_dict().items() if k not in ("checkpoint_every", "log_every")},
            "classes": self.classes,
            "precision": self.device.precision,
            "seed": self.seed,
            "inputs": self.inputs,
            "name": self.name,
        }
        return digest(json.dumps(parts, sort_keys=True).encode())


@dataclass(frozen=True)
class FitResult:
    """What a training did. `loss`: mean of the last logged window. `resumed_at`: first step of this call."""

    steps: int
    resumed_at: int
    seconds: float
    loss: float

    @property
    def steps_per_second(self) -> float:
        """Of the steps done in this call; 0 when there were none."""
        done = self.steps - self.resumed_at
        return done / self.seconds if done else 0.0


def fit(what: Fit, samples: Samples, out: Path, initial: dict[str, Tensor] | None = None) -> FitResult:
    """Train a network and write `out/NAME.safetensors`.

    Order of data and all randomness of a step follow from seed, name and step, so a run that was cut off goes on from
    `out/checkpoints/NAME.safetensors` and ends with the same bits on a CPU.

    Args:
        what: Network, options, seed.
        samples: Images and targets.
        out: The run's folder; gets weights, `curves.jsonl` and TensorBoard's logs.
        initial: First weights instead of random or pretrained ones.

    Raises:
        DsegError: No samples; a checkpoint of another training; a loss that is not finite.
    """
    if len(samples) == 0:
        raise DsegError(f"there is nothing to train the {what.name} on", where=out, fix="Run `dseg label` first")
    if what.device.threads:
        torch.set_num_threads(what.device.threads)
    finished = _finished(what, out)
    if finished is not None:
        return finished
    fabric = _fabric(what.device)
    with _seeded(what.seed, what.name):
        network = build_network(what.network, what.classes)
        if initial is not None:
            network.load_state_dict(initial)
        trainer = _Trainer(what, network, samples, fabric)
        return trainer.run(out)


def pick_device(options: DeviceOptions) -> torch.device:
    """The device that `fit` would train on."""
    device: torch.device = _fabric(options).device
    return device


def train_on_masks(
    samples: Samples, classes: ClassTable, out: Path, options: TrainOptions, name: str = "capacity", inputs: str = ""
) -> FitResult:
    """Train the student's network for the student's steps on given masks; `load_network(out, name)` reads it.

    Args:
        samples: Targets are uint8 masks with ids of `classes`, 255 unlabelled.
        classes: The network's outputs.
        out: Folder to write; a run folder of its own, since `run.json` describes one set of classes.
        options: `network`, `student`, `device` and `seed` count.
        name: Of the weights' file.
        inputs: Digest of the data, see `Fit`.

    Raises:
        DsegError: See `fit`; or `out` holds a run with other classes.
    """
    if (out / "run.json").exists():
        if RunDescription.read(out).classes.to_list() != classes.to_list():
            raise DsegError("holds a run with other classes", where=out, fix="Choose another folder")
    else:
        RunDescription(options.network, classes, {"masks": inputs}, options.to_dict()).write(out)
    what = Fit(name, options.network, len(classes), options.student, options.device, options.seed, inputs)
    return fit(what, samples, out)


class _Trainer:
    """State of one training: network, optimiser, average, and the step they stand at."""

    def __init__(self, what: Fit, network: nn.Module, samples: Samples, fabric: Fabric) -> None:
        self.what, self.fabric = what, fabric
        self.network = network.to(fabric.device).to(memory_format=torch.channels_last)
        self.rate = what.options.learning_rate or usual_learning_rate(what.network)
        self.optimiser = torch.optim.AdamW(_groups(self.network, what.options.weight_decay), lr=self.rate)
        self.model, self.wrapped = fabric.setup(self.network, self.optimiser)
        self.average = MovingAverage(self.network, what.options.ema) if what.options.ema else None
        self.cache = SampleCache(samples, what.network.height, what.network.width, what.device.cache * 1e9)
        self.window: list[float] = []
        self.loss = math.nan

    def run(self, out: Path) -> FitResult:
        what, checkpoint = self.what, out / "checkpoints" / f"{self.what.name}.safetensors"
        first = self._resume(checkpoint) if checkpoint.exists() else 0
        self.cache.preload(what.name)
        weights = torch.ones(what.classes)
        if what.options.balance == "class":
            weights = class_weights_of(torch.from_numpy(self.cache.class_mass(what.classes)))
        weights = weights.to(self.fabric.device)
        started = time.monotonic()
        steps = range(first, what.options.steps)
        with Curves(out, what.name, first) as curves:
            for step in progress(steps, what.name, unit="step", note=lambda: f"loss {self.loss:.3f}"):
                self._step(step, weights)
                if len(self.window) == what.options.log_every or step + 1 == what.options.steps:
                    self.loss = sum(self.window) / len(self.window)
                    curves.write(step + 1, loss=self.loss, learning_rate=self._rate_at(step))
                    self.window.clear()
                if (step + 1) % what.options.checkpoint_every == 0 and step + 1 < what.options.steps:
                    self._save(checkpoint, step + 1)
        seconds = time.monotonic() - started
        state = self.average.state if self.average else self.network.state_dict()
        result = FitResult(what.options.steps, first, seconds, self.loss)
        note = {"identity": what.identity, "steps": str(what.options.steps), "loss": repr(self.loss)}
        write_tensors(out / f"{what.name}.safetensors", state, note)
        checkpoint.unlink(missing_ok=True)
        return result

    def _step(self, step: int, class_weights: Tensor) -> None:
        options = self.what.options
        generator = torch.Generator().manual_seed(_number(self.what.seed, self.what.name, "step", step))
        chosen = _chosen(len(self.cache), options.batch, step, self.what.seed, self.what.name)
        samples = [self.cache[index] for index in chosen]
        batch = make_batch(samples, options.augmentation, generator, self.fabric.device)
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate_at(step)
        self.model.train()
        logits = self.model(batch.images.contiguous(memory_format=torch.channels_last))
        loss = batch_loss(logits, batch, options.balance, class_weights)
        self.wrapped.zero_grad()
        self.fabric.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), options.clip or math.inf)
        if not (math.isfinite(float(loss.detach())) and math.isfinite(float(norm))):
            raise DsegError(
                f"step {step + 1} of the {self.what.name} has loss {float(loss.detach())} and gradient norm "
                f"{float(norm)}; training stopped",
                fix=f"Lower {self.what.name}.learning_rate (now {self.rate:g}), raise its warmup, or use precision "
                "32-true, and give a new folder",
            )
        self.wrapped.step()
        if self.average:
            self.average.update(self.network, step)
        self.window.append(float(loss.detach()))

    def _rate_at(self, step: int) -> float:
        """Linear warm-up, then half a cosine to 0 at the last step (Loshchilov & Hutter 2017)."""
        options = self.what.options
        if step < options.warmup:
            return self.rate * (step + 1) / (options.warmup + 1)
        return (
            self.rate * 0.5 * (1 + math.cos(math.pi * (step - options.warmup) / max(1, options.steps - options.warmup)))
        )

    def _save(self, path: Path, step: int) -> None:
        tensors = {f"network/{name}": tensor for name, tensor in self.network.state_dict().items()}
        if self.average:
            tensors |= {f"average/{name}": tensor for name, tensor in self.average.state.items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{index}/{name}": tensor for name, tensor in state.items()}
        tensors["rng"] = torch.get_rng_state()
        tensors["window"] = torch.tensor(self.window, dtype=torch.float64)
        note = {"identity": self.what.identity, "step": str(step), "loss": repr(self.loss)}
        write_tensors(path, tensors, note)

    def _resume(self, path: Path) -> int:
        note = read_note(path)
        if note.get("identity") != self.what.identity:
            raise DsegError(
                f"is a checkpoint of the {self.what.name} with other options or data",
                where=path,
                fix="Train with the options of run.json, or into another folder",
            )
        tensors = read_tensors(path)
        self.network.load_state_dict(_under(tensors, "network/"))
        if self.average:
            self.average.load(_under(tensors, "average/"))
        state = self.optimiser.state_dict()
        for name, tensor in _under(tensors, "optimiser/").items():
            index, _, key = name.partition("/")
            state["state"].setdefault(int(index), {})[key] = tensor
        self.optimiser.load_state_dict(state)
        torch.set_rng_state(tensors["rng"])
        self.window, self.loss = tensors["window"].tolist(), float(note["loss"])
        return int(note["step"])


def _finished(what: Fit, out: Path) -> FitResult | None:
    """The result of an earlier call, when its weights are there. Raises DsegError when they are another training's."""
    path = out / f"{what.name}.safetensors"
    if not path.exists():
        return None
    note = read_note(path)
    if note.get("identity") != what.identity:
        raise DsegError("was trained with other options or data", where=path, fix="Train into another folder")
    return FitResult(int(note["steps"]), int(note["steps"]), 0.0, float(note["loss"]))


def _chosen(count: int, batch: int, step: int, seed: int, name: str) -> list[int]:
    """Indices of a step's samples: permutations of all, one after another, cut into batches."""
    chosen: list[int] = []
    for position in range(step * batch, (step + 1) * batch):
        epoch, place = divmod(position, count)
        generator = torch.Generator().manual_seed(_number(seed, name, "epoch", epoch))
        chosen.append(int(torch.randperm(count, generator=generator)[place]))
    return chosen


def _groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Matrices and kernels decay; biases, norms and other vectors do not."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _number(*parts: object) -> int:
    """A seed for torch from anything printable, the same on every machine."""
    return int(digest("/".join(map(str, parts)).encode())[:15], 16)


def _fabric(options: DeviceOptions) -> Fabric:
    """Lightning's hand for device and precision. Raises DsegError when the machine has no such device."""
    precision: Any = options.precision  # a Literal of Lightning's; the option's choices are among them
    try:
        return Fabric(accelerator=options.accelerator, devices=1, precision=precision)
    except (MisconfigurationException, RuntimeError) as error:
        line = " ".join(str(error).split())[:200]
        raise DsegError(
            f"device.accelerator = {options.accelerator} does not work here: {line}", fix="Use auto or cpu"
        ) from None


@contextmanager
def _seeded(seed: int, name: str) -> Iterator[None]:
    """Torch's global random state set for one training, and put back after it."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # Lightning warns that more workers or the GPU could be used; whoever chose the options knows.
        warnings.filterwarnings("ignore", module="lightning_fabric")
        torch.manual_seed(_number(seed, name))
        yield
