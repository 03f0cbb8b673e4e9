"""The command table, help, and what a wrong call costs: one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dseg_core.cli import COMMANDS, main

CONFIG = Path(__file__).parents[1] / "config"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_names_every_option(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command.name, "--help"])  # type: ignore[attr-defined]
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    for field in command.options.fields():  # type: ignore[attr-defined]
        assert f"--{field.path}" in shown


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
