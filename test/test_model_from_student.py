"""Export: one graph that gives what torch gives, or no file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
import torch

from dseg_core import model_from_student
from dseg_core.class_table import ClassEntry, ClassTable
from dseg_core.errors import DsegError, OptionError
from dseg_core.label_store import LabelStore
from dseg_core.model_from_student import export
from dseg_core.names_of_clusters import Naming, choose_names
from dseg_core.networks.build import MEAN, STD, build_network
from dseg_core.networks.checkpoint import RunDescription, TrainedNetwork, digest, load_network
from dseg_core.networks.mask_agreement import CheckImage, compare
from dseg_core.networks.mask_graph import graph_from_model
from dseg_core.networks.mask_model import MaskModel
from dseg_core.runtime.contract import Contract
from dseg_core.runtime.onnxruntime_backend import OnnxRuntimeBackend
from dseg_core.runtime.predictor import open_model
from dseg_core.stage_options import ExportOptions, NetworkOptions


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy to write to."""
    shutil.copytree(tiny_run.parent, tmp_path / "tiny")
    return tmp_path / "tiny" / "run"


def renamed(names: dict[int, str]) -> ClassTable:
    table = ClassTable.of_clusters(5)
    return ClassTable(tuple(ClassEntry(e.id, names.get(e.id, e.name), e.color) for e in table.entries))


@pytest.mark.parametrize("stride", [2, 4])
def test_graph_gives_what_torch_gives(tiny_run: Path, stride: int) -> None:
    """On images it was not compared on when exported, with clusters merged and not, and at another decode stride."""
    trained = load_network(tiny_run)
    merged = renamed({1: "car", 2: "car", 4: "car"})
    for classes, merge in ((trained.classes, "likeliest"), (merged, "likeliest"), (merged, "sum")):
        model = MaskModel(trained, classes, stride, merge).eval()
        proto = graph_from_model(model, (50, 91))
        onnx.helper.set_model_props(proto, Contract(model.classes, (50, 91)).to_metadata())
        images = [CheckImage(models.picture(100 + i, 50, 91)) for i in range(5)]
        backend = OnnxRuntimeBackend(proto.SerializeToString(), threads=1)
        agreement = compare(model, backend, images)
        assert agreement.images == 5 and agreement.pixels >= 0.999
        assert agreement.confidence is not None and agreement.confidence <= 2
        assert len({int(i) for image in images for i in np.unique(backend.run(image.rgb[None])[0])}) >= 3


def test_segmenter_exports_too() -> None:
    options = NetworkOptions(kind="segmenter", backbone="vit_tiny_patch16_224", height=32, width=48)
    torch.manual_seed(0)
    trained = TrainedNetwork(build_network(options, 4).eval(), ClassTable.of_clusters(3), 32, 48, MEAN, STD)
    model = MaskModel(trained).eval()
    proto = graph_from_model(model, (40, 60))
    onnx.helper.set_model_props(proto, Contract(model.classes, (40, 60)).to_metadata())
    agreement = compare(
        model, OnnxRuntimeBackend(proto.SerializeToString(), 1), [CheckImage(models.picture(1, 40, 60))]
    )
    assert agreement.pixels >= 0.999


def test_file_tells_what_it_is(tiny_run: Path) -> None:
    data = (tiny_run / "model.onnx").read_bytes()
    proto = onnx.load_from_string(data)
    assert {(o.domain, o.version) for o in proto.opset_import} == {("", 18)} and proto.ir_version <= 9
    assert proto.graph.node[0].op_type == "Cast", "TensorRT takes uint8 only into a cast"
    assert str(Path(model_from_student.__file__).parent).encode() not in data
    metadata = {p.key: p.value for p in proto.metadata_props}
    assert metadata["dseg_contract"] == "2" and metadata["dseg_run"] == "run"
    assert metadata["dseg_labels_digest"] and metadata["dseg_frames_digest"] and metadata["dseg_check_digest"]
    assert metadata["dseg_weights_digest"] == digest((tiny_run / "student.safetensors").read_bytes())
    check = json.loads(metadata["dseg_check"])
    assert check["images"] == 4 and check["pixels"] >= 0.999 and check["miou_loss"] <= 0.001
    predictor = open_model(tiny_run / "model.onnx", threads=1)
    assert predictor.size == (models.HEIGHT, models.WIDTH)
    assert predictor.classes == ClassTable.of_clusters(5)
    summary = json.loads((tiny_run / "export" / "summary.json").read_text())["results"]
    assert summary["agreement"]["images"] == 4 and summary["agreement"]["pixels"] >= 0.999


def test_same_export_again_does_nothing_and_another_does(run: Path) -> None:
    model = run / "model.onnx"
    moved = ExportOptions(out=run / "other.onnx", height=40, width=60)
    export(run, moved)
    before = moved.out.stat().st_mtime_ns  # type: ignore[union-attr]
    assert "before" in export(run, moved).text
    assert (run / "other.onnx").stat().st_mtime_ns == before
    assert open_model(run / "other.onnx").size == (40, 60)
    model.write_bytes(model.read_bytes()[:-100])
    assert "before" not in export(run, ExportOptions()).text
    open_model(model)


@pytest.mark.parametrize("name", ["student.safetensors", "export", "run.json"])
def test_a_model_takes_the_place_of_nothing_else(run: Path, name: str) -> None:
    (run / "export").mkdir(exist_ok=True)
    before = (run / "student.safetensors").read_bytes()
    with pytest.raises(DsegError, match=f"{name}: is no name for a model. Give --out a file that ends in .onnx"):
        export(run, ExportOptions(out=run / name))
    assert (run / "student.safetensors").read_bytes() == before


def test_disagreement_writes_nothing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run / "model.onnx").unlink()
    right = OnnxRuntimeBackend.run

    def one_row_wrong(self: OnnxRuntimeBackend, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mask, confidence = right(self, image)
        return np.concatenate([mask[:, :1] + 1, mask[:, 1:]], axis=1), confidence

    monkeypatch.setattr(OnnxRuntimeBackend, "run", one_row_wrong)
    with pytest.raises(DsegError, match=r"agrees with torch in 98\.\d+% of pixels only"):
        export(run, ExportOptions())
    assert not (run / "model.onnx").exists()


def test_frames_that_are_gone_are_asked_for(run: Path) -> None:
    frames = run.parent / "frames"
    shutil.move(frames, run.parent / "elsewhere")
    (run / "model.onnx").unlink()
    with pytest.raises(DsegError, match=r"frames that are not at .* Give a folder of frames with --frames"):
        export(run, ExportOptions())
    export(run, ExportOptions(frames=run.parent / "elsewhere"))
    assert (run / "model.onnx").is_file()


def names(run: Path, options: ExportOptions | None = None) -> Naming:
    frames = run.parent / "frames"
    return choose_names(run, RunDescription.read(run), load_network(run), frames, options or ExportOptions())


def test_names_come_from_the_labels_as_they_are_now(run: Path) -> None:
    """Edited after training: those; the run's edited too: the run's; given: those."""
    file = run.parent / "frames" / "labels" / "default" / "classes.yaml"
    assert names(run) == Naming(ClassTable.of_clusters(5), "the run's classes.yaml")
    merged = renamed({1: "car", 2: "car"})
    merged.write(file)
    assert names(run) == Naming(merged, str(file))
    assert str(file.resolve()) in export(run, ExportOptions()).text
    assert open_model(run / "model.onnx").classes.names == ("ground", "car", "cluster_03", "cluster_04", "cluster_05")
    renamed({3: "pole"}).write(run / "classes.yaml")
    naming = names(run)
    assert (naming.classes, naming.source) == (renamed({3: "pole"}), "the run's classes.yaml")
    assert naming.note.startswith(f"names in {file} were not used, because the run's own were edited")
    renamed({5: "sign"}).write(run / "given.yaml")
    assert names(run, ExportOptions(name_classes=run / "given.yaml")).classes == renamed({5: "sign"})


def test_names_of_other_labels_are_not_taken(run: Path) -> None:
    """Clusters found anew have the same ids and other meanings."""
    labels = LabelStore(run.parent / "frames", "default")
    renamed({1: "car"}).write(labels.path / "classes.yaml")
    key = labels.keys()[0]
    labels.write_mask(key, 4 - labels.mask(key) % 4)
    naming = names(run)
    assert naming.classes == ClassTable.of_clusters(5)
    (run / "model.onnx").unlink()
    for text in (export(run, ExportOptions()).text, export(run, ExportOptions()).text):
        told = text.splitlines()[-1]
        assert told.startswith(f"Names in {labels.path.resolve()}/classes.yaml were not used, because the labels were")
    assert "was exported before" in text


def test_another_aspect_is_warned_of(run: Path) -> None:
    wide = ExportOptions(out=run / "wide.onnx", height=models.HEIGHT, width=2 * models.WIDTH)
    for _ in range(2):
        told = export(run, wide).text.splitlines()[-1]
        assert told.startswith("WARNING: 122x75 stretched to 244x75 changes the aspect by 100%: masks may be wrong")
    assert "WARNING" not in export(run, ExportOptions(out=run / "large.onnx", height=150, width=240)).text
    with pytest.raises(OptionError, match="height = 10 must be 0 or at least 16 px"):
        ExportOptions(height=10)


def test_given_names_must_fit(run: Path) -> None:
    ClassTable.of_clusters(7).write(run / "given.yaml")
    with pytest.raises(DsegError, match=r"given\.yaml: has 8 classes, the network 6"):
        export(run, ExportOptions(name_classes=run / "given.yaml"))
