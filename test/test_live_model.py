"""The node's model while others are opened: what is refused changes nothing, what is given up keeps no memory."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dseg_core.errors import DsegError
from dseg_ros import live_model
from dseg_ros.live_model import LiveModel
from dseg_ros.node_options import SegmenterOptions


class Predictor:
    """A model that counts itself."""

    size = (2, 2)

    def __init__(self, garage: Garage, name: str) -> None:
        self.name, self._garage = name, garage
        garage.alive.add(self)

    def predict(self, image: Any) -> None:
        self._garage.tried.append(self.name)


class Garage:
    """Opens models by their names: `slow` ones when they are let, `built` ones tell shares, `bad` ones cannot be."""

    def __init__(self) -> None:
        self.alive: weakref.WeakSet[Predictor] = weakref.WeakSet()
        self.tried: list[str] = []
        self.opened: list[str] = []
        self.seen: dict[str, list[str]] = {}
        self.let: dict[str, threading.Event] = {}
        self.begun: dict[str, threading.Event] = {}

    def gate(self, gates: dict[str, threading.Event], name: str) -> threading.Event:
        return gates.setdefault(name, threading.Event())

    def wait(self, opening: live_model._Opening) -> None:
        """As long as it takes, however busy the machine; only what waits for its gate takes too long."""
        while not opening._known.wait(0.01):
            waiting = [name for name, begun in dict(self.begun).items() if name.startswith("slow") and begun.is_set()]
            if not all(self.gate(self.let, name).is_set() for name in waiting):
                return

    def open(self, path: Path, backend: str, threads: int, engine: Any, builds: Any, stop: Callable[[], bool]) -> Any:
        name = path.stem
        gc.collect()
        self.opened.append(name)
        self.seen[name] = sorted(predictor.name for predictor in self.alive)
        self.gate(self.begun, name).set()
        if name.startswith("built"):
            builds(0.5)
            while not self.gate(self.let, name).wait(0.01):
                if stop():
                    raise DsegError("was broken off", where=path)
        found = Predictor(self, name)
        if name.startswith("slow"):  # which no library breaks off
            self.gate(self.let, name).wait()
        if "bad" in name:
            raise DsegError("does not run", where=path)
        return found


@pytest.fixture
def garage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Garage]:
    found = Garage()
    monkeypatch.setattr(live_model, "open_model", found.open)
    monkeypatch.setattr(live_model._Opening, "wait", lambda opening: found.wait(opening))
    yield found
    for gate in found.let.values():
        gate.set()


class Live:
    """A LiveModel whose thread is the test's."""

    def __init__(self, folder: Path, model: Path) -> None:
        self._folder, self._content, self._done = folder, model.read_bytes(), threading.Semaphore(0)
        self.model = LiveModel(self._done.release)

    def open(self, name: str) -> bool:
        path = self._folder / f"{name}.onnx"
        if name != "missing":
            path.write_bytes(b"no model" if name == "garbage" else self._content)
        return self.model.open(SegmenterOptions(model=path))

    def settle(self) -> bool:
        while True:
            assert self._done.acquire(timeout=20)
            if self.model.settle():
                return True


@pytest.fixture
def live(tiny_run: Path, tmp_path: Path) -> Iterator[Live]:
    found = Live(tmp_path, tiny_run / "model.onnx")
    yield found
    if found.model._opening is not None:
        found.model._opening.cancel()


@pytest.mark.parametrize(("name", "why"), [("missing", "does not exist"), ("garbage", "is no ONNX model")])
def test_a_file_that_is_no_model_breaks_nothing_off(garage: Garage, live: Live, name: str, why: str) -> None:
    assert not live.open("built")
    for _ in range(2):
        with pytest.raises(DsegError, match=why):
            live.open(name)
        assert live.model.opening.startswith("building, 50%")
        health: Any = SimpleNamespace(values={}, warnings=[], errors=[])
        live.model.add_health(health)
        assert not health.errors and health.warnings[0].startswith("building")
        assert health.warnings[1].startswith("refused: ") and why in health.warnings[1]
    garage.gate(garage.let, "built").set()
    assert live.settle() and live.model.name.startswith("built") and garage.opened == ["built"]


def test_what_gave_way_to_a_model_that_does_not_run_is_begun_again(garage: Garage, live: Live) -> None:
    """Also to two of them, the first of which is still being loaded."""
    assert live.open("a") and not live.open("built")
    assert not live.open("slow_bad")
    garage.gate(garage.let, "slow_bad").set()
    with pytest.raises(DsegError, match=r"bad\.onnx: does not run"):
        live.open("bad")
    # The one that the bad one took the place of comes first; it is bad as well.
    with pytest.raises(DsegError, match=r"slow_bad\.onnx: does not run"):
        live.settle()
    assert live.model.refusal(live.model.refused).endswith("runs on") and live.model.name.startswith("a.onnx")
    garage.gate(garage.let, "built").set()
    assert live.settle() and live.model.name.startswith("built")
    assert garage.opened == ["a", "built", "slow_bad", "bad", "slow_bad", "built"]


def test_a_load_that_fails_late_leaves_the_old_model_and_tells(garage: Garage, live: Live) -> None:
    assert live.open("a") and not live.open("slow_bad")
    garage.gate(garage.let, "slow_bad").set()
    with pytest.raises(DsegError, match="does not run"):
        live.settle()
    health: Any = SimpleNamespace(values={}, warnings=[], errors=[])
    live.model.predictor = None if live.model.predictor is None else SimpleNamespace(
        backend=SimpleNamespace(name="fake"), reason="", notes=(), problems=())  # type: ignore[assignment]  # fmt: skip
    live.model.add_health(health)
    assert health.values["model"].startswith("a.onnx") and not health.errors
    assert health.warnings[0].startswith("refused: ") and "a.onnx" in health.warnings[0]


def test_a_model_that_is_given_up_is_gone_before_the_next_loads(garage: Garage, live: Live) -> None:
    assert live.open("a") and not live.open("slow_b") and not live.open("slow_c")
    garage.gate(garage.let, "slow_b").set()
    assert garage.gate(garage.begun, "slow_c").wait(20)
    assert garage.seen["slow_c"] == ["a"], "and nothing of b"
    garage.gate(garage.let, "slow_c").set()
    assert live.settle() and live.model.name.startswith("slow_c")
    gc.collect()
    assert [predictor.name for predictor in garage.alive] == ["slow_c"]
    assert garage.tried == ["a", "slow_c"], "b is not tried"


def test_the_end_waits_for_what_is_loaded_and_keeps_nothing(garage: Garage, live: Live) -> None:
    assert not live.open("slow_b")
    garage.gate(garage.let, "slow_b").set()
    live.model.close()
    gc.collect()
    assert not garage.alive and live.model.predictor is None and live.model.opening == ""
