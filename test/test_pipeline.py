"""The demo's small profile, end to end."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import cv2
import pytest

from dseg_core import cli
from dseg_core.errors import DsegError
from dseg_core.options import Options
from dseg_core.pipeline import PROFILES, demo, demo_steps
from dseg_core.reporting.banner import write_banner
from dseg_core.reporting.matching import overlap_of
from dseg_core.reporting.sources import Sources
from dseg_core.stage_options import DemoOptions, ReportOptions


@pytest.mark.parametrize("profile", PROFILES)
def test_every_printed_command_is_one_that_dseg_takes(profile: str) -> None:
    """Parse each line as a shell would; all but `dseg` must be accepted by the command line's own parser."""
    for step in demo_steps(Path("a folder"), DemoOptions(profile=profile)):
        program, *arguments = shlex.split(step.line)
        assert program == "dseg" and tuple(arguments) == step.arguments
        parsed = cli._parser().parse_args(arguments)
        assert isinstance(cli._options(parsed.command, parsed), Options)


def test_demo_profile_is_as_large_as_promised() -> None:
    """100 sweeps over at least 8 worlds, 640x192, and no world is both trained on and scored."""
    used: dict[str, set[int]] = {}
    sweeps = 0
    for step in demo_steps(Path("out"), DemoOptions(seed=3)):
        parsed = cli._parser().parse_args(step.arguments)
        if parsed.command.name == "simulate":
            options = cli._options(parsed.command, parsed).to_dict()
            assert (options["width"], options["height"], options["lidar_rate"]) == (640, 192, 10)
            used[parsed.out_bag.name] = set(range(options["seed"], options["seed"] + options["worlds"]))
            sweeps += options["worlds"] * options["sweeps"]
    assert sweeps == 100
    assert len(used["train"]) + len(used["test"]) >= 8
    assert not used["train"] & used["test"]


def test_small_demo_makes_everything_it_says(small_demo: Path) -> None:
    summary = json.loads((small_demo / "summary.json").read_text())["results"]
    for path in summary["made"].values():
        assert Path(path).stat().st_size > 0
    titles = [step.title for step in demo_steps(small_demo, DemoOptions(profile="small"))]
    assert list(summary["seconds"]) == titles


def test_the_banner_tells_the_colours_of_its_last_column(small_demo: Path) -> None:
    """Below the pictures stands a swatch of each class that some cluster is painted as."""
    shown = ReportOptions(
        frames=small_demo / "frames" / "train", test_frames=small_demo / "frames" / "test", run=small_demo / "run"
    )
    sources = Sources.open(shown)
    overlap = overlap_of(sources)
    assert overlap is not None
    painted = {overlap.truth.entries[i].color for i in overlap.matched().tolist() if i >= 0}
    write_banner(small_demo / "banner.png", sources)
    picture = cv2.imread(str(small_demo / "banner.png"))[..., ::-1]
    rows = len(picture) - 18 * -(-len(painted) // (picture.shape[1] // 130)) - 6
    for color in painted:
        assert (picture[rows:] == color).all(axis=2).sum() >= 11 * 11, color


def test_demo_again_skips_and_changes_nothing(small_demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A rerun takes the finished stages as they are: not one file of theirs is written again."""
    kept = [small_demo / "run" / name for name in ("student.safetensors", "teacher.safetensors", "model.onnx")]
    kept += sorted((small_demo / "frames").rglob("*.mcap")) + sorted((small_demo / "bags").rglob("*.mcap"))
    before = [path.stat().st_mtime_ns for path in kept]
    demo(small_demo, DemoOptions(profile="small"))
    assert [path.stat().st_mtime_ns for path in kept] == before
    printed = capsys.readouterr().out
    for step in demo_steps(small_demo, DemoOptions(profile="small")):
        assert f"$ {step.line}\n" in printed


def test_another_seed_in_the_same_folder_is_refused(small_demo: Path) -> None:
    with pytest.raises(DsegError, match=r"commands\.txt: holds a demo made by other commands"):
        demo(small_demo, DemoOptions(profile="small", seed=1))


def test_a_folder_of_another_command_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(DsegError, match="holds what `dseg train` made"):
        demo(tmp_path, DemoOptions(profile="small"))
    assert not (tmp_path / "commands.txt").exists()
