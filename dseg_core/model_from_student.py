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
from dseg_core.networks.checkpoint import RunDescription, TrainedNetwork, digest, load_network
from dseg_core.networks.mask_agreement import Agreement, CheckImage, compare
from dseg_core.networks.mask_graph import FLOAT8_OPSET, OPSET, graph_from_model
from dseg_core.networks.mask_model import MaskModel
from dseg_core.networks.precision import HalfNetwork, folded
from dseg_core.networks.quantised_graph import PRECISIONS, quantised
from dseg_core.progress import Summary, write_whole
from dseg_core.runtime.contract import REVISION, Contract
from dseg_core.runtime.onnxruntime_backend import OnnxRuntimeBackend
from dseg_core.runtime.size_range import Size, SizeRange
from dseg_core.stage_options import ExportOptions
from dseg_core.store import read_json
from dseg_core.words import count

AGREEMENT = 0.999
"""Smallest share of pixels in which a graph of 32 bits must give torch's class."""

GATES = {"fp32": (1.0, 1.0), "fp16": (0.02, 0.001), "int8": (0.1, 0.01), "fp8": (0.1, 0.01)}
"""By precision: largest loss of mIoU, largest share of clear pixels with another class; options may say others."""


def export(run: Path, options: ExportOptions) -> Summary:
    """Write `run/model.onnx` (or `options.out`), unless it is there already.

    Args:
        run: A folder written by `dseg train`.
        options: Sizes, names, precision, decoding, and which frames to compare on.

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
    graph = _graph(model, trained, size, images, options)
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
        f"{len(model.classes)} classes of {len(trained.classes)} clusters, named by {naming.source}. "
        f"{_told_agreement(agreement)}"
    )
    return Summary(_with_notes(text, [naming.note, stretched, images.note]), results).write(
        run / "export", "export", options
    )


def _told(size: Size | SizeRange) -> str:
    if isinstance(size, SizeRange):
        return f"{size} (smallest, usual, largest)"
    return f"{size[1]}x{size[0]}"


def _told_agreement(found: Agreement) -> str:
    text = (
        f"It gives torch's class in {found.pixels:.3%} of pixels on {count(found.images, 'recorded image')} (worst "
        f"image {found.worst:.3%}), another in {found.clear_wrong:.3%} of the pixels that are clear (a margin over "
        f"{found.clear_margin:g}; {found.clear:.1%} are); its mIoU against torch's masks is {1 - found.miou_loss:.3%}"
    )
    if found.labels_miou is None or found.labels_miou_torch is None:
        return f"{text}."
    return f"{text}, against the labels {found.labels_miou:.2%} (torch {found.labels_miou_torch:.2%})."


def _place(path: Path) -> Path:
    """The file to write. Raises DsegError where a model would take the place of something else."""
    if path.suffix != ".onnx" or path.is_dir():
        raise DsegError("is no name for a model", where=path, fix="Give --out a file that ends in .onnx")
    return path


def _graph(
    model: MaskModel, trained: TrainedNetwork, size: Size | SizeRange, images: RecordedImages, options: ExportOptions
) -> onnx.ModelProto:
    """The graph of `model` in the precision that is asked for."""
    network = folded(trained.network)
    exported = copy.deepcopy(model)
    exported.network = HalfNetwork(network) if options.precision == "fp16" else network
    proto = graph_from_model(exported.eval(), size, options.batch, _opset(options))
    if options.precision in PRECISIONS:
        return quantised(proto, images.to_calibrate(size), options.batch, options.precision)
    return proto


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
    _hold(agreement, options, run)
    told = json.dumps(dataclasses.asdict(agreement))
    contract = dataclasses.replace(contract, origin=origin | {"check": told})
    onnx.helper.set_model_props(proto, contract.to_metadata())
    return proto.SerializeToString(), agreement


def _hold(found: Agreement, options: ExportOptions, run: Path) -> None:
    """Raise DsegError unless the graph does what torch does, well enough for its precision."""
    if options.precision == "fp32" and found.pixels < AGREEMENT:
        raise DsegError(
            f"the exported graph agrees with torch in {found.pixels:.3%} of pixels only, not {AGREEMENT:.1%}; "
            "nothing was written",
            where=run,
            fix="Try another version of torch or onnxruntime, and report it",
        )
    most_lost, most_wrong = GATES[options.precision]
    if options.max_miou_loss is not None:
        most_lost = options.max_miou_loss
    if options.max_clear_wrong is not None:
        most_wrong = options.max_clear_wrong
    lost = (found.labels_miou_torch or 0.0) - (found.labels_miou or 0.0)
    gates = (
        ("its mIoU against torch's masks is {} below 100%", found.miou_loss, most_lost, "--max-miou-loss"),
        ("its mIoU against the labels is {} below torch's", lost, most_lost, "--max-miou-loss"),
        ("{} of the clear pixels have another class", found.clear_wrong, most_wrong, "--max-clear-wrong"),
    )
    for words, is_, most, flag in gates:
        if is_ > most:
            raise DsegError(
                f"the model in {options.precision} is not torch's: {words.format(f'{is_:.2%}')}, more than {most:.2%}; "
                "nothing was written",
                where=run,
                fix=f"Export in another --precision, or allow more with {flag}",
            )


def _identity(run: Path, naming: Naming, options: ExportOptions) -> str:
    """Digest of all that decides the exported file."""
    wanted = options.to_dict()
    parts = [(run / "student.safetensors").read_bytes(), (run / "run.json").read_bytes()]
    plain = [wanted, naming.classes.to_list(), REVISION, _opset(options), _version()]
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
