"""Export: one graph that gives what torch gives, or no file."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import shutil
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
import torch

from dseg_core import model_from_student
from dseg_core.class_table import ClassEntry, ClassTable
from dseg_core.cli import main
from dseg_core.errors import DsegError, OptionError
from dseg_core.images_for_export import RecordedImages
from dseg_core.label_store import LabelStore
from dseg_core.masks_from_model import segment
from dseg_core.model_from_student import export
from dseg_core.names_of_clusters import Naming, choose_names
from dseg_core.networks.agreement_gates import check_agreement
from dseg_core.networks.checkpoint import RunDescription, digest, load_network
from dseg_core.networks.mask_agreement import Agreement, CheckImage, compare
from dseg_core.networks.mask_graph import graph_from_model
from dseg_core.networks.mask_model import MaskModel
from dseg_core.runtime.contract import Contract
from dseg_core.runtime.onnxruntime_backend import OnnxRuntimeBackend
from dseg_core.runtime.predictor import open_model
from dseg_core.runtime.size_range import SizeRange
from dseg_core.stage_options import ExportOptions, SegmentOptions


@pytest.fixture
def run(own_run: Path) -> Path:
    return own_run


def renamed(names: dict[int, str]) -> ClassTable:
    table = ClassTable.of_clusters(5)
    return ClassTable(tuple(ClassEntry(e.id, names.get(e.id, e.name), e.color) for e in table.entries))


def test_graph_gives_what_torch_gives(tiny_run: Path) -> None:
    """On images it was not compared on when exported, with clusters merged and not, and at another decode stride."""
    trained = load_network(tiny_run)
    merged = renamed({1: "car", 2: "car", 4: "car"})
    for classes, merge, stride in ((trained.classes, "likeliest", 2), (merged, "likeliest", 4), (merged, "sum", 4)):
        model = MaskModel(trained, classes, stride, merge).eval()
        proto = graph_from_model(model, (50, 91))
        onnx.helper.set_model_props(proto, Contract(model.classes, (50, 91)).to_metadata())
        images = [CheckImage(models.picture(100 + i, 50, 91)) for i in range(5)]
        backend = OnnxRuntimeBackend(proto.SerializeToString(), threads=1)
        agreement = compare(model, backend, images)
        assert agreement.images == 5 and agreement.pixels >= 0.999
        assert agreement.confidence is not None and agreement.confidence <= 2
        assert len({int(i) for image in images for i in np.unique(backend.run(image.rgb[None])[0])}) >= 3


def test_file_tells_what_it_is(tiny_run: Path) -> None:
    data = (tiny_run / "model.onnx").read_bytes()
    proto = onnx.load_from_string(data)
    assert {(o.domain, o.version) for o in proto.opset_import} == {("", 17)} and proto.ir_version <= 9
    assert proto.graph.node[0].op_type == "Cast", "TensorRT takes uint8 only into a cast"
    typed = onnx.shape_inference.infer_shapes(proto, strict_mode=True).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*typed.value_info, *typed.input, *typed.output)}
    touching = [n for n in typed.node if onnx.TensorProto.UINT8 in [kinds.get(name) for name in (*n.input, *n.output)]]
    assert [n.op_type for n in touching] == ["Cast"] * 3
    others = [{kinds[n.input[0]], kinds[n.output[0]]} - {onnx.TensorProto.UINT8} for n in touching]
    assert others == [{onnx.TensorProto.FLOAT}] * 3, "TensorRT makes uint8 of floats, and of nothing else for certain"
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


def test_every_file_that_a_run_is_exported_to_has_a_summary_of_its_own(run: Path, tmp_path: Path) -> None:
    """Else the second would forget the first, and the report would tell of another file than the run's model."""
    paths = [run / "model.onnx", tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for path in paths:
        export(run, ExportOptions(out=path, check_frames=1))
    written = [path.stat().st_mtime_ns for path in paths]
    assert all("was exported before" in export(run, ExportOptions(out=path, check_frames=1)).text for path in paths)
    assert [path.stat().st_mtime_ns for path in paths] == written
    told = [json.loads(file.read_text())["results"]["model"] for file in (run / "export").rglob("summary.json")]
    assert sorted(told) == sorted(map(str, paths))
    assert json.loads((run / "export" / "summary.json").read_text())["results"]["model"] == str(paths[0])


def test_a_full_disk_is_told_with_the_file_and_what_to_do(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dseg_core.progress.os.fsync", full)
    out = tmp_path / "full" / "car.onnx"
    assert main(["export", str(run), "--out", str(out), "--check-frames", "1"]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == f"dseg export: {out}: No space left on device. Free some space there, or write elsewhere"
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize("flags", [["--out", "file/car.onnx"], ["--engine=tensorrt_rtx", "--engine-out=file/x.engine"]])
def test_a_place_that_cannot_be_written_is_told_before_anything_else_is_done(
    flags: list[str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    monkeypatch.setattr(model_from_student, "load_network", lambda *_: 1 // 0)
    assert main(["export", str(run), *flags]) == 1
    assert capsys.readouterr().err == "dseg export: file: is a file where a folder is needed. Give another place\n"


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


def metadata(path: Path) -> dict[str, str]:
    return {p.key: p.value for p in onnx.load(path).metadata_props}


def test_for_three_cameras_of_any_size_without_confidence(run: Path) -> None:
    """One graph against torch on images of sizes that it was not compared on."""
    options = ExportOptions(
        out=run / "any.onnx", sizes=("60x40", "122x75", "300x200"), batch=3, fit="letterbox", confidence=False
    )
    text = export(run, options).text
    assert "images of 60x40, 122x75, 300x200 (smallest, usual, largest), 3 at once, " in text
    found = metadata(run / "any.onnx")
    assert found["dseg_input"] == "uint8 (3, height, width, 3) RGB" and found["dseg_fit"] == "letterbox"
    predictor = open_model(run / "any.onnx", threads=1)
    model = MaskModel(load_network(run), fit="letterbox").eval()
    for size in ((40, 60), (131, 77), (200, 300)):
        images = [models.picture(seed, *size) for seed in (7, 8, 9)]
        with torch.inference_mode():
            expected = model(torch.from_numpy(np.stack(images)))[0].numpy()
        for wanted, prediction in zip(expected, predictor.predict_batch(images), strict=True):
            assert (prediction.mask == wanted).mean() > 0.999 and prediction.confidence is None
            assert len(np.unique(prediction.mask)) >= 2
    with pytest.raises(DsegError, match="takes 3 images at once, not one"):
        segment(run / "any.onnx", run.parent / "none", SegmentOptions(out=run / "masks"))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (("60x40", "122x75"), "sizes = 60x40,122x75 is not three sizes. Give the smallest"),
        (("60x40", "122*75", "300x200"), "is not three sizes"),
        (("60x40", "122x75", "100x200"), "the sizes 60x40, 122x75, 100x200 do not grow"),
        (("60x4", "122x75", "300x200"), "must be at least 16 px"),
    ],
)
def test_sizes_must_be_three_that_grow(sizes: tuple[str, ...], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        ExportOptions(sizes=sizes)
    with pytest.raises(OptionError, match="sizes goes without height and width"):
        ExportOptions(sizes=("60x40", "122x75", "300x200"), height=40)


@pytest.mark.parametrize("precision", ["fp16", "int8", "fp8"])
def test_lower_precision_tells_how_near_it_is_and_is_held_to_it(run: Path, precision: str) -> None:
    out = run / "low.onnx"
    limits = {"max_miou_loss": 0.5, "max_clear_wrong": 0.05, "max_confidence_error": 0.1}
    options = ExportOptions(out=out, precision=precision, check_frames=3, **limits)
    done = export(run, options)
    check = json.loads(metadata(out)["dseg_check"])
    assert metadata(out)["dseg_precision"] == precision and done.results["agreement"] == check
    assert 0.9 < check["pixels"] <= 1 and 0 <= check["miou_loss"] < 0.5 and 0 < check["clear"] < 1
    assert f"{check['pixels']:.3%} of pixels" in done.text and f"is {1 - check['miou_loss']:.3%}" in done.text
    assert 0 < check["confidence_mean"] < 25 and f"is {check['confidence_mean'] / 255:.4f} from torch's" in done.text
    # The labels count each image as one class, which this network knows nothing of; but both scores are of the same.
    assert check["labels_miou"] == pytest.approx(check["labels_miou_torch"], abs=0.05)
    assert f"against the labels {check['labels_miou']:.2%}" in done.text
    assert onnx.load(out).ByteSize() < 0.7 * onnx.load(run / "model.onnx").ByteSize()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"miou_loss": 0.11}, r"its mIoU against torch's masks is 11\.00% below 100%, more than 10\.00%"),
        ({"labels_miou": 0.3, "labels_miou_torch": 0.41}, r"its mIoU against the labels is 11\.00% below torch's"),
        ({"clear_wrong": 0.011}, r"1\.10% of the clear pixels have another class, more than 1\.00%"),
        ({"confidence_mean": 0.031 * 255}, r"its confidence is 3\.10% from torch's in the mean, more than 3\.00%"),
        ({"confidence": 77}, r"its confidence is 30\.20% from torch's in one pixel, more than 30\.00%"),
    ],
)
def test_what_is_not_near_enough_is_not_written(
    run: Path, change: dict[str, float], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = Agreement(8, 0.5, 0.5, 76, 0.099, 0.2, 0.5, 0.0099, 0.3, 0.399, 0.029 * 255)
    options = ExportOptions(out=run / "low.onnx", precision="int8")
    monkeypatch.setattr(model_from_student, "_graph", lambda *_: onnx.load(run / "model.onnx"))  # to spare the time
    monkeypatch.setattr(model_from_student, "quantised", lambda graph, *_: graph)
    monkeypatch.setattr(model_from_student, "compare", lambda *_: dataclasses.replace(near, **change))
    with pytest.raises(DsegError, match=rf"run: the model in int8 is not torch's: {message}.*; nothing was written"):
        export(run, options)
    assert not (run / "low.onnx").exists()
    monkeypatch.setattr(model_from_student, "compare", lambda *_: near)
    for _ in range(2):
        assert "There are no other images to calibrate on than those compared on." in export(run, options).text
    assert (run / "low.onnx").exists()


NEAR = Agreement(8, 1.0, 1.0, 0, 0.0, 0.2, 0.5, 0.0, 0.4, 0.4, 0.0)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "fp8"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("miou_loss", "its mIoU against torch's masks is nan"),
        ("labels_miou", "its mIoU against the labels is nan"),
        ("clear_wrong", "nan% of the clear pixels"),
        ("confidence_mean", "its confidence is nan% from torch's in the mean"),
    ],
)
def test_what_is_no_number_is_not_near(precision: str, name: str, message: str) -> None:
    options = ExportOptions(precision=precision)
    check_agreement(NEAR, options, Path("run"))
    with pytest.raises(DsegError, match=rf"in {precision} is not torch's: {message}"):
        check_agreement(dataclasses.replace(NEAR, **{name: math.nan}), options, Path("run"))


def test_share_of_pixels_that_is_no_number_is_not_near() -> None:
    with pytest.raises(DsegError, match="agrees with torch in nan% of pixels only"):
        check_agreement(dataclasses.replace(NEAR, pixels=math.nan), ExportOptions(), Path("run"))


@pytest.mark.parametrize("clear", [0.0, math.nan])
def test_where_no_pixel_is_clear_nothing_is_known(clear: float) -> None:
    """A graph that is wrong in most pixels has none wrong among the clear ones then; in 32 bits all are compared."""
    found = dataclasses.replace(NEAR, clear=clear, clear_margin=0.9)
    for precision in ("fp16", "int8", "fp8"):
        with pytest.raises(DsegError, match=rf"no pixel is clear by a margin over 0\.9.*{precision}.*--clear-margin"):
            check_agreement(found, ExportOptions(precision=precision), Path("run"))
        check_agreement(found, ExportOptions(precision=precision, max_clear_wrong=1.0), Path("run"))
    check_agreement(found, ExportOptions(), Path("run"))


def test_gates_are_the_mean_iou_and_the_clear_pixels(run: Path) -> None:
    """A backend that is wrong in known pixels, against sums by hand."""
    model = MaskModel(load_network(run)).eval()
    image = models.picture(3)
    with torch.inference_mode():
        right, sure = (part[0].numpy() for part in model(torch.from_numpy(image)[None]))
        clear = model.margin(torch.from_numpy(image)[None])[0].numpy() > 0.3
    wrong = right.copy()
    wrong[:20] = (right[:20] + 1) % 6

    class Wrong:
        name, contract = "wrong", Contract(model.classes, right.shape)

        def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return wrong[None], (sure // 2)[None]

    labels = np.where(np.arange(right.shape[0])[:, None] < 40, right, 255).astype(np.uint8)
    found = compare(model, Wrong(), [CheckImage(image, labels)], clear_margin=0.3)
    ious = [((right == i) & (wrong == i)).sum() / ((right == i) | (wrong == i)).sum() for i in np.unique(right)]
    assert found.miou_loss == pytest.approx(1 - np.mean(ious))
    assert found.clear == pytest.approx(clear.mean()) and found.clear_wrong == pytest.approx(
        clear[:20].sum() / clear.sum()
    )
    upper, upper_wrong = right[:40], wrong[:40]
    ious = [
        ((upper == i) & (upper_wrong == i)).sum() / ((upper == i) | (upper_wrong == i)).sum() for i in np.unique(upper)
    ]
    assert found.labels_miou == pytest.approx(np.mean(ious)) and found.labels_miou_torch == 1.0
    assert found.pixels == found.worst == pytest.approx(1 - 20 / 75)
    apart = sure - (sure // 2).astype(int)
    assert found.confidence == apart.max() and found.confidence_mean == pytest.approx(apart.mean())


def test_labels_are_compared_by_name_and_images_at_every_size() -> None:
    """Of three images each, the second and third at the smallest and largest size; 255 stays unlabelled."""
    mask = np.array([[0, 1], [2, 255]], np.uint8).repeat(20, 0).repeat(30, 1)
    images = tuple(models.picture(seed, 40, 60) for seed in range(3))
    recorded = RecordedImages(images, (mask, None, mask), (), "digest")
    names = ClassTable.of_names(["road", "car", "road"], [(0, 0, 0)] * 3)
    checked = recorded.to_check(SizeRange((20, 30), (40, 60), (80, 120)), names)
    assert [image.rgb.shape[:2] for image in checked] == [(40, 60), (20, 30), (80, 120)]
    np.testing.assert_array_equal(checked[0].rgb, images[0])
    expected = np.array([[0, 1], [0, 255]])
    np.testing.assert_array_equal(checked[0].labels, expected.repeat(20, 0).repeat(30, 1))
    assert checked[1].labels is None
    np.testing.assert_array_equal(checked[2].labels, expected.repeat(40, 0).repeat(60, 1))


def test_how_images_were_fitted_is_recorded_and_kept(run: Path) -> None:
    assert json.loads((run / "run.json").read_text())["fit"] == "stretch" == load_network(run).fit
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(content | {"fit": "letterbox"}))
    assert MaskModel(load_network(run)).fit == "letterbox"
    (run / "run.json").write_text(json.dumps({name: value for name, value in content.items() if name != "fit"}))
    assert load_network(run).fit == "stretch", "runs of before"
    (run / "run.json").write_text(json.dumps(content | {"fit": "crop"}))
    with pytest.raises(
        DsegError, match=r"run\.json: is broken: ValueError fit 'crop' is not one of stretch, letterbox"
    ):
        load_network(run)
