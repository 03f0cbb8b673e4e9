"""Files appear whole or not at all; summaries hold what ran."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from power_cuts import Disk

from dseg_core.errors import DsegError, system_error
from dseg_core.progress import Summary, announced, check_writable, claim, of_file, progress, write_whole
from dseg_core.stage_options import LabelOptions


def test_write_whole_leaves_the_old_file_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space") as raised:
        write_whole(path, b"new")
    assert raised.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_takes_no_files_is_named_by_what_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DsegError, match=r"/file: is a file where a folder is needed\. Give another place$"):
        check_writable(tmp_path / "file" / "a" / "b")
    with pytest.raises(DsegError, match=r"^/proc: "):  # in which not even root makes files
        check_writable(Path("/proc/a/b"))
    check_writable(tmp_path / "a" / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "looking leaves nothing"


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.EACCES, "`ls -ld` shows who may read and write there; allow it, or give another place"),
        (errno.EROFS, "Write elsewhere"),
        (errno.ENOSPC, "Free some space there, or write elsewhere"),
        (errno.EFBIG, "Write to a disk whose file system takes larger files, or raise `ulimit -f`"),
        (errno.EDQUOT, "Free some space there, or write elsewhere"),
    ],
)
def test_a_folder_of_others_is_told_with_what_to_do(
    number: int, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(number, os.strerror(number), "/a/temporary/name")

    monkeypatch.setattr("dseg_core.progress.tempfile.TemporaryFile", refuse)
    with pytest.raises(DsegError) as raised:
        claim(tmp_path / "new", "train")
    assert str(raised.value) == f"{tmp_path}: {os.strerror(number)}. {fix}"
    (tmp_path / "summary.json").write_text('{"command": "train"}')
    claim(tmp_path, "train")  # what is finished may lie on a disk that is only read


def test_a_folder_in_which_the_system_makes_no_files() -> None:
    with pytest.raises(DsegError, match=r"^/proc: no files can be made there\. Write elsewhere$"):
        check_writable(Path("/proc/nowhere"))


def test_files_and_folders_that_are_mixed_up(tmp_path: Path) -> None:
    for path, told in ((tmp_path, "is a folder where a file is needed"), (tmp_path / "no", "does not exist")):
        with pytest.raises(OSError) as raised:
            path.read_bytes()
        assert str(system_error(raised.value)).startswith(f"{path}: {told}. Give a")


def test_errors_of_a_block_name_its_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, of_file(tmp_path / "shown"):
        (tmp_path / ".shown.tmp").read_bytes()
    assert raised.value.filename == str(tmp_path / "shown")


@pytest.mark.parametrize(
    ("terminal", "seconds", "told"), [(True, 0.3, "loading ...\n"), (True, 0.0, ""), (False, 0.3, "")]
)
def test_what_takes_long_is_announced_on_a_terminal(
    terminal: bool, seconds: float, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with announced("loading", after=0.1):
        time.sleep(seconds)
    time.sleep(0.15)
    assert capsys.readouterr().err == told


def test_a_power_cut_leaves_the_old_file_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At no moment is there a file of the name that is not whole; after the call it is the new one."""
    disk, folder, found = Disk(monkeypatch), tmp_path / "folder", []
    folder.mkdir()
    for content in (b"old", b"new"):
        write_whole(folder / "file", content)
        found.append((disk.after_power_cut(folder, tmp_path / content.decode()) / "file").read_bytes())
    assert found == [b"old", b"new"]

    def cut(*_: object) -> None:
        raise KeyboardInterrupt  # the rename is the last thing that the disk may or may not have seen

    synced = []
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").resolve()))
    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        write_whole(folder / "file", b"newer")
    assert len(synced) == 1 and synced[0].parent == folder, "what is renamed was synced before"
    assert (folder / "file").read_bytes() == b"new" and [p.name for p in folder.iterdir()] == ["file"]


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


def test_a_folder_to_write_is_new_or_the_commands_own(tmp_path: Path) -> None:
    claim(tmp_path / "new", "train", [tmp_path / "frames"])
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("of a person")
    claim(tmp_path / "mine", "train")
    Summary("", {}).write(tmp_path / "mine", "train", LabelOptions())
    claim(tmp_path / "mine", "train")
    with pytest.raises(DsegError, match=r"mine: holds what `dseg train` made\. Give another folder"):
        claim(tmp_path / "mine", "segment")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("record.yaml", "", "holds what `dseg record` made"),
        ("run.json", "{}", "holds what `dseg train` made"),
        ("commands.txt", "", "holds what `dseg demo` made"),
        ("metadata.yaml", "", "is a bag"),
        ("summary.json", "{}", "holds a summary.json that is none of dseg's"),
        ("summary.json", "[", "summary.json: cannot be read"),
    ],
)
def test_what_others_left_is_not_written_over(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DsegError, match=message):
        claim(tmp_path, "segment")
    with pytest.raises(DsegError, match="is a file"):
        claim(tmp_path / name, "segment")


def test_a_command_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    for mark, command in {"record.yaml": "record", "run.json": "train", "job.json": "segment"}.items():
        folder = tmp_path / command
        folder.mkdir()
        (folder / mark).write_text("{}")
        claim(folder, command)
    (tmp_path / "record" / "metadata.yaml").write_text("")  # frames are a bag too
    claim(tmp_path / "record", "record")


def test_what_is_read_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "frames")
    for folder in ("frames", "link"):
        with pytest.raises(DsegError, match="is what is read"):
            claim(tmp_path / folder, "train", [tmp_path / "other", tmp_path / "frames"])


@pytest.mark.parametrize(("items", "total"), [([], None), (range(3, 3), None), (iter(()), 0)])
def test_nothing_to_do_shows_no_bar(
    items: Iterable[int], total: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(progress(items, "count", total)) == []
    assert not capsys.readouterr().err
