"""From a trained student to one ONNX graph that does everything from the camera's image to the mask."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.image_codecs import decode
from dseg_core.image_sizes import aspect_note, usual_size
from dseg_core.label_store import LabelStore
from dseg_core.networks.checkpoint import RunDescription, TrainedNetwork, digest, labels_digest, load_network
from dseg_core.networks.mask_graph import OPSET, Agreement, compare, graph_from_model
from dseg_core.networks.mask_model import MaskModel
from dseg_core.progress import Summary, write_whole
from dseg_core.records import ViewKey
from dseg_core.runtime.contract import REVISION, Contract
from dseg_core.runtime.onnxruntime_backend import OnnxRuntimeBackend
from dseg_core.stage_options import ExportOptions
from dseg_core.store import FrameStore, read_json
from dseg_core.words import count

AGREEMENT = 0.999
"""Smallest share of pixels in which the exported graph must give torch's class."""


@dataclass(frozen=True)
class Naming:
    """The names that clusters get, and where they come from, in words. `note`: whose names were not used, and why."""

    classes: ClassTable
    source: str
    note: str = ""


def export(run: Path, options: ExportOptions) -> Summary:
    """Write `run/model.onnx` (or `options.out`), unless it is there already.

    Args:
        run: A folder written by `dseg train`.
        options: Size, names, decoding, and which frames to compare on.

    Raises:
        DsegError: A broken run; no frames to compare on; a graph that does not do what torch does.
    """
    described, trained = RunDescription.read(run), load_network(run)
    frames = options.frames or ((run / described.frames).resolve() if described.frames else None)
    naming = choose_names(run, described, trained, frames, options)
    path = _place(options.out or run / "model.onnx")
    identity = _identity(run, naming, options)
    done = _finished(run, path, identity, naming)
    if done is not None:
        return done
    images = _images(_open_frames(frames, run), options.check_frames)
    size = _size(options, images)
    stretched = aspect_note(_size(ExportOptions(), images), size, "masks may be wrong; the network never saw such")
    model = MaskModel(trained, naming.classes, options.decode_stride, options.merge).eval()
    origin = _origin(run, described, options)
    data, agreement = _checked_model(model, size, origin, [_fitted(image, size) for image in images], run)
    write_whole(path, data)
    results = {
        "model": str(path),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "identity": identity,
        "height": size[0],
        "width": size[1],
        "opset": OPSET,
        "classes": model.classes.to_list(),
        "names": naming.source,
        "notes": [stretched] if stretched else [],
        "agreement": dataclasses.asdict(agreement),
    }
    text = (
        f"Exported {path} ({len(data) / 1e6:.1f} MB): images of {size[1]}x{size[0]}, {len(model.classes)} classes of "
        f"{len(trained.classes)} clusters, named by {naming.source}. It gives torch's class in "
        f"{agreement.pixels:.3%} of pixels on {count(agreement.images, 'recorded image')} (worst image "
        f"{agreement.worst:.3%})."
    )
    return Summary(_with_notes(text, [naming.note, stretched]), results).write(run / "export", "export", options)


def _place(path: Path) -> Path:
    """The file to write. Raises DsegError where a model would take the place of something else."""
    if path.suffix != ".onnx" or path.is_dir():
        raise DsegError("is no name for a model", where=path, fix="Give --out a file that ends in .onnx")
    return path


def _checked_model(
    model: MaskModel, size: tuple[int, int], origin: dict[str, str], images: list[NDArray[np.uint8]], run: Path
) -> tuple[bytes, Agreement]:
    """The model file's content, once it gives what torch gives on `images`. Raises DsegError when it does not."""
    proto = graph_from_model(model, size)
    onnx.helper.set_model_props(proto, Contract(model.classes, size, origin).to_metadata())
    agreement = compare(model, OnnxRuntimeBackend(proto.SerializeToString()), images)
    if agreement.pixels < AGREEMENT:
        raise DsegError(
            f"the exported graph agrees with torch in {agreement.pixels:.3%} of pixels only, not {AGREEMENT:.1%}; "
            "nothing was written",
            where=run,
            fix="Try another version of torch or onnxruntime, and report it",
        )
    told = f"{agreement.pixels:.4%} of pixels as torch on {agreement.images} recorded images"
    onnx.helper.set_model_props(proto, Contract(model.classes, size, origin | {"check": told}).to_metadata())
    return proto.SerializeToString(), agreement


def choose_names(
    run: Path, described: RunDescription, trained: TrainedNetwork, frames: Path | None, options: ExportOptions
) -> Naming:
    """Decide whose names the clusters get.

    A given file's; else the run's copy where it was edited; else those that the labels have by now, where they are
    still the labels trained on; else the run's.

    Raises:
        DsegError: A given file that cannot be read or has another number of classes.
    """
    if options.name_classes is not None:
        given = ClassTable.read(options.name_classes)
        if len(given) != len(trained.classes):
            raise DsegError(
                f"has {len(given)} classes, the network {len(trained.classes)}",
                where=options.name_classes,
                fix="Give classes the same name to merge them, but keep every id",
            )
        return Naming(given, str(options.name_classes))
    own = Naming(trained.classes, "the run's classes.yaml")
    name = described.options.get("labels")
    if frames is None or not isinstance(name, str):
        return own
    labels = LabelStore(frames, name)
    file = labels.path / "classes.yaml"
    if not file.is_file() or labels.classes in (trained.classes, described.classes):
        return own
    unused = f"names in {file} were not used, because"
    if trained.classes != described.classes:
        return Naming(own.classes, own.source, f"{unused} the run's own were edited; --name-classes takes them")
    keys: list[ViewKey] = sorted(set(FrameStore(frames).view_keys) & set(labels.keys()))
    same = len(labels.classes) == len(trained.classes) and labels_digest(labels, keys) == described.inputs.get("labels")
    if not same:
        why = "the labels were made anew since the run was trained on them, so a cluster may be another thing"
        return Naming(own.classes, own.source, f"{unused} {why}; train again, or --name-classes takes them")
    return Naming(labels.classes, str(file))


def _identity(run: Path, naming: Naming, options: ExportOptions) -> str:
    """Digest of all that decides the exported file."""
    wanted = options.to_dict()
    parts = [(run / "student.safetensors").read_bytes(), (run / "run.json").read_bytes()]
    plain = [wanted, naming.classes.to_list(), REVISION, OPSET, _version()]
    return digest(*parts, json.dumps(plain, sort_keys=True).encode())


def _finished(run: Path, path: Path, identity: str, naming: Naming) -> Summary | None:
    """The summary of the same export done before, if the model is still there as it was written."""
    file = run / "export" / "summary.json"
    if not file.is_file() or not path.is_file():
        return None
    content = read_json(file)
    results: dict[str, Any] = content.get("results", {})
    written = hashlib.sha256(path.read_bytes()).hexdigest()
    if results.get("identity") != identity or results.get("sha256") != written or results.get("model") != str(path):
        return None
    text = f"{path} was exported before and is as it should be, named by {naming.source}."
    return Summary(_with_notes(text, [naming.note, *results.get("notes", [])]), results)


def _with_notes(text: str, notes: Sequence[str]) -> str:
    return "\n".join([text, *(f"{note[0].upper()}{note[1:]}." for note in notes if note)])


def _open_frames(frames: Path | None, run: Path) -> FrameStore:
    fix = "Give a folder of frames with --frames: the export is compared with torch on them"
    if frames is None:
        raise DsegError("does not tell which frames it was trained on", where=run, fix=fix)
    if not frames.is_dir():
        raise DsegError(f"was trained on frames that are not at {frames}", where=run, fix=fix)
    return FrameStore(frames)


def _images(store: FrameStore, wanted: int) -> list[NDArray[np.uint8]]:
    """Images spread over all views, cameras in turn."""
    keys = store.view_keys
    if not keys:
        raise DsegError("holds no image", where=store.folder, fix="Give other frames with --frames")
    chosen = np.unique(np.linspace(0, len(keys) - 1, min(wanted, len(keys))).round().astype(int))
    return [decode(store.view(keys[i]).image) for i in chosen]


def _size(options: ExportOptions, images: Sequence[NDArray[np.uint8]]) -> tuple[int, int]:
    """The images' most frequent size, unless the options say another."""
    height, width = usual_size((image.shape[0], image.shape[1]) for image in images)
    return options.height or height, options.width or width


def _fitted(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if image.shape[:2] == size:
        return image
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _origin(run: Path, described: RunDescription, options: ExportOptions) -> dict[str, str]:
    network = described.network
    data = {f"{name}_digest": value for name, value in described.inputs.items() if name in ("frames", "labels")}
    return {
        "version": _version(),
        "run": run.resolve().name,
        "network": f"{network.kind} {network.width}x{network.height}",
        "decode_stride": str(options.decode_stride),
        "merge": options.merge,
        **data,
    }


def _version() -> str:
    try:
        return importlib.metadata.version("dseg_ros")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
