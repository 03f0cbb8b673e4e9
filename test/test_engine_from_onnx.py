"""Real engines of TensorRT-RTX, built without a GPU, and the cache that they are kept in."""

from __future__ import annotations

import dataclasses
import errno
import gc
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
from engines import write_model

from dseg_core.errors import DsegError
from dseg_core.model_from_student import export
from dseg_core.runtime import engine_cache, engine_from_onnx, engine_process
from dseg_core.runtime.build_share import BuildShare
from dseg_core.runtime.cuda_memory import Device
from dseg_core.runtime.engine_builder import EngineStoppedError
from dseg_core.runtime.engine_builder import built as built_by
from dseg_core.runtime.engine_cache import DESCRIPTION, ENGINE, Engine, EngineCache
from dseg_core.runtime.engine_description import EngineDescription, EngineKey
from dseg_core.runtime.engine_from_onnx import (
    EngineSource,
    Refused,
    check_float8,
    engine_of,
    source_for_capability,
    source_for_this_gpu,
)
from dseg_core.runtime.size_range import SizeRange
from dseg_core.runtime.tensorrt_library import TensorRt
from dseg_core.stage_options import ExportOptions
from dseg_core.stage_options.engine import EngineOptions

pytestmark = pytest.mark.xdist_group("engines")

if sys.platform != "linux" or os.uname().machine != "x86_64":
    pytest.skip("TensorRT-RTX has wheels for x86-64 only", allow_module_level=True)


@pytest.fixture(scope="module")
def rtx() -> TensorRt:
    return TensorRt("tensorrt_rtx")


@pytest.fixture
def source(tmp_path: Path, rtx: TensorRt) -> EngineSource:
    return source_for_capability(write_model(tmp_path / "model.onnx"), rtx, "8.9")


@pytest.fixture
def options(tmp_path: Path) -> EngineOptions:
    return EngineOptions(cache=tmp_path / "cache")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, rtx: TensorRt) -> tuple[Engine, Path]:
    """An engine and its model, for tests that copy it."""
    folder = tmp_path_factory.mktemp("built")
    source = source_for_capability(write_model(folder / "model.onnx"), rtx, "8.9")
    return engine_of(source, EngineOptions(cache=folder / "cache")), source.model


def stored(built: tuple[Engine, Path], options: EngineOptions) -> Path:
    """Put the engine into another cache; returns its folder."""
    engine, _ = built
    cache = EngineCache(options.cache)
    place = cache.place(engine.description.key)
    with cache.hold(engine.description.key, lambda: None):
        (place / engine_cache.TEMPORARY).write_bytes(engine.content)
        cache.keep(engine.description, 16)
    return place


class Shares(list[float]):
    def __call__(self, share: float) -> None:
        self.append(share)


def test_a_student_becomes_an_engine_that_is_read_back(
    tiny_run: Path, tmp_path: Path, rtx: TensorRt, options: EngineOptions, caplog: pytest.LogCaptureFixture
) -> None:
    source = source_for_capability(tiny_run / "model.onnx", rtx, "8.9")
    shares = Shares()
    first = engine_of(source, options, shares)
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1 and len(shares) > 10
    assert (
        "model.onnx: tensorrt_rtx" in caplog.text
        and "builds an engine for GPUs of compute capability 8.9" in caplog.text
    )
    assert "since" not in caplog.text
    # The library knows it for its own; whether the GPU takes it, only a GPU tells.
    runtime, malformed = rtx.module.Runtime(rtx.logger), int(rtx.module.EngineInvalidityDiagnostics.MALFORMED_ENGINE)
    assert not int(runtime.get_engine_validity(first.content)[1]) & malformed
    assert int(runtime.get_engine_validity(b"x" * len(first.content))[1]) & malformed
    assert first.description.contract("").classes.names[0] == "ground"
    again = Shares()
    assert engine_of(source, options, again) == first and not again
    assert engine_of(source_for_capability(tiny_run / "model.onnx", rtx, "12.0"), options).content != first.content


@pytest.mark.parametrize("precision", ["fp16", "int8", "fp8"])
def test_students_of_lower_precisions_become_engines(
    own_run: Path, tmp_path: Path, rtx: TensorRt, options: EngineOptions, precision: str
) -> None:
    """The builder takes fp8 for the GPUs that have it, and for others it says by itself that they have not."""
    out = tmp_path / f"{precision}.onnx"
    export(
        own_run,
        ExportOptions(
            out=out, precision=precision, max_miou_loss=1, max_clear_wrong=1, max_confidence_error=1, check_frames=1
        ),
    )
    engine = engine_of(source_for_capability(out, rtx, "8.9"), options)
    assert engine.description.metadata["dseg_precision"] == precision
    older = source_for_capability(out, rtx, "8.6")
    if precision != "fp8":
        engine_of(older, options)
        return
    with pytest.raises(DsegError, match=r"fp8\.onnx: fp8 needs a GPU of compute capability 8\.9 or later, and compute"):
        engine_of(older, options)
    job = engine_process.BuildJob(
        "tensorrt_rtx", str(out), engine.description.key.model, str(tmp_path / "no"), "image", None, "8.6", 0, -1, False
    )
    with pytest.raises(DsegError, match=r"Cannot compile for target.* sm86, because .*fp8_e4m3"):
        list(built_by(job))
    weak = SimpleNamespace(strongly_typed=False, version="8.6.1")
    with pytest.raises(DsegError, match=r"fp8 needs TensorRT 10, and this is 8\.6\.1"):
        check_float8(EngineSource(out, weak, "Orin", "8.9"))  # type: ignore[arg-type]
    with pytest.raises(DsegError, match=r"the Orin is older\. Export it with --precision int8 or fp16"):
        check_float8(EngineSource(out, rtx, "Orin", "8.7"))
    check_float8(EngineSource(out, rtx, "RTX 5090", "12.0"))


def test_all_of_a_process_log_to_one_logger(rtx: TensorRt, caplog: pytest.LogCaptureFixture) -> None:
    """The library refuses a second one, and points to the first for good: a node opens a model while another runs."""
    caplog.set_level(logging.INFO)
    first, other = rtx.module.Runtime(rtx.logger), TensorRt("tensorrt_rtx", verbose=True)
    second = rtx.module.Runtime(other.logger)
    del first
    gc.collect()
    assert "differs from one already registered" not in caplog.text
    assert second.deserialize_cuda_engine(b"x" * 100) is None
    assert "erializ" in other.words() and other.words() == "it does not say why"
    assert "tensorrt_rtx: " in caplog.text
    caplog.clear()
    TensorRt("tensorrt_rtx")
    second.deserialize_cuda_engine(b"x" * 100)
    assert "tensorrt_rtx: " not in caplog.text


def test_only_the_user_can_write_and_look(source: EngineSource, options: EngineOptions) -> None:
    engine = engine_of(source, options)
    assert options.cache is not None
    for path in (options.cache, *options.cache.rglob("*")):
        assert path.stat().st_uid == os.geteuid()
        if path.name != ".lock":
            assert not path.stat().st_mode & 0o077, path
    assert engine.path.parent.parent == options.cache


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("model", "b" * 64, r"another model \(sha256\) \(bbbbbbbbbbbb, not "),
        ("version", "1.4", r"another version of the library \(1.4, not "),
        ("gpu", "RTX 2000", r"another GPU \(RTX 2000, not any\)"),
        ("capability", "12.0", r"another compute capability \(12.0, not 8.9\)"),
        ("precision", "FP16", r"another precision \(FP16, not the model's types\)"),
        ("shapes", "1x2x3x3", r"other shapes \(1x2x3x3, not 1x6x8x3\)"),
        ("options", "level 5", r"other options \(level 5, not "),
    ],
)
def test_an_engine_that_is_stale_by_any_key_is_built_again_and_it_says_why(
    built: tuple[Engine, Path], rtx: TensorRt, options: EngineOptions, field: str, value: str, told: str,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What lies there was built for something else in one thing, under its own name or moved to ours."""
    key = dataclasses.replace(built[0].description.key, **{field: value})
    other = Engine(built[0].content, dataclasses.replace(built[0].description, key=key), built[0].path)
    place = stored((other, built[1]), options)
    calls = count_builds(monkeypatch)
    for moved in (False, True):
        if moved:
            ours = EngineCache(options.cache).place(built[0].description.key)
            for file in ours.iterdir():
                file.unlink()
            for name in (ENGINE, DESCRIPTION):
                (place / name).rename(ours / name)
        caplog.clear()
        engine = engine_of(source_for_capability(built[1], rtx, "8.9"), options)
        assert engine.description.key == built[0].description.key
        if field == "model" and not moved:  # nothing is stale: this model is new here
            assert "builds an engine for" in caplog.text and "since" not in caplog.text
            continue
        assert re.search(f"since the one that is there is of {told}", caplog.text)
    assert len(calls) == 2


def count_builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    real = engine_from_onnx.built

    def counted(job: engine_process.BuildJob, stop: Callable[[], bool] | None) -> object:
        calls.append(job.model)
        return real(job, stop)

    monkeypatch.setattr(engine_from_onnx, "built", counted)
    return calls


def cut(place: Path) -> None:
    content = (place / ENGINE).read_bytes()
    (place / ENGINE).write_bytes(content[: len(content) // 2])


def changed(place: Path) -> None:
    content = bytearray((place / ENGINE).read_bytes())
    content[len(content) // 2] ^= 1
    (place / ENGINE).write_bytes(bytes(content))


def edited(place: Path) -> None:
    told = json.loads((place / DESCRIPTION).read_text())
    (place / DESCRIPTION).write_text(json.dumps({**told, "key": 5}))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (cut, "is cut off: [0-9]+ of [0-9]+ bytes are there"),
        (changed, "is broken: its content is not what was built"),
        (lambda place: (place / DESCRIPTION).write_text("{"), "has a broken description"),
        (lambda place: (place / DESCRIPTION).write_text("[1]"), "has a broken description"),
        (lambda place: (place / DESCRIPTION).write_bytes(b"\xff"), "has a broken description"),
        (edited, "has a broken description"),
        (lambda place: (place / DESCRIPTION).unlink(), "is not whole: engine.json is missing"),
        (lambda place: (place / ENGINE).unlink(), "is not whole: engine.plan is missing"),
        (lambda place: (place / ENGINE).chmod(0o620), r"could have been written by others \(engine.plan, mode 620\)"),
        (lambda place: (place / DESCRIPTION).chmod(0o602), r"could have been written by others \(engine.json"),
    ],
)
def test_an_engine_that_is_broken_is_built_again_and_it_says_why(
    built: tuple[Engine, Path], rtx: TensorRt, options: EngineOptions, harm: Callable[[Path], object], told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    place = stored(built, options)
    harm(place)
    engine = engine_of(source_for_capability(built[1], rtx, "8.9"), options)
    assert re.search(f"since the one that is there {told}", caplog.text), caplog.text
    assert engine.description == dataclasses.replace(
        built[0].description, sha256=engine.description.sha256, size=engine.description.size
    )
    assert isinstance(EngineCache(options.cache).find([engine.description.key]), Engine)


def test_an_engine_that_the_library_refuses_is_built_again(
    built: tuple[Engine, Path], rtx: TensorRt, options: EngineOptions, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    stored(built, options)
    calls = count_builds(monkeypatch)
    refused = Refused(built[0].description.sha256, "cannot be loaded: driver too old")
    engine_of(source_for_capability(built[1], rtx, "8.9"), options, refused=refused)
    assert len(calls) == 1 and "since the one that is there cannot be loaded: driver too old" in caplog.text


def test_what_was_built_for_a_capability_runs_on_its_gpus(
    built: tuple[Engine, Path], rtx: TensorRt, options: EngineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(built, options)
    monkeypatch.setattr(engine_from_onnx, "current_device", lambda: Device("RTX 4090", "8.9"))
    calls = count_builds(monkeypatch)
    assert engine_of(source_for_this_gpu(built[1], rtx), options).content == built[0].content and not calls
    monkeypatch.setattr(engine_from_onnx, "current_device", lambda: Device("H100", "9.0"))
    with pytest.raises(
        DsegError, match=r"tensorrt_rtx: does not know the H100, of compute capability 9.0. It knows 7.5"
    ):
        source_for_this_gpu(built[1], rtx)


def in_another_process(model: Path, cache: Path, more: str = "") -> subprocess.Popen[str]:
    code = (
        "import sys, logging; from pathlib import Path; logging.basicConfig(level=logging.INFO)\n"
        "from dseg_core.runtime.engine_from_onnx import *; from dseg_core.runtime.tensorrt_library import TensorRt\n"
        f"{more}\n"
        f"source = source_for_capability(Path({str(model)!r}), TensorRt('tensorrt_rtx'), '8.9')\n"
        f"options = EngineOptions(cache=Path({str(cache)!r}))\n"
        "found = engine_of(source, options, lambda share: print(share, flush=True))\n"
        "heavy = {'torch', 'timm', 'onnx', 'onnxruntime', 'cv2', 'scipy', 'numba', 'rosbags'} & set(sys.modules)\n"
        "print(found.description.sha256, sorted(heavy), flush=True)\n"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_build_once(source: EngineSource, options: EngineOptions) -> None:
    assert options.cache is not None
    both = [in_another_process(source.model, options.cache) for _ in range(2)]
    told = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert len({out.splitlines()[-1] for out, _ in told}) == 1
    assert told[0][0].endswith(" []\n"), "a car has none of these"
    logs = sorted("builds an engine" in log for _, log in told)
    assert logs == [False, True], told


def test_who_waits_says_so_and_can_be_stopped(
    source: EngineSource, options: EngineOptions, built: tuple[Engine, Path], caplog: pytest.LogCaptureFixture
) -> None:
    cache = EngineCache(options.cache)
    with cache.hold(built[0].description.key, lambda: None):
        begun, shares = time.monotonic(), list[float]()
        with pytest.raises(EngineStoppedError, match="waiting for the engine was stopped"):
            engine_of(source, options, shares.append, stop=lambda: time.monotonic() > begun + 0.3)
    assert shares == [0.0], "it is known at once that this takes time"
    assert caplog.text.count("is being built by another process; waiting for it") == 1


def test_a_build_that_is_stopped_leaves_nothing_and_the_next_goes_on(
    source: EngineSource, options: EngineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()

    def building(share: float) -> None:
        stop.set()

    with pytest.raises(EngineStoppedError, match="building the engine was stopped"):
        engine_of(source, options, building, stop.is_set)
    assert options.cache is not None and not [p for p in options.cache.rglob("*") if p.is_file() and p.name != ".lock"]
    with pytest.raises(ZeroDivisionError):
        engine_of(source, options, lambda share: 1 // 0)  # type: ignore[arg-type, return-value]
    engine_of(source, options)


def test_a_builder_ends_with_who_asked_for_it(source: EngineSource, tmp_path: Path) -> None:
    """A process that is killed closes its pipes; the builder, deep in a library that takes a minute, ends by that."""
    (tmp_path / "slow_library.py").write_text("import time; print('in it', flush=True); time.sleep(60)")
    job = engine_process.BuildJob("slow_library", str(source.model), "", "", "", None, "", 0, -1, False)
    process = subprocess.Popen(
        [sys.executable, engine_process.__file__], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )  # fmt: skip
    assert process.stdin is not None and process.stderr is not None
    process.stdin.write(job.to_json() + "\n")
    process.stdin.flush()
    assert process.stderr.readline() == "in it\n"  # what the library prints does not come between the answers
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(30) == 1
    process.stderr.close()


def test_a_builder_takes_no_module_from_the_working_directory(
    source: EngineSource, options: EngineOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever can write there could have put anything."""
    (tmp_path / "downloads").mkdir()
    for name in ("json", "dseg_core", "tensorrt_rtx"):
        (tmp_path / "downloads" / f"{name}.py").write_text("raise SystemExit('somebody else')")
    monkeypatch.chdir(tmp_path / "downloads")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])  # as of a program that is installed
    engine_of(source, options)


def test_a_builder_that_is_busy_ends_with_its_input(tmp_path: Path) -> None:
    """A build of a second ends by itself before one could see; this one would take for ever."""
    begun = tmp_path / "begun"
    (tmp_path / "tensorrt.py").write_text(
        f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(600)\n"
    )
    job = engine_process.BuildJob("tensorrt", "model", "0", str(tmp_path / "out"), "x", None, "", 0, -1, False)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    process = subprocess.Popen([sys.executable, engine_process.__file__], stdin=subprocess.PIPE, env=environment)
    try:
        assert process.stdin is not None
        process.stdin.write(job.to_json().encode() + b"\n")
        process.stdin.flush()
        deadline = time.monotonic() + 30
        while not begun.exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.stdin.close()  # as the system does when who asked for it is killed
        assert process.wait(30) == 1
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("call", "error"), [("mkdir", errno.EROFS), ("touch", errno.EROFS), ("touch", errno.ENOSPC)])
def test_a_cache_that_cannot_be_written_is_told_before_anything_is_built(
    built: tuple[Engine, Path], source: EngineSource, options: EngineOptions, call: str, error: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def refused(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    calls = count_builds(monkeypatch)
    monkeypatch.setattr(Path, call, refused)
    with pytest.raises(DsegError, match=rf"cache: cannot be written: {os.strerror(error)}\. Give another folder"):
        engine_of(source, options)
    assert not calls


def test_a_cache_that_is_only_read_gives_what_is_there(
    built: tuple[Engine, Path], rtx: TensorRt, options: EngineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(built, options)

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("mkdir", "touch", "chmod", "replace", "unlink", "write_bytes"):
        monkeypatch.setattr(Path, name, refused)
    monkeypatch.setattr(os, "utime", refused)
    assert engine_of(source_for_capability(built[1], rtx, "8.9"), options).content == built[0].content


def test_a_disk_that_fills_up_is_told_and_leaves_no_engine(source: EngineSource, options: EngineOptions) -> None:
    """The builder may write 64 KB: the engine does not fit, the operating system refuses the rest."""
    assert options.cache is not None
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))"
    process = in_another_process(source.model, options.cache, limited)
    _, log = process.communicate(timeout=120)
    assert process.returncode == 1 and log.splitlines()[-1].endswith(".engine.tmp: File too large"), log
    assert not list(options.cache.rglob(DESCRIPTION)) and not list(options.cache.rglob(".engine.tmp"))
    engine_of(source, options)


def test_a_cache_that_is_not_the_users_own_is_refused(
    source: EngineSource, options: EngineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = options.cache
    assert folder is not None
    folder.mkdir(mode=0o750)
    with pytest.raises(
        DsegError, match=r"cache: is open to others \(mode 750\), and engines are code. `chmod 700 .*cache`"
    ):
        engine_of(source, options)
    folder.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(DsegError, match=r"cache: belongs to user \d+, not to you \(\d+\)"):
        engine_of(source, options)
    monkeypatch.undo()
    folder.rmdir()
    cache = EngineCache(folder)
    folder.mkdir(mode=0o755)  # by somebody else, in the meantime
    with pytest.raises(DsegError, match=r"cache: is open to others \(mode 755\)"):
        cache.hold(EngineKey(*"abcdefgh"), lambda: None)
    folder.rmdir()
    folder.write_text("")
    with pytest.raises(DsegError, match="cache: is no folder"):
        engine_of(source, options)


def test_another_users_file_and_a_link_are_no_engines(
    built: tuple[Engine, Path], options: EngineOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place = stored(built, options)
    cache, key = EngineCache(options.cache), built[0].description.key
    (place / ENGINE).rename(tmp_path / "elsewhere")
    (place / ENGINE).symlink_to(tmp_path / "elsewhere")
    assert "cannot be read" in str(cache.find([key]))
    (place / ENGINE).unlink()
    (tmp_path / "elsewhere").rename(place / ENGINE)
    assert isinstance(cache.find([key]), Engine)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert "belongs to user" in str(cache.find([key]))


def test_the_least_recently_used_are_removed(built: tuple[Engine, Path], options: EngineOptions) -> None:
    cache = EngineCache(options.cache)
    keys = [dataclasses.replace(built[0].description.key, gpu=f"GPU {number}") for number in range(5)]
    for number, key in enumerate(keys):
        with cache.hold(key, lambda: None):
            (cache.place(key) / engine_cache.TEMPORARY).write_bytes(built[0].content)
            engine = cache.keep(dataclasses.replace(built[0].description, key=key), 3)
        os.utime(engine.path, (number, number))
        if number == 2:
            cache.find([keys[0]])  # used again: now the newest
    kept = [isinstance(cache.find([key]), Engine) for key in keys]
    assert kept == [True, False, False, True, True]


def test_the_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert EngineCache(None).folder == tmp_path / "dseg" / "engines"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which the specification says to ignore
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert EngineCache(None).folder == tmp_path / "home" / ".cache" / "dseg" / "engines"


def test_a_model_that_the_library_does_not_take(
    tmp_path: Path, rtx: TensorRt, options: EngineOptions, source: EngineSource
) -> None:
    model = onnx.load(source.model)
    model.graph.node[2].op_type = "Nonsense"
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(DsegError, match=r"other.onnx: tensorrt_rtx [\d.]+ does not take it: .*Nonsense"):
        engine_of(source_for_capability(tmp_path / "other.onnx", rtx, "8.9"), options)
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(DsegError, match=r"text.onnx: is no ONNX model"):
        engine_of(source_for_capability(tmp_path / "text.onnx", rtx, "8.9"), options)
    engine_of(source, options)


def test_a_builder_that_dies_is_told(
    source: EngineSource, options: EngineOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "dies.py"
    script.write_text("import os, sys; sys.stdin.readline(); print('last words', file=sys.stderr); os.abort()")
    monkeypatch.setattr(engine_process, "__file__", str(script))
    with pytest.raises(
        DsegError, match=r"model.onnx: tensorrt_rtx ended by signal 6 while it built an engine: last words"
    ):
        engine_of(source, options)


def test_a_model_that_changes_while_it_is_built(source: EngineSource, tmp_path: Path) -> None:
    job = engine_process.BuildJob(
        "tensorrt_rtx", str(source.model), "0" * 64, str(tmp_path / "out"), "pixels", None, "8.9", 0, -1, False
    )
    with pytest.raises(DsegError, match=r"model.onnx: was changed while its engine was to be built"):
        engine_process.build(job, lambda share: None)


def test_what_was_built_is_read_back(rtx: TensorRt, built: tuple[Engine, Path]) -> None:
    engine_process._check(rtx, built[0].content, built[1])
    with pytest.raises(DsegError, match=r"model\.onnx: tensorrt_rtx does not read what it built: "):
        engine_process._check(rtx, b"x" * len(built[0].content), built[1])


class Config:
    """Of a builder: what was set, by name."""

    def __init__(self) -> None:
        self.set_: dict[str, object] = {}
        self.flags: list[str] = []
        self.set_memory_pool_limit = lambda pool, size: self.set_.update({pool: size})
        self.set_flag = self.flags.append


class Layer:
    """Of a parsed network: its type, its outputs' types, and what it is held to."""

    def __init__(self, kind: str, *outputs: str) -> None:
        self.type = SimpleNamespace(name=kind)
        self.num_outputs, self._outputs = len(outputs), outputs
        self.precision, self.held = "", dict[int, str]()
        self.set_output_type = lambda i, kind: self.held.update({i: kind})

    def get_output(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(dtype=SimpleNamespace(name=self._outputs[index]))


def network_of(*layers: Layer) -> SimpleNamespace:
    return SimpleNamespace(num_layers=len(layers), get_layer=layers.__getitem__)


def weakly_typed() -> SimpleNamespace:
    """TensorRT 8.6's names."""
    return SimpleNamespace(
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"), DataType=SimpleNamespace(FLOAT="32 bits"),
        BuilderFlag=SimpleNamespace(FP16="fp16", INT8="int8", OBEY_PRECISION_CONSTRAINTS="obey"),
    )  # fmt: skip


def test_weak_types_keep_layer_norms_and_soft_max_in_32_bits() -> None:
    """In 16 are what the model has in 16 and products; numbers that are no floats are left alone."""
    held = [Layer("NORMALIZATION", "FLOAT"), Layer("SOFTMAX", "FLOAT"), Layer("REDUCE", "FLOAT"),
            Layer("UNARY", "FLOAT"), Layer("ELEMENTWISE", "FLOAT")]  # fmt: skip
    free = [Layer("MATRIX_MULTIPLY", "FLOAT"), Layer("ELEMENTWISE", "HALF"), Layer("ELEMENTWISE", "INT32"),
            Layer("ELEMENTWISE", "BOOL"), Layer("CONSTANT", "FLOAT"), Layer("SHUFFLE", "FLOAT")]  # fmt: skip
    job = engine_process.BuildJob("tensorrt", "model", "0", "out", "pixels", None, "", 0, -1, False)
    library, config = SimpleNamespace(module=weakly_typed(), strongly_typed=False), Config()
    engine_process._configure(library, None, network_of(*free, *held), config, job)  # type: ignore[arg-type]
    assert config.flags == ["fp16", "obey"]
    assert all(layer.precision == "32 bits" and layer.held == {0: "32 bits"} for layer in held)
    assert not any(layer.precision or layer.held for layer in free)
    library.strongly_typed = True
    engine_process._configure(library, None, network_of(*(again := [Layer("SOFTMAX", "FLOAT")])), Config(), job)  # type: ignore[arg-type]
    assert not again[0].precision


def test_options_reach_the_builder() -> None:
    """Workspace in MiB, the level, and in TensorRT 8.6 the types that the model has."""
    module = weakly_typed()

    def layers(*kinds: str) -> SimpleNamespace:
        return network_of(*(Layer("CONVOLUTION", kind) for kind in kinds))

    job = engine_process.BuildJob("tensorrt", "model", "0", "out", "pixels", None, "", 256, 1, False)
    for strong, kinds, flags in (
        (False, ("FLOAT", "HALF"), ["fp16", "obey"]), (False, ("INT8", "FLOAT"), ["int8"]), (False, ("FLOAT",), []),
        (True, ("FLOAT", "HALF"), []),
    ):  # fmt: skip
        library, config = SimpleNamespace(module=module, strongly_typed=strong), Config()
        engine_process._configure(library, None, layers(*kinds), config, job)  # type: ignore[arg-type]
        assert config.flags == flags and config.set_ == {"workspace": 256 * 2**20}
        assert config.builder_optimization_level == 1  # type: ignore[attr-defined]
    config = Config()
    usual = dataclasses.replace(job, workspace=0, level=-1)
    engine_process._configure(library, None, layers("FLOAT"), config, usual)  # type: ignore[arg-type]
    assert not config.set_ and not hasattr(config, "builder_optimization_level")


def test_engines_of_rtx_allocate_nothing_by_themselves() -> None:
    """Else no CUDA graph can be made of them; TensorRT has no such flag."""
    module, config = weakly_typed(), Config()
    module.BuilderFlag.REQUIRE_USER_ALLOCATION = "alone"
    job = engine_process.BuildJob("tensorrt_rtx", "model", "0", "out", "pixels", None, "", 0, -1, False)
    library = SimpleNamespace(module=module, strongly_typed=True)
    engine_process._configure(library, None, network_of(), config, job)  # type: ignore[arg-type]
    assert config.flags == ["alone"]


def test_ranges_of_sizes_and_options(tmp_path: Path, rtx: TensorRt, options: EngineOptions) -> None:
    model = write_model(tmp_path / "range.onnx", sizes=SizeRange((4, 4), (6, 8), (12, 10)))
    source = source_for_capability(model, rtx, "8.9")
    engine = engine_of(source, dataclasses.replace(options, workspace=256, level=1))
    assert engine.description.key.shapes == "1x4x4x3 to 1x6x8x3 to 1x12x10x3"
    assert engine.description.key.options == "workspace 256 MiB, level 1, builder 2"
    assert engine_of(source, options).description.key != engine.description.key


def test_what_the_library_says_is_logged_where_asked(
    source: EngineSource, options: EngineOptions, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    engine_of(source, dataclasses.replace(options, verbose=True))
    assert "tensorrt_rtx: " in caplog.text and "the engine was built in" in caplog.text


def test_shares_of_nested_phases() -> None:
    told: list[float] = []
    share = BuildShare(told.append)
    share.start("all", None, 4)
    share.step("all", 0)
    share.start("part", "all", 2)
    share.step("part", 0)  # one of four, and half of the next
    assert told == [0.25, 0.375]
    share.start("grain", "part", 10)
    share.step("grain", 4)
    assert told[-1] == pytest.approx((1 + (1 + 0.5) / 2) / 4)
    share.finish("grain")
    share.finish("part")
    share.step("all", 1)
    share.step("nobody knows it", 1)
    assert told[-1] == 0.5 and told == sorted(told)


def test_descriptions_survive_json(built: tuple[Engine, Path]) -> None:
    description = built[0].description
    again = EngineDescription.of_json(description.to_json())
    assert again == description and again.key.digest() == description.key.digest()
    assert EngineKey(**dataclasses.asdict(description.key)) == description.key
