"""The report's sections about the exported model, and how to do it all again."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Iterator
from typing import Any

import onnxruntime
import yaml

from dseg_core.reporting import tables
from dseg_core.reporting.page import Html, absent, details, section, tag
from dseg_core.reporting.sources import Sources, read_summary

_PACKAGES = ("dseg_ros", "numpy", "torch", "timm", "faiss-cpu", "open3d", "numba", "rosbags", "onnx", "onnxruntime")


def model_section(sources: Sources) -> Html:
    """What goes in, what comes out, how large it is, and whether it does what the trained network does."""
    title = "The exported model"
    path = None if sources.run is None else sources.run / "model.onnx"
    if path is None or not path.is_file():
        return section("model", title, absent("The run has not been exported (dseg export RUN)."))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rows: list[tuple[str, object]] = [("file", f"{path.name}, {path.stat().st_size / 1e6:.2f} MB")]
    rows += [(f"input {i.name}", f"{i.type} {_shape(i.shape)}") for i in session.get_inputs()]
    rows += [(f"output {o.name}", f"{o.type} {_shape(o.shape)}") for o in session.get_outputs()]
    for name, value in sorted(session.get_modelmeta().custom_metadata_map.items()):
        rows.append((name, value if len(value) <= 160 else details("show", tag("pre", value))))
    summary = read_summary(path.parent / "export")
    words = (
        "One graph: an RGB image as the camera gives it goes in, a mask of its size and the confidence of each pixel "
        "come out; resizing, normalisation and the choice of the class are inside."
    )
    return section("model", title, tag("p", words), tables.facts(rows), tag("p", summary["text"]))


def reproduce_section(sources: Sources) -> Html:
    """Command lines, versions, and every option of every stage."""
    parts: list[Html] = []
    if sources.options.commands is not None:
        lines = sources.options.commands.read_text(encoding="utf-8").strip().splitlines()
        parts.append(tag("pre", "\n".join(f"$ {line}" for line in lines)))
    for name, summary in _summaries(sources):
        parts.append(details(f"Options of {name}", tag("pre", yaml.safe_dump(summary["options"], sort_keys=False))))
    versions = [("Python", platform.python_version()), ("system", f"{platform.system()} {platform.machine()}")]
    for package in _PACKAGES:
        try:
            versions.append((package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            versions.append((package, "not installed"))
    parts.append(details("Versions", tables.facts(versions)))
    words = (
        "The same commands with the same options and versions give the same frames, the same labels and, on a CPU, "
        "the same network."
    )
    return section("reproduce", "How to do it again", tag("p", words), *parts)


def _summaries(sources: Sources) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every summary below the given folders, with the path that tells it apart."""
    folders = [f.path for f in (sources.frames, sources.test) if f is not None]
    folders += [folder for folder in (sources.run, sources.masks) if folder is not None]
    for folder in folders:
        for path in sorted(folder.rglob("summary.json")):
            summary = json.loads(path.read_text(encoding="utf-8"))
            place = path.parent.relative_to(folder.parent)
            yield f"dseg {summary['command']} ({place})", summary


def _shape(shape: list[int | str]) -> str:
    return " × ".join(map(str, shape))
