"""Which backend runs a model, and why; each one's library is imported only when its turn comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dseg_core.errors import DsegError
from dseg_core.runtime.cuda_memory import NoDeviceError, current_device
from dseg_core.runtime.engine_builder import EngineStoppedError
from dseg_core.runtime.engine_file import read_engine_file
from dseg_core.runtime.model_check import check_run
from dseg_core.runtime.onnx_header import header_of, read_onnx
from dseg_core.runtime.tensorrt_library import LIBRARIES, LOG, TensorRt, installed
from dseg_core.stage_options.engine import ENGINE_SUFFIXES, EngineOptions
from dseg_core.words import one_line

if TYPE_CHECKING:
    from dseg_core.runtime.backend import Backend
    from dseg_core.runtime.onnxruntime_backend import OnnxRuntimeBackend


@dataclass(frozen=True)
class Opening:
    """How a model is to be opened: the arguments of `open_model`."""

    path: Path
    threads: int
    engine: EngineOptions
    building: Callable[[float], None] | None
    stop: Callable[[], bool] | None


@dataclass(frozen=True, eq=False)
class Opened:
    """`backend` with a model. `reason`: why this one. `failed`: better ones that should run it, and why they do not."""

    backend: Backend
    reason: str
    failed: tuple[str, ...] = ()


def opened(how: Opening, backend: str) -> Opened:
    """A backend with the model.

    Args:
        how: To open it.
        backend: One of BACKENDS.

    Raises:
        DsegError: The backend that was asked for cannot run it, or none can.
    """
    found = _opened(how, backend)
    LOG.info("%s: run by %s", how.path, found.reason)
    return found


def _opened(how: Opening, backend: str) -> Opened:
    path = how.path
    if path.suffix in ENGINE_SUFFIXES and not path.is_dir():
        return _of_engine_file(how, backend)
    if path.is_dir() and backend in ("auto", "torch"):
        return Opened(_torch(how), "torch, since the model is the folder of a run")
    if path.is_dir() or backend == "torch":
        wanted = "the folder of a run" if backend == "torch" else "an .onnx file"
        raise DsegError(
            f"is not {wanted}, which the backend {backend} wants", where=path, fix="Give one, or another --backend"
        )
    if backend == "auto":
        return _first(how)
    found = _tensorrt(how, backend) if backend in LIBRARIES else _onnxruntime(how)
    return Opened(found, f"{backend}, as asked for")


def _first(how: Opening) -> Opened:
    """The first backend that can run an .onnx file here."""
    passed: list[str] = []
    failed: list[str] = []
    if any(map(installed, LIBRARIES)):
        header_of(read_onnx(how.path), how.path).contract(how.path)  # what is no model is no library's fault
    for name in LIBRARIES:
        if not installed(name):
            passed.append(f"{name} is not installed")
            continue
        try:
            return Opened(_tensorrt(how, name), _because(name, passed), tuple(failed))
        except EngineStoppedError:
            raise
        except NoDeviceError as error:
            passed.append(f"{name} finds {error.what}")
        except DsegError as error:
            passed.append(f"{name} cannot run it ({error})")
            failed.append(f"{name} is installed but cannot run {how.path.name}: {error}")
            LOG.warning("%s", failed[-1])
    found = _onnxruntime(how)
    return Opened(found, _because(f"ONNX Runtime on the {found.provider}", passed), tuple(failed))


def _because(name: str, passed: list[str]) -> str:
    return f"{name}, since {' and '.join(passed)}" if passed else f"{name}, the first choice"


def _tensorrt(how: Opening, name: str) -> Backend:
    from dseg_core.runtime.engine_from_onnx import Refused, engine_of, source_for_this_gpu
    from dseg_core.runtime.tensorrt_backend import EngineRefusedError, TensorRtBackend

    if installed(name):
        current_device()  # asked before the library is loaded, which takes a second
    library = TensorRt(name, how.engine.verbose)
    source = source_for_this_gpu(how.path, library)
    engine = engine_of(source, how.engine, how.building, how.stop)
    try:
        return TensorRtBackend(library, engine)
    except EngineRefusedError as error:
        refused = Refused(engine.description.sha256, error.what)
    return TensorRtBackend(library, engine_of(source, how.engine, how.building, how.stop, refused))


def _of_engine_file(how: Opening, backend: str) -> Opened:
    from dseg_core.runtime.tensorrt_backend import TensorRtBackend

    engine = read_engine_file(how.path, how.engine.trust)
    key = engine.description.key
    if backend not in ("auto", key.library):
        raise DsegError(f"was built by {key.library}, which the backend {backend} does not run", where=how.path)
    library = TensorRt(key.library, how.engine.verbose)
    if library.version != key.version:
        what = f"was built by {key.library} {key.version}, and this is {library.version}"
        raise DsegError(what, where=how.path, fix="Build it again with `dseg export --engine-out`")
    device = current_device()
    if device.capability != key.capability:
        what = f"was built for compute capability {key.capability}; the {device.name} has {device.capability}"
        raise DsegError(what, where=how.path, fix="Build it again for this GPU")
    return Opened(TensorRtBackend(library, engine), f"{key.library}, which built the engine")


def _onnxruntime(how: Opening) -> OnnxRuntimeBackend:
    try:
        from dseg_core.runtime.onnxruntime_backend import OnnxRuntimeBackend
    except ImportError as error:
        raise _missing("onnxruntime", error, "`pip install onnxruntime`, or onnxruntime-gpu") from None
    return OnnxRuntimeBackend(how.path, how.threads, how.engine.providers)


def _torch(how: Opening) -> Backend:
    check_run(how.path)  # before torch is loaded, which takes seconds
    try:
        from dseg_core.runtime.torch_backend import TorchBackend
    except ImportError as error:
        raise _missing("torch", error, "`pip install 'dseg_ros[train]'`; in the car, run the exported model") from None
    return TorchBackend(how.path, how.threads)


def _missing(name: str, error: ImportError, fix: str) -> DsegError:
    if isinstance(error, ModuleNotFoundError):
        return DsegError("is not installed", where=error.name or name, fix=fix)
    return DsegError(f"does not load: {one_line(error)}", where=name, fix=fix)
