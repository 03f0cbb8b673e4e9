"""The predictor, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.runtime.contract import Contract
from dseg_core.runtime.predictor import Predictor, open_model

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
) -> Path:
    """A model that nobody exported with dseg: the mask is 1 where red is over 127. Honours the contract by default."""
    inputs = [helper.make_tensor_value_info("pixels", kind, shape)]
    constants = [
        helper.make_tensor("red", TensorProto.INT64, [], [0]),
        helper.make_tensor("half", TensorProto.FLOAT, [], [127.0]),
    ]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["x", "red"], ["r"], axis=len(shape) - 1),
        helper.make_node("Greater", ["r", "half"], ["g"]),
        *(helper.make_node("Cast", ["g" if name == "mask" else "r"], [name], to=out_kind) for name in outputs),
    ]
    ports = [helper.make_tensor_value_info(name, out_kind, shape[:-1]) for name in outputs]
    graph = helper.make_graph(nodes, "foreign", inputs, ports, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, Contract(CLASSES, (6, 8)).to_metadata() if metadata is None else metadata)
    onnx.save(model, path)
    return path


def test_anyones_model_that_keeps_the_contract_runs(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    predictor = open_model(foreign(tmp_path / "model.onnx"), threads=1)
    found = predictor.predict(image)
    np.testing.assert_array_equal(found.mask, image[..., 0] > 127)
    np.testing.assert_array_equal(found.confidence, image[..., 0])
    assert predictor.classes == CLASSES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metadata": {}}, "is no model of dseg: its metadata has no dseg_contract"),
        ({"metadata": {"dseg_contract": "99"}}, "keeps contract '99', not 1"),
        ({"metadata": {"dseg_contract": "1"}}, "lacks dseg_classes"),
        ({"metadata": {"dseg_contract": "1", "dseg_classes": "[oh"}}, "broken classes"),
        ({"metadata": {"dseg_contract": "1", "dseg_classes": json.dumps([{"id": 0}])}}, "lacks id, name or color"),
        ({"kind": TensorProto.FLOAT}, "input pixels is float32, not uint8"),
        ({"shape": (1, 3, 6, 8)}, r"shape \(1, 3, 6, 8\), not \(1, H, W, 3\)"),
        ({"shape": (2, 6, 8, 3)}, r"shape \(2, 6, 8, 3\), not"),
        ({"shape": (1, "h", "w", 3)}, r"no fixed size: \(1, h, w, 3\)"),
        ({"outputs": ("mask",)}, "no output confidence; there are: mask"),
        ({"out_kind": TensorProto.INT64}, "output mask is int64"),
    ],
)
def test_foreign_models_are_refused_by_the_part_that_does_not_fit(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = foreign(tmp_path / "model.onnx", **change)  # type: ignore[arg-type]
    with pytest.raises(DsegError, match=f"model.onnx: .*{message}"):
        open_model(path, threads=1)


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
