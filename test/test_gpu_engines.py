"""Engines on a real GPU: `make test-gpu` with TensorRT or TensorRT-RTX, cuda-python and torch's CUDA."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path

import models
import numpy as np
import pytest

from dseg_core.errors import DsegError
from dseg_core.runtime.cuda_memory import current_device, runtime
from dseg_core.runtime.predictor import Predictor, open_model
from dseg_core.runtime.tensorrt_library import LIBRARIES, TensorRt, installed
from dseg_core.stage_options import EngineOptions, ExportOptions

pytestmark = [pytest.mark.gpu, pytest.mark.xdist_group("gpu")]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> EngineOptions:
    return EngineOptions(cache=tmp_path_factory.mktemp("engines") / "cache")


@pytest.fixture(scope="module", params=LIBRARIES)
def predictor(request: pytest.FixtureRequest, tiny_run: Path, cache: EngineOptions) -> Predictor:
    if not installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    known = TensorRt(request.param).capabilities()
    if known and current_device().capability not in known:
        pytest.skip(f"{request.param} does not know this GPU")
    return open_model(tiny_run / "model.onnx", request.param, engine=cache)


def pictures(count: int) -> list[np.ndarray]:
    return [models.picture(seed) for seed in range(count)]


def used_bytes() -> int:
    _, free, total = runtime().cudaMemGetInfo()
    return int(total - free)


def test_masks_are_those_of_onnx_runtime(predictor: Predictor, tiny_run: Path) -> None:
    expected = open_model(tiny_run / "model.onnx", "onnxruntime")
    same, apart = [], []
    for image in pictures(10):
        found, wanted = predictor.predict(image), expected.predict(image)
        same.append((found.mask == wanted.mask).mean())
        assert found.confidence is not None and wanted.confidence is not None
        apart.append(np.abs(found.confidence.astype(int) - wanted.confidence).max())
    # TF32 rounds products to 10 bits: a few pixels between two classes may go to the other one.
    assert np.mean(same) > 0.99 and np.median(apart) <= 5
    assert len(np.unique([predictor.predict(image).mask for image in pictures(3)])) >= 3


@pytest.mark.parametrize("precision", ["fp16", "int8", "fp8"])
def test_lower_precisions_give_what_onnx_runtime_gives(
    predictor: Predictor, precision: str, own_run: Path, cache: EngineOptions
) -> None:
    from dseg_core.model_from_student import export

    if precision == "fp8" and tuple(map(int, current_device().capability.split("."))) < (8, 9):
        pytest.skip("this GPU has no fp8")
    any_ = {"max_miou_loss": 1.0, "max_clear_wrong": 1.0, "max_confidence_error": 1.0}
    export(own_run, ExportOptions(out=own_run / "low.onnx", precision=precision, **any_))
    found = open_model(own_run / "low.onnx", predictor.backend.name, engine=cache)
    expected = open_model(own_run / "low.onnx", "onnxruntime")
    assert found.notes == ()
    same = [(found.predict(image).mask == expected.predict(image).mask).mean() for image in pictures(10)]
    assert np.mean(same) > 0.97


def test_it_runs_as_a_cuda_graph(predictor: Predictor) -> None:
    assert predictor.notes == ()


def test_queued_images_give_what_single_ones_give(predictor: Predictor) -> None:
    images = pictures(20)
    single = [predictor.predict(image) for image in images]
    for one, other in zip(single, predictor.predict_all(images), strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
        np.testing.assert_array_equal(one.confidence, other.confidence)


def test_frames_take_no_memory(predictor: Predictor) -> None:
    images = pictures(4)
    for image in images:
        predictor.predict(image)
    before = used_bytes()
    for _ in range(100):
        for image in images:
            predictor.predict(image)
    assert used_bytes() == before


def test_images_on_the_gpu(predictor: Predictor) -> None:
    torch = pytest.importorskip("torch")
    stream = torch.cuda.Stream()
    for image in pictures(5):
        expected = predictor.predict(image)
        with torch.cuda.stream(stream):
            here = torch.from_numpy(image).cuda(non_blocking=True)
            here = (here.float() * 2 / 2).to(torch.uint8)  # still being computed when it is given
            found = predictor.predict(here)
        np.testing.assert_array_equal(found.mask, expected.mask)
    with pytest.raises(DsegError, match="must be contiguous"):
        predictor.predict(torch.from_numpy(pictures(1)[0]).cuda().flip(1).transpose(0, 1).transpose(0, 1)[:, ::2])
    with pytest.raises(DsegError, match="must be uint8"):
        predictor.predict(torch.zeros((models.HEIGHT, models.WIDTH, 3)).cuda())


def test_wrong_images_leave_it_usable(predictor: Predictor) -> None:
    image = pictures(1)[0]
    expected = predictor.predict(image)
    for wrong in (image.astype(np.float32), image[..., :2], image[:0], image[0]):
        with pytest.raises(DsegError):
            predictor.predict(wrong)
    image.setflags(write=False)
    found = predictor.predict(image[:, ::-1][:, ::-1])
    np.testing.assert_array_equal(found.mask, expected.mask)


def test_the_second_start_builds_nothing(
    predictor: Predictor, tiny_run: Path, cache: EngineOptions, caplog: pytest.LogCaptureFixture
) -> None:
    shares: list[float] = []
    again = open_model(tiny_run / "model.onnx", predictor.backend.name, engine=cache, building=shares.append)
    assert not shares and "builds an engine" not in caplog.text
    np.testing.assert_array_equal(again.predict(pictures(1)[0]).mask, predictor.predict(pictures(1)[0]).mask)


def test_auto_takes_the_gpu(predictor: Predictor, tiny_run: Path, cache: EngineOptions) -> None:
    found = open_model(tiny_run / "model.onnx", engine=cache)
    assert found.backend.name == ("tensorrt" if installed("tensorrt") else "tensorrt_rtx"), found.reason


def test_an_engine_that_the_library_refuses_is_built_again(
    predictor: Predictor, tiny_run: Path, cache: EngineOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The digest fits, so that only the library finds that it is no engine."""
    caplog.set_level(logging.INFO)
    assert cache.cache is not None
    mine = tmp_path / "cache"
    shutil.copytree(cache.cache, mine)
    mine.chmod(0o700)
    for place in mine.iterdir():
        (place / "engine.plan").write_bytes(b"x" * 5000)
        told = json.loads((place / "engine.json").read_text())
        told |= {"size": 5000, "sha256": hashlib.sha256(b"x" * 5000).hexdigest()}
        (place / "engine.json").write_text(json.dumps(told))
    found = open_model(tiny_run / "model.onnx", predictor.backend.name, engine=EngineOptions(cache=mine))
    assert "cannot load it" in caplog.text and "builds an engine" in caplog.text
    image = pictures(1)[0]
    np.testing.assert_array_equal(found.predict(image).mask.shape, image.shape[:2])
