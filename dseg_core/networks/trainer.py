"""State and steps of one training."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from dseg_core.errors import DsegError
from dseg_core.networks.augmentation import make_batch
from dseg_core.networks.build import usual_learning_rate
from dseg_core.networks.checkpoint import digest, read_note, read_tensors, write_tensors
from dseg_core.networks.curves import Curves
from dseg_core.networks.ema import MovingAverage
from dseg_core.networks.losses import batch_loss, class_weights_of
from dseg_core.networks.samples import SampleCache, Samples
from dseg_core.progress import progress
from dseg_core.stage_options import DeviceOptions, FitOptions, NetworkOptions


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


class Trainer:
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
        """Do all steps that are left and write the weights. Raises DsegError for a loss that is not finite."""
        what, checkpoint = self.what, checkpoint_path(out, self.what.name)
        first = self._resume(checkpoint) if checkpoint.exists() else 0
        self.cache.preload(what.name)
        weights = torch.ones(what.classes)
        if what.options.balance == "class":
            weights = class_weights_of(torch.from_numpy(self.cache.class_mass(what.classes)))
        weights = weights.to(self.fabric.device)
        started = time.monotonic()
        steps = range(first, what.options.steps)
        with Curves(out, what.name, first) as curves:
            for step in progress(steps, what.name, unit="step", note=self._note):
                self._step(step, weights)
                if len(self.window) >= what.options.log_every or step + 1 == what.options.steps:
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

    def _note(self) -> str:
        """The loss of the curves' last point, or before the first one of the steps so far."""
        loss = sum(self.window) / len(self.window) if math.isnan(self.loss) and self.window else self.loss
        return f"loss {loss:.3f}"

    def _step(self, step: int, class_weights: Tensor) -> None:
        options = self.what.options
        generator = torch.Generator().manual_seed(seed_of(self.what.seed, self.what.name, "step", step))
        chosen = chosen_samples(len(self.cache), options.batch, step, self.what.seed, self.what.name)
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


def checkpoint_path(out: Path, name: str) -> Path:
    """Where an unfinished training is kept."""
    return out / "checkpoints" / f"{name}.safetensors"


def chosen_samples(count: int, batch: int, step: int, seed: int, name: str) -> list[int]:
    """Indices of a step's samples: permutations of all, one after another, cut into batches."""
    chosen: list[int] = []
    for position in range(step * batch, (step + 1) * batch):
        epoch, place = divmod(position, count)
        generator = torch.Generator().manual_seed(seed_of(seed, name, "epoch", epoch))
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


def seed_of(*parts: object) -> int:
    """A seed for torch from anything printable, the same on every machine."""
    return int(digest("/".join(map(str, parts)).encode())[:15], 16)
