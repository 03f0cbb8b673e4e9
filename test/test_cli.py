"""The command table, help, and what a wrong call costs: one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dseg_core.cli import COMMANDS, main
from dseg_core.progress import Summary
from dseg_core.stage_options import LabelOptions

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
    assert main([command.name, "--print-config"]) == 0  # type: ignore[attr-defined]
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


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("record bag --evry 3 --out f", "dseg record: no option --evry; did you mean --every?"),
        ("record bag --ever=3 --out f", "dseg record: no option --ever; did you mean --every?"),
        ("record bag --tolerance 1", "dseg record: no option --tolerance; did you mean --pairing.tolerance?"),
        ("train f --steps 1", "dseg train: no option --steps; did you mean --teacher.steps or --student.steps?"),
        ("label f --print-conf", "dseg label: no option --print-conf; did you mean --print-config?"),
        ("record bag --bogus --out f", "dseg record: no option --bogus; see `dseg record --help`"),
        ("record bag --foo 3", "dseg record: no option --foo; see `dseg record --help`"),
        ("record bag --tolerence 1", "dseg record: no option --tolerence; did you mean --pairing.tolerance?"),
        ("label f -k 3", "dseg label: no option -k; see `dseg label --help`"),
        ("label f g", "dseg label: nothing takes 'g'; see `dseg label --help`"),
        ("label", "dseg label: the following arguments are required: frames"),
        ("recrod bag", "dseg: no command recrod; did you mean record?"),
        ("xyz", "dseg: no command xyz; see `dseg --help`"),
        ("label f --seed 1 --print-config --clusters 0", "dseg label: clusters = 0 must be at least 1"),
        (
            "label --config missing.yaml --print-config",
            "dseg label: missing.yaml: cannot be read: No such file or directory. Give a YAML file that is there",
        ),
    ],
)
def test_what_is_not_known_costs_one_line_that_helps(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(line.split())
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    shown = capsys.readouterr()
    assert status == (1 if "missing.yaml" in line else 2) and not shown.out
    assert shown.err.startswith(message) and shown.err.count("\n") == 1


def test_the_printed_configuration_is_that_of_the_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text("clusters: 7\nseed: 3\n")
    for place in ([], ["frames"]):
        call = ["label", *place, "--config", str(tmp_path / "c.yaml"), "--seed", "5", "--print-config"]
        assert main(call) == 0
        (tmp_path / "again.yaml").write_text(capsys.readouterr().out)
        assert LabelOptions.from_yaml(tmp_path / "again.yaml") == LabelOptions(clusters=7, seed=5)


def test_help_groups_options_and_shows_what_they_take(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["record", "--help"])
    shown = capsys.readouterr().out
    assert "{auto,range_image,euclidean,hdbscan}" in shown and "default: none" not in shown
    assert "True" not in shown and "False" not in shown
    own, _, grouped = shown.partition("--pairing.*:\n  How images are paired with sweeps.")
    assert own.startswith("usage: dseg record bags ... --out PATH [options]\n") and "--every N" in own
    assert "--pairing.tolerance" not in own and "--pairing.tolerance" in grouped
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--student.steps N as --teacher.steps (default: 1000)" in shown


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


def test_names_in_bags_do_not_command_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = Summary("a: /\x1b[2J/\u202ex – 1°.\nb\r", {}, ("/\x07 is\nbroken",))
    monkeypatch.setattr("dseg_core.cli._run", lambda parsed: told)
    assert main(["record", "a", "--out", "b"]) == 1
    shown = capsys.readouterr()
    assert shown.out == "a: /\\x1b[2J/\\u202ex – 1°.\nb\\r\n" and shown.err == "dseg record: /\\x07 is\\nbroken\n"


@pytest.mark.parametrize("value", ["-1,-2.5,-.5,1,2,3", "1,2,3,-1,0,0"])
def test_lists_may_begin_with_a_minus(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        "dseg_core.frames_from_bag.record", lambda bags, out, options: seen.append(options) or Summary("", {})
    )
    assert main(["record", "a", "--ego.box", value, "--out", "b"]) == 0
    assert seen[0].ego.box == tuple(map(float, value.split(",")))


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
