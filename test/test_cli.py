"""The command table, help, and what a wrong call costs: one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dseg_core.cli import COMMANDS, main
from dseg_core.progress import Summary

CONFIG = Path(__file__).parents[1] / "config"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_names_every_option(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command.name, "--help"])  # type: ignore[attr-defined]
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    for field in command.options.fields():  # type: ignore[attr-defined]
        assert "--" + field.path.replace("_", "-") in shown


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_config_files_hold_every_option(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    """Regenerate with `make config`."""
    with pytest.raises(SystemExit):
        main([command.name, "--print-config"])  # type: ignore[attr-defined]
    assert (CONFIG / f"{command.name}.yaml").read_text() == capsys.readouterr().out  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["label", "frames", "--clusters", "0"], "dseg label: clusters = 0 must be at least 1"),
        (["label", "frames", "--config", "missing.yaml"], "dseg label: missing.yaml: cannot be read"),
        (["label", "missing_frames"], "missing_frames"),
    ],
)
def test_a_wrong_call_costs_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) in (1, 2)
    shown = capsys.readouterr().err.strip()
    assert message in shown and "\n" not in shown


def test_starts_without_the_heavy_libraries() -> None:
    code = (
        "import sys; from dseg_core import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'open3d', 'cv2', 'numba', 'faiss', 'timm', 'rosbags', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_problems_of_a_run_that_went_on_are_exit_status_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dseg_core.cli._run", lambda parsed: Summary("Recorded one of two.", {}, ("b is broken",)))
    assert main(["record", "a", "--out", "b"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "Recorded one of two.\n" and shown.err == "dseg record: b is broken\n"


@pytest.mark.parametrize("flag", ["--max-frames", "--max_frames"])
def test_flags_go_with_hyphens_and_underscores(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        "dseg_core.frames_from_bag.record", lambda bags, out, options: seen.append(options) or Summary("", {})
    )
    assert main(["record", "a_b", "--out=c_d", f"{flag}=7"]) == 0
    assert seen[0].max_frames == 7


def test_a_polite_kill_is_an_interruption() -> None:
    code = (
        "import os, signal, sys, types; from dseg_core import cli\n"
        "cli._run = lambda parsed: os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.exit(cli.main(['record', 'a', '--out', 'b']))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 130 and result.stderr.startswith("dseg record: interrupted")


def test_what_follows_two_hyphens_is_no_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label", "--", "--my_frames"]) == 1
    assert "--my_frames: does not exist" in capsys.readouterr().err
