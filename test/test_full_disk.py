"""A full disk costs one line that names what was being written, and leaves nothing half-written."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bags import bag_rows, write_bag
from small_files import small_files

from dseg_core.bag import BagWriter
from dseg_core.class_table import ClassTable
from dseg_core.cli import main
from dseg_core.overlay import OverlayVideo

TOO_LARGE = "File too large. Write to a disk whose file system takes larger files, or raise `ulimit -f`"


@pytest.fixture(autouse=True)
def _nothing_hidden_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert not [path for path in tmp_path.rglob(".*") if path.name != ".lock"]


@pytest.mark.parametrize("most", [0, 5_000, 60_000])
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_that_does_not_fit(storage: str, most: int, tmp_path: Path) -> None:
    with pytest.raises(OSError) as raised, small_files(most):  # its file tells
        write_bag(tmp_path / "bag", storage=storage)
    assert raised.value.filename == str(tmp_path / "bag")
    assert not list(tmp_path.iterdir())


def test_the_end_of_a_bag_that_does_not_fit(tmp_path: Path) -> None:
    """All but the last chunk and the index were written."""
    whole = sum(path.stat().st_size for path in write_bag(tmp_path / "whole").glob("*.mcap"))
    with pytest.raises(OSError) as raised, small_files(whole - 10), BagWriter(tmp_path / "bag") as writer:
        for row in bag_rows():
            writer.write(*row)
    assert raised.value.filename == str(tmp_path / "bag") and not (tmp_path / "bag").exists()


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_without_room_for_its_metadata(storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last that is written, after the file of the messages was closed."""
    opened = io.open

    def fails(file: object, *given: Any, **named: Any) -> Any:
        if "metadata.yaml" in str(file):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(file, *given, **named)

    monkeypatch.setattr(io, "open", fails)  # which pathlib opens by
    with pytest.raises(OSError, match="No space left") as raised:
        write_bag(tmp_path / "bag", storage=storage)
    assert raised.value.filename == str(tmp_path / "bag")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("most", [0, 2_000, 20_000])
def test_a_video_that_does_not_fit(most: int, tmp_path: Path) -> None:
    rng, path = np.random.default_rng(0), tmp_path / "overlay.mp4"
    classes = ClassTable.of_clusters(3)
    with (
        pytest.raises(OSError) as raised,
        small_files(most),
        OverlayVideo(path, Fraction(10), classes, 0.5) as video,
    ):
        for _ in range(20):
            video.write(rng.integers(0, 256, (96, 128, 3), dtype=np.uint8), np.zeros((96, 128), np.uint8))
    assert raised.value.filename == str(path) and not path.exists()


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_simulate(storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--sweeps=1", "--width=64", "--height=48", "--samples=1", "--beams=16", "--columns=300"]
    with small_files(20_000):
        assert main(["simulate", str(tmp_path / "drive"), f"--storage={storage}", *size]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    why = TOO_LARGE
    if storage == "sqlite3":  # which knows no more of this
        why = "disk I/O error. Look at its disk, which may be full or failing"
    assert told == f"dseg simulate: {tmp_path / 'drive'}: {why}"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("flag", "name"), [("--video=false", "masks_bag"), ("--bag=false", "overlay.mp4")])
def test_segment(flag: str, name: str, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag, out = write_bag(tmp_path / "bag", images=range(0, 1000, 50)), tmp_path / "masks"
    with small_files(4_000):
        assert main(["segment", str(tiny_run / "model.onnx"), str(bag), "--out", str(out), flag]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == f"dseg segment: {out / name}: {TOO_LARGE}"
    assert not (out / name).exists() and not (out / "summary.json").exists()
