"""The predictor, and what it refuses."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import models
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.runtime.contract import Contract
from dseg_core.runtime.predictor import Predictor, open_model
from dseg_core.runtime.size_range import SizeRange
from dseg_core.runtime.unknown_ids import UnknownIds, has_unknown

CLASSES = ClassTable.of_names(["dark", "bright"], [(0, 0, 0), (255, 255, 255)])


@pytest.fixture(scope="module")
def predictor(tiny_run: Path) -> Predictor:
    return open_model(tiny_run / "model.onnx", threads=1)


def foreign(
    path: Path,
    metadata: dict[str, str] | None = None,
    shape: tuple[int | str, ...] = (1, 6, 8, 3),
    kind: int = TensorProto.UINT8,
    outputs: tuple[str, ...] = ("mask", "confidence"),
    out_kind: int = TensorProto.UINT8,
    out_shape: tuple[int | str, ...] | None = None,
    inputs: int = 1,
    more: dict[str, str] | None = None,
) -> Path:
    """A model that nobody exported with dseg: the mask is 1 where red is over 127. Honours the contract by default."""
    takes = [helper.make_tensor_value_info(f"pixels{i or ''}", kind, shape) for i in range(inputs)]
    constants = [
        helper.make_tensor("red", TensorProto.INT64, [], [0]),
        helper.make_tensor("half", TensorProto.FLOAT, [], [127.0]),
    ]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["x", "red"], ["r"], axis=len(shape) - 1),
        helper.make_node("Greater", ["r", "half"], ["g"]),
        *(helper.make_node("Cast", ["r" if name == "confidence" else "g"], [name], to=out_kind) for name in outputs),
    ]
    if out_shape is not None:
        nodes[-1] = helper.make_node("Cast", ["g"], ["first"], to=out_kind)
        nodes.append(helper.make_node("Reshape", ["first", "to"], [outputs[-1]]))
        constants.append(helper.make_tensor("to", TensorProto.INT64, [len(out_shape)], out_shape))
    gives = [helper.make_tensor_value_info(name, out_kind, out_shape or shape[:-1]) for name in outputs]
    graph = helper.make_graph(nodes, "foreign", takes, gives, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    own = Contract(CLASSES, (6, 8)).to_metadata() if metadata is None else metadata
    helper.set_model_props(model, own | (more or {}))
    onnx.save(model, path)
    return path


def test_anyones_model_that_keeps_the_contract_runs(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    predictor = open_model(foreign(tmp_path / "model.onnx"), threads=1)
    found = predictor.predict(image)
    np.testing.assert_array_equal(found.mask, image[..., 0] > 127)
    np.testing.assert_array_equal(found.confidence, image[..., 0])
    assert predictor.classes == CLASSES


def test_ids_that_no_class_has_are_told_once_and_painted_black(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Foreign models may give any number; 255 says unlabelled and is no mistake."""
    caplog.set_level(logging.WARNING)
    one = Contract(ClassTable.of_names(["dark"], [(9, 9, 9)]), (6, 8)).to_metadata()
    predictor = open_model(foreign(tmp_path / "model.onnx", metadata=one), threads=1)
    dark, bright = (np.full((6, 8, 3), level, np.uint8) for level in (10, 200))
    predictor.predict(dark)
    assert predictor.problems == () and not caplog.records
    found = predictor.predict(bright)
    assert found.mask.max() == 1 and not predictor.classes.palette()[found.mask].any()
    assert len(list(predictor.predict_all([bright, dark]))) == 2
    told = "the model's masks have ids of none of its 1 classes: 1 "
    assert predictor.problems == (told + "(2 masks)",)
    assert [record.getMessage() for record in caplog.records] == [told + "(1 mask)"]


@given(st.lists(st.integers(0, 255), max_size=20), st.integers(1, 255))
def test_unknown_ids_are_those_beyond_the_classes_but_for_255(ids: list[int], classes: int) -> None:
    beyond = sorted({i for i in ids if classes <= i < 255})
    mask, unknown = np.array(ids, np.uint8).reshape(1, -1), UnknownIds(classes)
    assert has_unknown(mask, classes) == bool(beyond)
    unknown.look(mask)
    assert unknown.told().partition(": ")[2].partition(" (")[0] == ", ".join(map(str, beyond))


def classes(*rows: object) -> dict[str, dict[str, str]]:
    return {"more": {"dseg_classes": json.dumps(rows)}}


def sized(sizes: object) -> dict[str, object]:
    return {"shape": (1, "h", "w", 3), "more": {"dseg_sizes": json.dumps(sizes)}}


ROAD = {"id": 0, "name": "road", "color": [1, 2, 3]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metadata": {}}, "is no model of dseg: its metadata has no dseg_contract"),
        ({"more": {"dseg_contract": "99"}}, "keeps contract '99', and this dseg knows 1 and 2"),
        ({"metadata": {"dseg_contract": "2"}}, "has no classes: its metadata lacks dseg_classes"),
        ({"more": {"dseg_classes": "[oh"}}, "broken classes: its dseg_classes is no JSON list"),
        ({"more": {"dseg_classes": "[" * 10**5}}, "broken classes"),
        ({"more": {"dseg_classes": "7"}}, "broken classes"),
        (classes(), "class ids that are not 0, 1, ... without gaps"),
        (classes({"id": 0}), "lacks id, name or color"),
        (classes(ROAD | {"id": 1}), "class ids that are not 0, 1, ... without gaps"),
        (classes(ROAD | {"name": " "}), "class 0 has no name"),
        (classes(ROAD | {"color": [0, 0, 256]}), r"color \[0, 0, 256\] is not three numbers 0..255"),
        (classes(ROAD, ROAD | {"id": 1}), "two classes of one name"),
        (classes(*(ROAD | {"id": i, "name": str(i)} for i in range(256))), "has 256 classes; masks have at most 255"),
        ({"inputs": 2}, "has 2 inputs, not one"),
        ({"kind": TensorProto.FLOAT}, "input pixels is float32, not uint8"),
        ({"shape": (1, 3, 6, 8)}, r"shape \(1, 3, 6, 8\), not \(N, H, W, 3\)"),
        ({"shape": (6, 8, 3)}, r"shape \(6, 8, 3\), not \(N, H, W, 3\)"),
        ({"shape": ("n", 6, 8, 3)}, r"takes no fixed number of images: its shape is \(n, 6, 8, 3\)"),
        ({"shape": (1, 6, "w", 3)}, r"shape \(1, 6, w, 3\); height and width must both be fixed, or both not"),
        ({"shape": (1, "h", "w", 3)}, r"no fixed size, \(1, h, w, 3\), and the metadata no dseg_sizes"),
        ({"more": {"dseg_sizes": "{}"}}, r"has dseg_sizes, but input pixels has a fixed size: \(1, 6, 8, 3\)"),
        (sized([1, 2]), "has broken sizes"),
        (sized({"min": [1, 1], "opt": [2, 2]}), "has broken sizes"),
        (sized({"min": [1, 1], "opt": [2, 2.5], "max": [3, 3]}), r"has broken sizes: \[2, 2.5\] is not"),
        (sized({"min": [9, 1], "opt": [2, 2], "max": [9, 9]}), "the sizes 1x9, 2x2, 9x9 do not grow"),
        ({"outputs": ("confidence",)}, "no output mask; there are: confidence"),
        ({"out_kind": TensorProto.INT64}, r"output mask is int64 \(1, 6, 8\), not uint8 \(1, 6, 8\)"),
        ({"outputs": ("mask",), "out_shape": (1, 1, 6, 8)}, r"mask is uint8 \(1, 1, 6, 8\), not uint8 \(1, 6, 8\)"),
        ({"outputs": ("mask",), "out_shape": (1, 3, 16)}, r"output mask is uint8 \(1, 3, 16\), not uint8 \(1, 6, 8\)"),
    ],
)
def test_foreign_models_are_refused_by_the_part_that_does_not_fit(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = foreign(tmp_path / "model.onnx", **change)  # type: ignore[arg-type]
    with pytest.raises(DsegError, match=f"model.onnx: .*{message}") as found:
        open_model(path, threads=1)
    assert len(str(found.value).splitlines()) == 1 and found.value.fix


def test_models_of_the_first_revision_run(tmp_path: Path) -> None:
    path = foreign(tmp_path / "model.onnx", more={"dseg_contract": "1"})
    assert open_model(path, threads=1).predict(np.full((6, 8, 3), 200, np.uint8)).mask.all()


def test_a_model_without_confidence_gives_none(tmp_path: Path) -> None:
    path = foreign(tmp_path / "model.onnx", outputs=("logits", "mask"))
    predictor = open_model(path, threads=1)
    assert not predictor.backend.contract.confidence
    found = predictor.predict(np.full((12, 16, 3), 200, np.uint8))
    assert found.mask.shape == (12, 16) and found.mask.all() and found.confidence is None


def test_a_model_of_several_cameras_takes_as_many_images(tmp_path: Path) -> None:
    predictor = open_model(foreign(tmp_path / "model.onnx", shape=(3, 6, 8, 3)), threads=1)
    assert predictor.batch == 3
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (6, 8, 3)).astype(np.uint8) for _ in range(3)]
    for image, found in zip(images, predictor.predict_batch(images), strict=True):
        np.testing.assert_array_equal(found.mask, image[..., 0] > 127)
        np.testing.assert_array_equal(found.confidence, image[..., 0])
    larger = [np.full((height, 20, 3), value, np.uint8) for height, value in ((12, 255), (6, 0), (40, 255))]
    for image, found in zip(larger, predictor.predict_batch(larger), strict=True):
        assert found.mask.shape == image.shape[:2] and (found.mask == image[0, 0, 0] // 255).all()
    with pytest.raises(DsegError, match="takes 3 images at once, not 2"):
        predictor.predict_batch(images[:2])
    with pytest.raises(DsegError, match=r"takes 3 images at once, not one\. Export it with `dseg export --batch 1`"):
        predictor.predict(images[0])


def test_a_model_of_a_range_of_sizes_sees_images_as_they_are(tmp_path: Path) -> None:
    range_ = SizeRange((4, 6), (8, 12), (20, 30))
    metadata = Contract(CLASSES, None, range_, batch=2).to_metadata()
    predictor = open_model(foreign(tmp_path / "model.onnx", metadata, (2, "rows", "columns", 3)), threads=1)
    contract = predictor.backend.contract
    assert contract.sizes == range_ and contract.size is None and predictor.size == (8, 12)
    assert contract.to_metadata() == metadata
    rng = np.random.default_rng(1)
    for size in ((4, 6), (20, 30), (5, 29)):
        images = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for _ in range(2)]
        for image, found in zip(images, predictor.predict_batch(images), strict=True):
            np.testing.assert_array_equal(found.confidence, image[..., 0])
    large = np.zeros((40, 60, 3), np.uint8)
    assert predictor.predict_batch([large, large])[0].mask.shape == (40, 60)
    assert predictor.predict_batch([large, large], own_size=True)[0].mask.shape == (20, 30)
    with pytest.raises(DsegError, match="images of one batch must have one size, not 10x10 and 30x20"):
        predictor.predict_batch([large, large[:10, :10]])


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((20, 30), (20, 30)),
        ((4, 30), (4, 30)),
        ((40, 60), (20, 30)),
        ((40, 40), (20, 20)),
        ((2, 3), (4, 6)),
        ((2, 12), (4, 24)),
        ((60, 30), (20, 10)),
        ((2, 60), (4, 30)),
        ((21, 30), (20, 29)),
    ],
)
def test_sizes_out_of_range_are_brought_in_with_their_aspect(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert SizeRange((4, 6), (8, 12), (20, 30)).fit(size) == expected


def test_contract_survives_its_metadata(tiny_run: Path, predictor: Predictor) -> None:
    contract = predictor.backend.contract
    own = {p.key: p.value for p in onnx.load(tiny_run / "model.onnx").metadata_props}
    assert contract.to_metadata() == own
    assert contract.classes == ClassTable.of_clusters(5) and contract.origin["network"] == "small 96x64"


def test_paths_that_are_no_models(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(DsegError, match="does not exist"):
        open_model(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(DsegError, match=r"text\.onnx: is no ONNX model"):
        open_model(tmp_path / "text.onnx")
    whole = (tiny_run / "model.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DsegError, match=r"cut\.onnx: "):
        open_model(tmp_path / "cut.onnx")
    with pytest.raises(DsegError, match="is not the folder of a run"):
        open_model(tiny_run / "model.onnx", "torch")
    with pytest.raises(DsegError, match="there is no backend 'magic'"):
        open_model(tiny_run / "model.onnx", "magic")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ([[0]], "must be a numpy array, not list"),
        (np.zeros((4, 4, 3), np.float32), "must be uint8, not float32"),
        (np.zeros((4, 4), np.uint8), r"must be \(H, W, 3\), not \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"must be \(H, W, 3\), not \(4, 4, 4\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"must be \(H, W, 3\), not \(1, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), "must have pixels"),
    ],
)
def test_bad_images_are_refused_and_the_next_is_taken(predictor: Predictor, image: object, message: str) -> None:
    with pytest.raises(DsegError, match=message):
        predictor.predict(image)  # type: ignore[arg-type]
    assert predictor.predict(models.picture(1)).mask.shape == (models.HEIGHT, models.WIDTH)


@pytest.mark.parametrize(
    "made",
    [
        lambda rgb: np.ascontiguousarray(rgb[..., ::-1])[..., ::-1],
        lambda rgb: np.asfortranarray(rgb),
        lambda rgb: np.pad(rgb, ((0, 0), (0, 9), (0, 0)))[:, :-9],
        lambda rgb: np.frombuffer(rgb.tobytes(), np.uint8).reshape(rgb.shape),
    ],
    ids=["reversed", "columns first", "cropped", "read-only"],
)
@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_any_memory_layout_gives_the_same(tiny_run: Path, backend: str, made: Callable[..., np.ndarray]) -> None:
    predictor = open_model(tiny_run if backend == "torch" else tiny_run / "model.onnx", backend, threads=1)
    rgb = models.picture(7)
    expected, found = predictor.predict(rgb.copy()), predictor.predict(made(rgb))
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_array_equal(rgb, models.picture(7))


def test_backends_agree(tiny_run: Path, predictor: Predictor) -> None:
    torch_predictor = open_model(tiny_run, threads=1)
    assert torch_predictor.backend.name == "torch" and torch_predictor.size is None
    masks = [(predictor.predict(i).mask, torch_predictor.predict(i).mask) for i in map(models.picture, range(50, 55))]
    assert np.mean([a == b for a, b in masks]) >= 0.999
    assert len(np.unique([a for a, _ in masks])) >= 3


@pytest.mark.parametrize(("height", "width"), [(150, 244), (30, 40), (1, 1), (75, 300)])
def test_images_of_another_size_are_fitted(predictor: Predictor, height: int, width: int) -> None:
    rgb = models.picture(3, height, width)
    found = predictor.predict(rgb)
    assert found.mask.shape == found.confidence.shape == (height, width)
    shrinks = height >= models.HEIGHT and width >= models.WIDTH
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    inside = predictor.predict(cv2.resize(rgb, (models.WIDTH, models.HEIGHT), interpolation=how)).mask
    rows = ((np.arange(height) + 0.5) * models.HEIGHT / height).astype(int)
    columns = ((np.arange(width) + 0.5) * models.WIDTH / width).astype(int)
    np.testing.assert_array_equal(found.mask, inside[rows][:, columns])


def test_results_are_arrays_of_their_own(predictor: Predictor) -> None:
    first = predictor.predict(models.picture(1))
    kept = first.mask.copy()
    predictor.predict(models.picture(2))
    np.testing.assert_array_equal(first.mask, kept)


def test_running_a_model_imports_nothing_of_learning(tiny_run: Path) -> None:
    code = (
        "import sys, numpy as np; from pathlib import Path; from dseg_core.runtime.predictor import open_model;"
        f"open_model(Path({str(tiny_run / 'model.onnx')!r})).predict(np.zeros((9, 9, 3), np.uint8));"
        "heavy = {'torch', 'timm', 'open3d', 'sklearn', 'numba', 'rosbags', 'onnx', 'faiss', 'scipy', 'av'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
