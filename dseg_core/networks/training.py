"""The one training loop: teacher, student and the capacity row of the evaluation all go through `fit`."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.networks.build import build_network
from dseg_core.networks.checkpoint import RunDescription, read_note
from dseg_core.networks.samples import Samples
from dseg_core.networks.trainer import Fit, FitResult, Trainer, checkpoint_path, seed_of
from dseg_core.stage_options import DeviceOptions, TrainOptions

__all__ = ["Fit", "FitResult", "fit", "pick_device", "train_on_masks"]


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
        # Weights that will be overwritten need not be fetched.
        known = initial is not None or checkpoint_path(out, what.name).exists()
        options = dataclasses.replace(what.network, pretrained="none") if known else what.network
        network = build_network(options, what.classes)
        if initial is not None:
            network.load_state_dict(initial)
        return Trainer(what, network, samples, fabric).run(out)


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


def _finished(what: Fit, out: Path) -> FitResult | None:
    """The result of an earlier call, when its weights are there. Raises DsegError when they are another training's."""
    path = out / f"{what.name}.safetensors"
    if not path.exists():
        return None
    note = read_note(path)
    if note.get("identity") != what.identity:
        raise DsegError("was trained with other options or data", where=path, fix="Train into another folder")
    return FitResult(int(note["steps"]), int(note["steps"]), 0.0, float(note["loss"]))


def _fabric(options: DeviceOptions) -> Fabric:
    """Lightning's hand for device and precision. Raises DsegError when the machine has no such device."""
    precision: Any = options.precision  # a Literal of Lightning's; the option's choices are among them
    try:
        return Fabric(accelerator=options.accelerator, devices=1, precision=precision)
    except (MisconfigurationException, RuntimeError):
        raise DsegError(
            f"device.accelerator = {options.accelerator}: torch finds no such device here", fix="Use auto or cpu"
        ) from None


@contextmanager
def _seeded(seed: int, name: str) -> Iterator[None]:
    """Torch's global random state set for one training, and put back after it."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # Lightning warns that more workers or the GPU could be used; whoever chose the options knows.
        warnings.filterwarnings("ignore", module="lightning_fabric")
        torch.manual_seed(seed_of(seed, name))
        yield
