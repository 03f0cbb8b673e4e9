"""From a trained student to one ONNX graph that does everything from the camera's image to the mask."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from dseg_core.errors import DsegError
from dseg_core.image_sizes import aspect_note
from dseg_core.images_for_export import RecordedImages, recorded_images
from dseg_core.names_of_clusters import Naming, choose_names
from dseg_core.networks.agreement_gates import check_agreement, told_agreement
from dseg_core.networks.checkpoint import RunDescription, TrainedNetwork, digest, load_network
from dseg_core.networks.mask_agreement import Agreement, CheckImage, compare
from dseg_core.networks.mask_graph import FLOAT8_OPSET, OPSET, graph_from_model
from dseg_core.networks.mask_model import MaskModel
from dseg_core.networks.precision import HalfNetwork, folded
from dseg_core.networks.quantised_graph import PRECISIONS, quantised
from dseg_core.progress import Summary, check_writable, share_bar, write_whole
from dseg_core.runtime.contract import REVISION, Contract
from dseg_core.runtime.onnxruntime_backend import OnnxRuntimeBackend
from dseg_core.runtime.size_range import Size, SizeRange
from dseg_core.stage_options import ExportOptions
from dseg_core.store import read_json
from dseg_core.words import count


def export(run: Path, options: ExportOptions) -> Summary:
    """Write `run/model.onnx` (or `options.out`), unless it is there already.

    Args:
        run: A folder written by `dseg train`.
        options: Sizes, names, precision, decoding, and which frames to compare on.

    Raises:
        DsegError: A broken run; no frames to compare on; a graph that does not do what torch does.
    """
    path = model_place(run, options)
    described, trained = RunDescription.read(run), load_network(run)
    frames = options.frames or ((run / described.frames).resolve() if described.frames else None)
    naming = choose_names(run, described, trained, frames, options)
    identity = _identity(run, naming, options)
    done = _finished(run, path, identity, naming)
    if done is not None:
        return done
    check_writable(path.parent)
    check_writable(summary_folder(run, path))
    images = recorded_images(frames, run, described, options)
    size = options.size_range or _size(options, images.usual_size)
    model = MaskModel(
        trained, naming.classes, options.decode_stride, options.merge, options.chosen_fit, options.confidence
    ).eval()
    usual = size.usual if isinstance(size, SizeRange) else size
    stretched = ""
    if model.fit == "stretch":
        stretched = aspect_note(images.usual_size, usual, "masks may be wrong; the network never saw such")
    origin = _origin(run, described, options, model, images)
    with share_bar("making the graph") as made:
        made(0.0)
        graph = _graph(model, trained, size, options)
        made(1.0)
    if options.precision in PRECISIONS:
        graph = quantised(graph, images.to_calibrate(size), options.batch, options.precision)
    data, agreement = _checked_model(graph, model, size, origin, images.to_check(size, naming.classes), options, run)
    write_whole(path, data)
    results = {
        "model": str(path),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "identity": identity,
        "height": usual[0],
        "width": usual[1],
        "opset": _opset(options),
        "classes": model.classes.to_list(),
        "names": naming.source,
        "precision": options.precision,
        "notes": [note for note in (stretched, images.note) if note],
        "agreement": dataclasses.asdict(agreement),
    }
    at_once = "" if options.batch == 1 else f"{options.batch} at once, "
    text = (
        f"Exported {path} ({len(data) / 1e6:.1f} MB, {options.precision}): images of {_told(size)}, {at_once}"
        f"{count(len(model.classes), 'class', 'classes')} of {count(len(trained.classes), 'cluster')}, named by "
        f"{naming.source}. {told_agreement(agreement)}"
    )
    summary = Summary(_with_notes(text, [naming.note, stretched, images.note]), results)
    return summary.write(summary_folder(run, path), "export", options)


def summary_folder(run: Path, model: Path) -> Path:
    """Of the summary of exporting a run to a file: `run/export`, below it for other files than `run/model.onnx`."""
    if model.resolve() == (run / "model.onnx").resolve():
        return run / "export"
    return run / "export" / digest(str(model.resolve()).encode())[:12]


def _told(size: Size | SizeRange) -> str:
    if isinstance(size, SizeRange):
        return f"{size} (smallest, usual, largest)"
    return f"{size[1]}x{size[0]}"


def model_place(run: Path, options: ExportOptions) -> Path:
    """The model file to write. Raises DsegError where it cannot be, or would take the place of something else."""
    path = options.out or run / "model.onnx"
    if path.suffix != ".onnx" or path.is_dir():
        raise DsegError("is no name for a model", where=path, fix="Give --out a file that ends in .onnx")
    if options.out is not None and not path.is_file():  # else it may be finished, on a disk that is only read
        check_writable(path.parent)
    return path


def _graph(
    model: MaskModel, trained: TrainedNetwork, size: Size | SizeRange, options: ExportOptions
) -> onnx.ModelProto:
    """The graph of `model`, in 16 bits where that is asked for."""
    network = folded(trained.network)
    exported = copy.deepcopy(model)
    exported.network = HalfNetwork(network) if options.precision == "fp16" else network
    return graph_from_model(exported.eval(), size, options.batch, _opset(options))


def _opset(options: ExportOptions) -> int:
    return FLOAT8_OPSET if options.precision == "fp8" else OPSET


def _checked_model(
    proto: onnx.ModelProto,
    model: MaskModel,
    size: Size | SizeRange,
    origin: dict[str, str],
    images: list[CheckImage],
    options: ExportOptions,
    run: Path,
) -> tuple[bytes, Agreement]:
    """The model file's content, once it gives what torch gives on `images`. Raises DsegError when it does not."""
    fixed, sizes = (None, size) if isinstance(size, SizeRange) else (size, None)
    contract = Contract(model.classes, fixed, sizes, options.batch, options.confidence, origin)
    onnx.helper.set_model_props(proto, contract.to_metadata())
    agreement = compare(model, OnnxRuntimeBackend(proto.SerializeToString()), images, options.clear_margin)
    check_agreement(agreement, options, run)
    told = json.dumps(dataclasses.asdict(agreement))
    contract = dataclasses.replace(contract, origin=origin | {"check": told})
    onnx.helper.set_model_props(proto, contract.to_metadata())
    return proto.SerializeToString(), agreement


def _identity(run: Path, naming: Naming, options: ExportOptions) -> str:
    """Digest of all that decides the exported file."""
    wanted = options.to_dict()
    parts = [(run / "student.safetensors").read_bytes(), (run / "run.json").read_bytes()]
    plain = [wanted, naming.classes.to_list(), REVISION, _opset(options), _version()]
    return digest(*parts, json.dumps(plain, sort_keys=True).encode())


def _finished(run: Path, path: Path, identity: str, naming: Naming) -> Summary | None:
    """The summary of the same export done before, if the model is still there as it was written."""
    file = summary_folder(run, path) / "summary.json"
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


def _size(options: ExportOptions, usual: Size) -> Size:
    """The images' most frequent size, unless the options say another."""
    return options.height or usual[0], options.width or usual[1]


def _origin(
    run: Path, described: RunDescription, options: ExportOptions, model: MaskModel, images: RecordedImages
) -> dict[str, str]:
    network = described.network
    data = {f"{name}_digest": value for name, value in described.inputs.items() if name in ("frames", "labels")}
    return {
        "version": _version(),
        "run": run.resolve().name,
        "network": f"{network.kind} {network.width}x{network.height}",
        "weights_digest": digest((run / "student.safetensors").read_bytes()),
        "precision": options.precision,
        "fit": model.fit,
        "decode_stride": str(options.decode_stride),
        "merge": options.merge,
        "check_digest": images.digest,
        **data,
    }


def _version() -> str:
    try:
        return importlib.metadata.version("dseg_ros")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
