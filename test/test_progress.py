"""Files appear whole or not at all; summaries hold what ran."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dseg_core.progress import Summary, progress, write_whole
from dseg_core.stage_options import LabelOptions


def test_write_whole_leaves_the_old_file_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_summary_holds_options_and_results(tmp_path: Path) -> None:
    options = LabelOptions(clusters=7)
    summary = Summary("7 clusters.", {"regions": 12}).write(tmp_path / "new", "label", options)
    content = json.loads((tmp_path / "new" / "summary.json").read_text())
    assert content == {
        "command": "label",
        "options": options.to_dict(),
        "results": {"regions": 12},
        "text": summary.text,
    }


def test_progress_passes_items_through(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(3), "count")) == [0, 1, 2]
    assert "count" in capsys.readouterr().err
