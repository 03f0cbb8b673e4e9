"""The student: a network that learns the whole image from what the teacher sees, made one inside LiDAR proposals.

This module is also the command's runner, which trains the teacher first; the only stage that calls another one, since
the two make one run.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from dseg_core.errors import DsegError
from dseg_core.image_sizes import aspect_note, network_size, usual_size
from dseg_core.networks.augmentation import normalise
from dseg_core.networks.build import STRIDE
from dseg_core.networks.checkpoint import RunDescription, TrainedNetwork, digest, load_network
from dseg_core.networks.consistency import make_consistent
from dseg_core.networks.training import Fit, FitResult, fit, pick_device
from dseg_core.options import differences
from dseg_core.progress import Summary, claim
from dseg_core.stage_options import TargetOptions, TrainOptions
from dseg_core.teacher_from_labels import LabelledViews, regions_at, train_teacher
from dseg_core.words import count

_FREE = {
    ("teacher", "log_every"),
    ("teacher", "checkpoint_every"),
    ("student", "log_every"),
    ("student", "checkpoint_every"),
}
"""Options that may differ when a run goes on, besides those of the device (but the precision)."""


def targets_from_teacher(
    teacher: TrainedNetwork, image: NDArray[np.uint8], regions: NDArray[np.uint16], options: TargetOptions
) -> NDArray[Any]:
    """What the student should see in one image: the teacher's view of it, one inside each proposal.

    Args:
        teacher: On any device.
        image: RGB, uint8 (H, W, 3).
        regions: uint16 (H, W): 0 none, 1 ground, 2.. objects.
        options: How predictions are averaged and made one.

    Returns:
        At stride 4 of the network's input: float16 (C, h/4, w/4) probabilities, or uint8 (h/4, w/4) classes.
    """
    device = next(teacher.network.parameters()).device
    resized = cv2.resize(image, (teacher.width, teacher.height), interpolation=cv2.INTER_LINEAR)
    batch = normalise(torch.from_numpy(resized).to(device).permute(2, 0, 1)[None].float() / 255)  # (1, 3, h, w)
    with torch.inference_mode():
        probabilities = (teacher.network(batch) / options.temperature).softmax(dim=1)[0]  # (C, h/4, w/4)
        if options.flip:
            mirrored = (teacher.network(batch.flip(3)) / options.temperature).softmax(dim=1)[0]
            probabilities = (probabilities + mirrored.flip(2)) / 2
        cells = regions_at(regions, teacher.height // STRIDE, teacher.width // STRIDE)
        ids = torch.from_numpy(cells.astype(np.int64)).to(device)
        consistent = make_consistent(probabilities, ids, options.constraint, options.support, options.ground)
    if options.targets == "hard":
        return consistent.argmax(dim=0).to(torch.uint8).cpu().numpy()
    return consistent.to(torch.float16).cpu().numpy()


@dataclass(frozen=True, eq=False)
class TaughtViews:
    """Views with the teacher's targets, as samples; targets are made when asked for, which costs less than disk."""

    views: LabelledViews
    teacher: TrainedNetwork
    options: TargetOptions

    def __len__(self) -> int:
        return len(self.views)

    def image(self, index: int) -> NDArray[np.uint8]:
        """RGB, uint8 (H, W, 3)."""
        return self.views.image(index)

    def target(self, index: int) -> NDArray[Any]:
        """See `targets_from_teacher`."""
        return targets_from_teacher(self.teacher, self.image(index), self.regions(index), self.options)

    def regions(self, index: int) -> NDArray[np.uint16]:
        """Regions, uint16 (H, W)."""
        return self.views.regions(index)


def train_student(views: LabelledViews, out: Path, options: TrainOptions, inputs: str) -> FitResult:
    """Train `out/student.safetensors` on the teacher's targets over the whole image.

    Args:
        views: Images and regions.
        out: The run's folder, with a finished teacher.
        options: Of the whole run.
        inputs: Digest of the data and of what the teacher was trained with.

    Raises:
        DsegError: See `networks.training.fit`.
    """
    teacher = load_network(out, "teacher")
    initial = None
    if options.student_from == "teacher":
        initial = {name: tensor.clone() for name, tensor in teacher.network.state_dict().items()}
    teacher.network.to(pick_device(options.device))
    taught = TaughtViews(views, teacher, options.targets)
    what = Fit("student", options.network, len(views.classes), options.student, options.device, options.seed, inputs)
    return fit(what, taught, out, initial)


def train(frames: Path, out: Path, options: TrainOptions) -> Summary:
    """Train teacher and student on a folder of labelled frames, or go on with a run that was cut off.

    Args:
        frames: Folder of frames with labels.
        out: The run's folder.
        options: Of the run.

    Raises:
        DsegError: No labels; a run with other options or labels in `out`, or what is no run; a loss that is not finite.
    """
    claim(out, "train", [frames])
    views = LabelledViews(frames, options.labels)
    options, stretched = _sized(options, views)
    digests = views.digests()
    if (out / "run.json").exists():
        _check_same_run(RunDescription.read(out), options, digests, out)
    else:
        where = os.path.relpath(frames.resolve(), out.resolve())
        RunDescription(options.network, views.classes, digests, options.to_dict(), frames=where).write(out)
    inputs = digest(json.dumps(digests, sort_keys=True).encode())
    teacher = train_teacher(views, out, options, inputs)
    taught = {"inputs": inputs, "teacher": _fixed(options.to_dict())}
    student = train_student(views, out, options, digest(json.dumps(taught, sort_keys=True).encode()))
    results = {
        "views": len(views),
        "classes": len(views.classes),
        "teacher": dataclasses.asdict(teacher) | {"steps_per_second": teacher.steps_per_second},
        "student": dataclasses.asdict(student) | {"steps_per_second": student.steps_per_second},
        "inputs": digests,
        "notes": [stretched] if stretched else [],
    }
    size = f"{options.network.width}x{options.network.height}"
    classes = count(len(views.classes), "pseudo-class", "pseudo-classes")
    text = (
        f"{_told('teacher', teacher)} {_told('student', student)} They learned {classes} from "
        f"{count(len(views), 'view')} at {size}; the run is in {out}." + (f"\n{stretched}." if stretched else "")
    )
    return Summary(text, results).write(out, "train", options)


def _sized(options: TrainOptions, views: LabelledViews) -> tuple[TrainOptions, str]:
    """The options with the size of the network's input, and a warning where a chosen one does not suit the images."""
    first = [next(i for i, key in enumerate(views.keys) if key.camera == c) for c in {k.camera: 0 for k in views.keys}]
    sizes = {views.keys[i].camera: views.image(i).shape[:2] for i in first}
    image = usual_size((sizes[key.camera][0], sizes[key.camera][1]) for key in views.keys)
    height, width = network_size(image, options.network.height, options.network.width)
    network = dataclasses.replace(options.network, height=height, width=width)
    note = aspect_note(image, (height, width), "things look squeezed; leave out --network.height and --network.width")
    return dataclasses.replace(options, network=network), note


def _told(name: str, result: FitResult) -> str:
    if result.resumed_at == result.steps:
        return f"The {name} was finished before ({count(result.steps, 'step')}, loss {result.loss:.3f})."
    start = f"from step {result.resumed_at} on, " if result.resumed_at else ""
    return (
        f"The {name} took {count(result.steps, 'step')}, {start}{result.seconds:.0f} s ({result.steps_per_second:.1f} "
        f"steps/s), to loss {result.loss:.3f}."
    )


def _check_same_run(described: RunDescription, options: TrainOptions, digests: dict[str, str], out: Path) -> None:
    """Raise DsegError, naming what differs, unless the run in `out` is the one that is asked for."""
    other = differences(_fixed(described.options), _fixed(options.to_dict()))
    if other:
        fix = "Give the same options to go on with it, or another --out"
        raise DsegError(f"holds a run with {other}", where=out, fix=fix)
    for name in ("frames", "labels", "classes"):
        if described.inputs.get(name) != digests[name]:
            raise DsegError(f"holds a run on other {name}", where=out, fix="Train into another folder")


def _fixed(options: dict[str, Any]) -> dict[str, Any]:
    """The options that decide the result, as plain types."""
    kept: dict[str, Any] = {}
    for name, value in options.items():
        if name == "device":
            kept[name] = {"precision": value["precision"]}
        elif isinstance(value, dict):
            kept[name] = {inner: v for inner, v in value.items() if (name, inner) not in _FREE}
        else:
            kept[name] = value
    return kept
