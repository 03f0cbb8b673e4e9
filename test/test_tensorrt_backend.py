"""Inference on a GPU made of numpy, whose streams take turns by chance; on a real one where there is one."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_cuda import (
    FakeContext,
    FakeCuda,
    FakeEngine,
    FakeKernels,
    FakeLibrary,
    FakeRtxEngine,
    Handle,
    at,
    cudaError_t,
)

from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.runtime import cuda_memory
from dseg_core.runtime.backend import QueuedBackend
from dseg_core.runtime.contract import Contract, Port
from dseg_core.runtime.cuda_memory import GpuLostError
from dseg_core.runtime.engine_cache import Engine
from dseg_core.runtime.engine_description import EngineDescription, EngineKey
from dseg_core.runtime.gpu_image import gpu_image_of
from dseg_core.runtime.predictor import Predictor
from dseg_core.runtime.size_range import SizeRange
from dseg_core.runtime.tensorrt_backend import EngineRefusedError, TensorRtBackend

CLASSES = ClassTable.of_names(["dark", "bright"], [(0, 0, 0), (255, 255, 255)])
ALLOCATING = ("cudaMalloc", "cudaHostAlloc", "cudaEventCreateWithFlags", "cudaStreamCreateWithFlags",
              "cudaGraphInstantiateWithFlags", "cudaStreamBeginCapture")  # fmt: skip


@pytest.fixture
def cuda(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeCuda]:
    monkeypatch.chdir(tmp_path)  # kernels are kept beside `engine.plan`
    named = getattr(request.node, "callspec", None)
    fake = FakeCuda(named.params.get("seed", 0) if named else 0)
    monkeypatch.setattr(cuda_memory, "runtime", lambda: fake)
    yield fake
    gc.collect()  # what the fake gave out is given back to it, not to another test's


def described(contract: Contract, content: bytes = b"engine", extra: tuple[Port, ...] = ()) -> Engine:
    height, width = contract.size or ("height", "width")
    shape = (contract.batch, height, width)
    outputs = [Port("mask", "uint8", shape), *([Port("confidence", "uint8", shape)] if contract.confidence else [])]
    key = EngineKey("m" * 64, "tensorrt", "10.3.0", "Fake GPU", "8.9", "the model's types", "", "")
    description = EngineDescription(
        key, "model.onnx", "", len(content), contract.to_metadata(), (Port("image", "uint8", (*shape, 3)),),
        (*outputs, *extra),
    )  # fmt: skip
    return Engine(content, description, Path("engine.plan"))


def shapes_of(contract: Contract) -> dict[str, tuple[int, ...]]:
    shape = (contract.batch, *(contract.size or (-1, -1)))
    return {"image": (*shape, 3), "mask": shape, **({"confidence": shape} if contract.confidence else {})}


def backend_of(cuda: FakeCuda, contract: Contract) -> TensorRtBackend:
    return TensorRtBackend(FakeLibrary(cuda, shapes_of(contract)), described(contract))  # type: ignore[arg-type]


def pictures(count: int, height: int = 6, width: int = 8) -> list[np.ndarray]:
    return [np.random.default_rng(i).integers(0, 256, (height, width, 3)).astype(np.uint8) for i in range(count)]


@pytest.mark.parametrize("seed", range(25))
def test_masks_are_right_whatever_stream_goes_first(cuda: FakeCuda, seed: int) -> None:
    predictor = Predictor(backend_of(cuda, Contract(CLASSES, (6, 8))))
    images = pictures(9)
    for image, found in zip(images, list(predictor.predict_all(iter(images))), strict=True):
        np.testing.assert_array_equal(found.mask, image[..., 0] > 127)
        np.testing.assert_array_equal(found.confidence, image[..., 0])
    np.testing.assert_array_equal(predictor.predict(images[3]).confidence, images[3][..., 0])


def test_the_next_image_is_queued_before_the_last_is_awaited(cuda: FakeCuda) -> None:
    predictor = Predictor(backend_of(cuda, Contract(CLASSES, (6, 8))))
    assert isinstance(predictor.backend, QueuedBackend)
    found = predictor.predict_all(pictures(3))
    before = cuda.calls["cudaGraphLaunch"]
    next(found)
    assert cuda.calls["cudaGraphLaunch"] == before + 2


def test_a_frame_allocates_nothing_and_is_one_graph(cuda: FakeCuda) -> None:
    predictor = Predictor(backend_of(cuda, Contract(CLASSES, (6, 8))))
    assert predictor.notes == ()
    before = cuda.calls.copy()
    for image in pictures(10):
        predictor.predict(image)
    made = cuda.calls - before
    assert not [call for call in ALLOCATING if made[call]]
    # The image's copy is the only one outside the graph.
    assert made["cudaGraphLaunch"] == made["cudaMemcpyAsync"] == 10


def test_memory_is_given_back(cuda: FakeCuda) -> None:
    predictor = Predictor(backend_of(cuda, Contract(CLASSES, (6, 8))))
    assert cuda.memory
    del predictor
    gc.collect()
    assert not cuda.memory and not cuda.graphs
    for thing in ("Event", "Stream"):
        assert 0 < cuda.calls[f"cuda{thing}CreateWithFlags"] == cuda.calls[f"cuda{thing}Destroy"]


def test_without_a_graph_it_runs_and_says_so(cuda: FakeCuda) -> None:
    cuda.capturable = False
    predictor = Predictor(backend_of(cuda, Contract(CLASSES, (6, 8))))
    assert "tensorrt runs without a CUDA graph: the GPU failed to end a graph: words of 900" in predictor.notes[0]
    for image in pictures(3):
        np.testing.assert_array_equal(predictor.predict(image).confidence, image[..., 0])
    assert not cuda.calls["cudaGraphLaunch"]


def test_a_size_that_has_a_graph_is_not_said_to_have_none(cuda: FakeCuda) -> None:
    cuda.capturable = False
    predictor = Predictor(backend_of(cuda, Contract(CLASSES, None, SizeRange((4, 4), (6, 8), (12, 10)))))
    assert len(predictor.notes) == 1
    cuda.capturable = True
    predictor.predict(pictures(1, 12, 10)[0])
    assert predictor.notes == () and cuda.calls["cudaGraphLaunch"] == 1


def test_several_images_at_once_and_no_confidence(cuda: FakeCuda) -> None:
    predictor = Predictor(backend_of(cuda, Contract(CLASSES, (6, 8), batch=3, confidence=False)))
    for images in (pictures(3), pictures(6)[3:]):
        found = predictor.predict_batch(images)
        assert [f.confidence for f in found] == [None] * 3
        for image, one in zip(images, found, strict=True):
            np.testing.assert_array_equal(one.mask, image[..., 0] > 127)


def test_sizes_of_a_range(cuda: FakeCuda) -> None:
    """Memory is for the largest from the start; a new size costs new graphs, and each image has its own mask."""
    predictor = Predictor(backend_of(cuda, Contract(CLASSES, None, SizeRange((4, 4), (6, 8), (12, 10)))))
    before = cuda.calls.copy()
    images = [*pictures(2, 6, 8), *pictures(3, 12, 10), *pictures(2, 5, 4)]
    for image, found in zip(images, predictor.predict_all(images), strict=True):
        np.testing.assert_array_equal(found.confidence, image[..., 0])
    made = cuda.calls - before
    assert not made["cudaMalloc"] and not made["cudaHostAlloc"] and made["cudaGraphInstantiateWithFlags"] == 4


def test_further_outputs_are_not_looked_at(cuda: FakeCuda) -> None:
    contract = Contract(CLASSES, (6, 8))
    shapes = {**shapes_of(contract), "features": (1, 6, 8)}
    library = FakeLibrary(cuda, shapes, {"features": "FLOAT"})
    predictor = Predictor(TensorRtBackend(library, described(contract)))  # type: ignore[arg-type]
    image = pictures(1)[0]
    np.testing.assert_array_equal(predictor.predict(image).mask, image[..., 0] > 127)


class OnGpu:
    """An image of another library, still being written by a stream of its own."""

    def __init__(self, cuda: FakeCuda, image: np.ndarray, **told: object) -> None:
        self._address = int(cuda.cudaMalloc(image.size)[1])
        stream = cuda.cudaStreamCreateWithFlags(1)[1]

        def write() -> bool:
            at(self._address, image.shape)[...] = image
            return True

        cuda.queue(stream, lambda: write)
        self.__cuda_array_interface__ = {
            "shape": image.shape, "typestr": "|u1", "data": (self._address, False), "version": 3,
            "stream": int(stream), **told,
        }  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_images_on_the_gpu(cuda: FakeCuda, seed: int) -> None:
    predictor = Predictor(backend_of(cuda, Contract(CLASSES, (6, 8))))
    image = pictures(seed + 1)[-1]
    found = predictor.predict(OnGpu(cuda, image))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.confidence, image[..., 0])


@pytest.mark.parametrize("seed", range(5))
def test_images_of_a_library_that_tells_no_stream(cuda: FakeCuda, seed: int) -> None:
    """Torch tells version 2 of the interface, which has none: whatever may still write the image is waited for."""
    predictor = Predictor(backend_of(cuda, Contract(CLASSES, (6, 8))))
    image = pictures(seed + 1)[-1]
    here = OnGpu(cuda, image, version=2)
    del here.__cuda_array_interface__["stream"]
    np.testing.assert_array_equal(predictor.predict(here).confidence, image[..., 0])  # type: ignore[arg-type]


def test_an_image_on_the_gpu_is_kept_until_it_was_read(cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = backend_of(cuda, Contract(CLASSES, (6, 8)))
    image = OnGpu(cuda, pictures(1)[0])
    kept, alive = weakref.ref(image), list[bool]()
    backend.start(gpu_image_of(image))
    del image
    wait = cuda.cudaEventSynchronize

    def waiting(event: Handle) -> object:
        done = wait(event)
        alive.append(kept() is not None)
        return done

    monkeypatch.setattr(cuda, "cudaEventSynchronize", waiting)
    backend.finish()
    gc.collect()
    assert alive == [True] and kept() is None


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"typestr": "<f4"}, "must be uint8, not <f4"),
        ({"shape": (6, 8)}, r"must be \(H, W, 3\)"),
        ({"shape": (0, 8, 3)}, "must have pixels"),
        ({"strides": (32, 3, 1)}, "must be contiguous"),
        ({"shape": (5, 8, 3)}, "this one is 8x5, not 8x6"),
    ],
)
def test_bad_images_on_the_gpu_are_refused_and_the_next_is_taken(
    cuda: FakeCuda, told: dict[str, object], message: str
) -> None:
    predictor = Predictor(backend_of(cuda, Contract(CLASSES, (6, 8))))
    image = pictures(1)[0]
    with pytest.raises(DsegError, match=message):
        predictor.predict(OnGpu(cuda, image, **told))  # type: ignore[arg-type]
    np.testing.assert_array_equal(predictor.predict(image).confidence, image[..., 0])


def test_a_backend_of_the_cpu_takes_no_image_on_the_gpu(cuda: FakeCuda) -> None:
    backend = SimpleNamespace(name="onnxruntime", contract=Contract(CLASSES, (6, 8)), run=lambda images: None)
    with pytest.raises(DsegError, match="onnxruntime takes no images that are on the GPU"):
        Predictor(backend).predict(OnGpu(cuda, pictures(1)[0]))  # type: ignore[arg-type]


@pytest.mark.parametrize("call", ["cudaMemcpyAsync", "cudaGraphLaunch", "cudaEventSynchronize", "cudaEventRecord"])
def test_a_failure_is_told_and_the_next_image_is_right(cuda: FakeCuda, call: str) -> None:
    predictor = Predictor(backend_of(cuda, Contract(CLASSES, (6, 8))))
    images = pictures(4)
    cuda.fail[call] = cudaError_t.cudaErrorIllegalAddress
    for _ in range(3):
        with pytest.raises(DsegError, match=r"the GPU failed .*words of 700 \(cudaErrorIllegalAddress\)"):
            predictor.predict(images[0])
    cuda.fail.clear()
    for image, found in zip(images, predictor.predict_all(images), strict=True):
        np.testing.assert_array_equal(found.confidence, image[..., 0])


@pytest.mark.parametrize("call", ["cudaGraphInstantiateWithFlags", "cudaStreamSynchronize", "cudaMemcpyAsync"])
@pytest.mark.parametrize("good", range(6))
def test_a_failure_on_the_way_to_another_size(cuda: FakeCuda, call: str, good: int) -> None:
    """However far it came: no image gets a mask from what was prepared for another size."""
    predictor = Predictor(backend_of(cuda, Contract(CLASSES, None, SizeRange((4, 4), (6, 8), (12, 10)))))
    images = pictures(4, 12, 10)
    before, real = cuda.calls[call], getattr(cuda, call)

    def failing(*arguments: object) -> object:
        if cuda.calls[call] - before >= good:
            cuda.fail[call] = cudaError_t.cudaErrorMemoryAllocation
        return real(*arguments)

    setattr(cuda, call, failing)
    with suppress(DsegError):
        predictor.predict(images[0])
    delattr(cuda, call)
    cuda.fail.clear()
    for _ in range(2):
        for image, found in zip(images, predictor.predict_all(images), strict=True):
            np.testing.assert_array_equal(found.confidence, image[..., 0])


def test_a_gpu_that_is_lost_is_told_apart(cuda: FakeCuda) -> None:
    predictor = Predictor(backend_of(cuda, Contract(CLASSES, (6, 8))))
    cuda.fail = dict.fromkeys(("cudaStreamSynchronize", "cudaEventSynchronize"), cudaError_t.cudaErrorIllegalAddress)
    with pytest.raises(GpuLostError, match=r"cudaErrorIllegalAddress.*start it again"):
        predictor.predict(pictures(1)[0])
    cuda.fail["cudaSetDevice"] = cudaError_t.cudaErrorIllegalAddress
    with pytest.raises(GpuLostError, match=r"cudaErrorIllegalAddress.*start it again"):
        predictor.predict(pictures(1)[0])


def test_another_size_too_early_loses_nothing(cuda: FakeCuda) -> None:
    backend = backend_of(cuda, Contract(CLASSES, None, SizeRange((4, 4), (6, 8), (12, 10))))
    first, other = pictures(1)[0][None], pictures(1, 12, 10)[0][None]
    backend.start(first)
    with pytest.raises(DsegError, match="images of another size are under way"):
        backend.start(other)
    np.testing.assert_array_equal(backend.finish()[1], first[..., 0])
    np.testing.assert_array_equal(backend.run(other)[1], other[..., 0])


def test_every_thread_takes_the_gpu_before_anything_else(cuda: FakeCuda) -> None:
    """A new thread has no GPU yet; TensorRT's calls, which compile for another size, want one."""
    backend = backend_of(cuda, Contract(CLASSES, (6, 8)))
    before = cuda.calls["cudaSetDevice"]
    assert before == 1
    backend.run(pictures(1)[0][None])
    assert cuda.calls["cudaSetDevice"] == 2


def test_a_failure_while_another_image_is_under_way(cuda: FakeCuda) -> None:
    backend = backend_of(cuda, Contract(CLASSES, (6, 8)))
    first, second, third = (image[None] for image in pictures(3))
    backend.start(first)
    cuda.fail["cudaGraphLaunch"] = cudaError_t.cudaErrorIllegalAddress
    with pytest.raises(DsegError, match="the GPU failed to run a graph"):
        backend.start(second)
    cuda.fail.clear()
    np.testing.assert_array_equal(backend.run(third)[1], third[..., 0])
    with pytest.raises(DsegError, match="no inference is under way"):
        backend.finish()
    backend.start(first)
    backend.start(second)
    with pytest.raises(DsegError, match="two inferences are under way"):
        backend.start(third)
    np.testing.assert_array_equal(backend.finish()[1], first[..., 0])
    np.testing.assert_array_equal(backend.finish()[1], second[..., 0])


def test_going_away_in_the_middle_leaves_it_usable(cuda: FakeCuda) -> None:
    predictor = Predictor(backend_of(cuda, Contract(CLASSES, (6, 8))))
    images = pictures(5)
    some = predictor.predict_all(images)
    next(some)
    with pytest.raises(DsegError, match="other images are under way"):
        predictor.predict(images[0])
    some.close()  # type: ignore[attr-defined]
    with pytest.raises(DsegError, match="must be uint8"):
        list(predictor.predict_all([images[0], images[1].astype(np.float32)]))  # type: ignore[list-item]
    np.testing.assert_array_equal(predictor.predict(images[4]).confidence, images[4][..., 0])


def test_another_models_engine_is_refused(cuda: FakeCuda) -> None:
    contract = Contract(CLASSES, (6, 8))
    for shapes, kinds in (
        (shapes_of(Contract(CLASSES, (7, 8))), {}),
        ({"image": (1, 6, 8, 3), "mask": (1, 6, 8)}, {}),
        ({"pixels": (1, 6, 8, 3), "mask": (1, 6, 8), "confidence": (1, 6, 8)}, {}),
        (shapes_of(contract), {"mask": "INT32"}),
    ):
        with pytest.raises(DsegError, match=r"engine.plan: is the engine of another model: .*mask"):
            TensorRtBackend(FakeLibrary(cuda, shapes, kinds), described(contract))  # type: ignore[arg-type]
    with pytest.raises(EngineRefusedError, match="tensorrt cannot load it: its words"):
        TensorRtBackend(FakeLibrary(cuda, shapes_of(contract)), described(contract, b""))  # type: ignore[arg-type]


def test_kernels_of_rtx_are_kept_beside_the_engine(
    cuda: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = Contract(CLASSES, None, SizeRange((4, 4), (6, 8), (12, 10)))
    library = FakeLibrary(cuda, shapes_of(contract))
    library.name = "tensorrt_rtx"
    library.engine = FakeRtxEngine(cuda, shapes_of(contract), {})
    library.engine.configs = []
    library.module.DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")
    kernels = tmp_path / "kernels.cache"

    def start(name: str = "engine.plan") -> bytes:
        engine = dataclasses.replace(described(contract), path=tmp_path / name)
        predictor = Predictor(TensorRtBackend(library, engine))  # type: ignore[arg-type]
        image = pictures(1)[0]
        np.testing.assert_array_equal(predictor.predict(image).confidence, image[..., 0])
        assert library.engine.configs[-1].dynamic_shapes_kernel_specialization_strategy == "eager"
        return bytes(library.engine.configs[-1].cache.taken)

    assert start() == b"" and kernels.read_bytes() == b"kernels of this GPU"
    assert kernels.stat().st_mode & 0o777 == 0o600
    written = kernels.stat().st_ino
    assert start() == b"kernels of this GPU" and kernels.stat().st_ino == written, "not written again"
    kernels.chmod(0o666)
    assert start() == b""  # anybody could have written it
    kernels.write_bytes(b"of another driver")
    kernels.chmod(0o600)
    assert start() == b"" and kernels.read_bytes() == b"kernels of this GPU"
    with monkeypatch.context() as patched:
        patched.setattr(FakeKernels, "serialize", lambda self: None)
        start()  # of a library that cannot
    kernels.unlink()
    start("car.engine")  # the user's file, in the user's folder
    assert not kernels.exists()


def test_kernels_of_rtx_outlive_what_runs_them(cuda: FakeCuda) -> None:
    """The library's context and configuration keep only a pointer to the cache, which Python must not free before."""
    contract = Contract(CLASSES, (6, 8))
    told: list[str] = []

    class Kernels(FakeKernels):
        def __del__(self) -> None:
            told.append("kernels")

    class RtxEngine(FakeEngine):
        def create_runtime_config(self) -> SimpleNamespace:
            return SimpleNamespace(
                create_runtime_cache=Kernels, set_runtime_cache=lambda cache: None,
                set_execution_context_allocation_strategy=lambda strategy: None,
            )  # fmt: skip

        def create_execution_context(self, config: object = None) -> FakeContext:
            context = FakeContext(self)
            weakref.finalize(context, told.append, "context")
            return context

    library = FakeLibrary(cuda, shapes_of(contract))
    library.name, library.engine = "tensorrt_rtx", RtxEngine(cuda, shapes_of(contract), {})
    predictor = Predictor(TensorRtBackend(library, described(contract)))  # type: ignore[arg-type]
    gc.collect()
    assert told == []
    del predictor
    gc.collect()
    assert told == ["context", "kernels"]


def rtx_library(cuda: FakeCuda, contract: Contract) -> FakeLibrary:
    library = FakeLibrary(cuda, shapes_of(contract))
    library.name, library.engine = "tensorrt_rtx", FakeRtxEngine(cuda, shapes_of(contract), {})
    library.engine.configs = []
    return library


def test_rtx_has_its_memory_beforehand_and_runs_as_a_graph(cuda: FakeCuda) -> None:
    """An engine that allocates nothing by itself refuses to run without it; it is given back with the backend."""
    contract = Contract(CLASSES, (6, 8))
    library = rtx_library(cuda, contract)
    library.engine.device_memory_size_v2 = 4096
    predictor = Predictor(TensorRtBackend(library, described(contract)))  # type: ignore[arg-type]
    assert library.engine.configs[-1].allocates == "by the user" and predictor.notes == ()
    held, image = cuda.calls["cudaMalloc"], pictures(1)[0]
    np.testing.assert_array_equal(predictor.predict(image).confidence, image[..., 0])
    assert cuda.calls["cudaMalloc"] == held and cuda.calls["cudaGraphLaunch"] == 1
    assert 4096 in [array.size for array in cuda.memory.values()]
    del predictor
    gc.collect()
    assert not cuda.memory


def test_an_rtx_engine_that_no_graph_can_be_made_of_runs_without(cuda: FakeCuda) -> None:
    contract = Contract(CLASSES, (6, 8))
    library = rtx_library(cuda, contract)
    library.engine.capturable = False
    predictor = Predictor(TensorRtBackend(library, described(contract)))  # type: ignore[arg-type]
    assert not cuda.calls["cudaStreamBeginCapture"]
    assert predictor.notes == ("tensorrt_rtx runs without a CUDA graph: it says that none can be made of this model",)
    image = pictures(1)[0]
    np.testing.assert_array_equal(predictor.predict(image).confidence, image[..., 0])


def test_any_memory_layout_gives_the_same(cuda: FakeCuda) -> None:
    predictor = Predictor(backend_of(cuda, Contract(CLASSES, (6, 8))))
    image = pictures(1)[0]
    read_only = np.frombuffer(image.tobytes(), np.uint8).reshape(image.shape)
    for made in (read_only, np.asfortranarray(image), np.ascontiguousarray(image[:, ::-1])[:, ::-1]):
        np.testing.assert_array_equal(predictor.predict(made).confidence, image[..., 0])
    large = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)
    np.testing.assert_array_equal(predictor.predict(large).mask, large[..., 0] > 127)


def test_a_model_that_does_not_run_and_a_full_gpu(cuda: FakeCuda) -> None:
    contract = Contract(CLASSES, (6, 8))
    library = FakeLibrary(cuda, shapes_of(contract))
    library.engine.works = False
    with pytest.raises(DsegError, match="tensorrt does not run the model: its words"):
        TensorRtBackend(library, described(contract))  # type: ignore[arg-type]
    cuda.fail["cudaMalloc"] = cudaError_t.cudaErrorMemoryAllocation
    with pytest.raises(DsegError, match=r"failed to allocate 0.0 MB: words of 2 \(cudaErrorMemoryAllocation\)"):
        backend_of(cuda, contract)
