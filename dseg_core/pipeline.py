"""`dseg demo`: the whole way on simulated drives, each step by the command line that a user would type."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from dseg_core import cli
from dseg_core.errors import DsegError
from dseg_core.progress import Summary, claim, write_whole
from dseg_core.reporting.banner import write_banner
from dseg_core.reporting.sources import Sources
from dseg_core.stage_options import DemoOptions, ReportOptions

_TEST_SEED = 500
"""Worlds with seeds this much higher are used for nothing but scores."""


@dataclass(frozen=True)
class Profile:
    """How large a demo is: worlds and sweeps of each, to learn from and to score.

    `arguments`: options of single commands that differ from their defaults.
    """

    minutes: float
    train: tuple[int, int]
    test: tuple[int, int]
    arguments: dict[str, tuple[str, ...]]


PROFILES = {
    "demo": Profile(
        minutes=5,
        # Many short drives to learn from: within one, every frame looks alike. Longer ones to look at.
        train=(16, 5),
        test=(2, 10),
        arguments={"train": ("--network.width=640", "--network.height=192")},
    ),
    "small": Profile(
        minutes=1,
        train=(2, 3),
        test=(1, 3),
        arguments={
            "simulate": ("--width=320", "--height=96", "--beams=32", "--columns=900"),
            "label": ("--clusters=8",),
            "train": (
                "--network.width=320",
                "--network.height=96",
                "--network.channels=8",
                "--teacher.steps=40",
                "--teacher.batch=2",
                "--student.steps=40",
                "--student.batch=2",
            ),
            "evaluate": ("--baseline-seeds=1",),
        },
    ),
}


@dataclass(frozen=True)
class Step:
    """One command of the demo: what it does in words, and its command line without the leading `dseg`."""

    title: str
    arguments: tuple[str, ...]

    @property
    def line(self) -> str:
        """The command as one types it."""
        return shlex.join(("dseg", *self.arguments))


def demo(out: Path, options: DemoOptions) -> Summary:
    """Simulate, record, label, train, evaluate, export, segment and report, under `out`.

    Every step is a command line, printed before it runs; finished stages are skipped when the demo runs again.

    Args:
        out: Folder for everything; made when missing.
        options: Size and seed.

    Returns:
        What was made and where, the scores against the simulation's truth, seconds per step.

    Raises:
        DsegError: From any stage, or when `out` holds a demo of another profile or seed.
    """
    profile = PROFILES[options.profile]
    _claim(out, options)
    steps = demo_steps(out, options)
    print(
        f"The demo takes about {profile.minutes:g} min on 2 cores; run it again to go on where it stopped.", flush=True
    )
    seconds: dict[str, float] = {}
    runs: dict[str, Summary] = {}
    for number, step in enumerate(steps, 1):
        print(f"\n[{number}/{len(steps)}] {step.title}\n$ {step.line}", flush=True)
        began = time.monotonic()
        runs[step.title] = cli.run(step.arguments)
        seconds[step.title] = round(time.monotonic() - began, 1)
        print(f"{runs[step.title].text}\n({seconds[step.title]:.0f} s)", flush=True)
    shown = ReportOptions(frames=out / "frames" / "train", test_frames=out / "frames" / "test", run=out / "run")
    write_banner(out / "demo.png", Sources.open(shown))
    return _summary(out, seconds, runs).write(out, "demo", options)


def demo_steps(out: Path, options: DemoOptions) -> tuple[Step, ...]:
    """The commands of the demo in order; paths are under `out`."""
    profile = PROFILES[options.profile]
    bags, frames, run, masks = out / "bags", out / "frames", out / "run", out / "masks"
    seed = options.seed * 1000

    def step(title: str, command: str, *arguments: object) -> Step:
        return Step(title, (command, *map(str, arguments), *profile.arguments.get(command, ())))

    def simulate(split: str, first_seed: int, size: tuple[int, int]) -> Step:
        worlds, sweeps = size
        place = (bags / split, "--seed", first_seed, "--worlds", worlds, "--sweeps", sweeps)
        return step(f"simulate {split}", "simulate", *place)

    test_bag = bags / "test" / "world_0000" if profile.test[0] > 1 else bags / "test"
    clusters = frames / "train" / "labels" / "default"
    return (
        simulate("train", seed, profile.train),
        simulate("test", seed + _TEST_SEED, profile.test),
        step("record train", "record", bags / "train", "--out", frames / "train"),
        step("record test", "record", bags / "test", "--out", frames / "test"),
        step("label train", "label", frames / "train", "--seed", options.seed),
        step("label test", "label", frames / "test", "--seed", options.seed, "--clusters-from", clusters),
        step("train", "train", frames / "train", "--out", run, "--seed", options.seed),
        step("evaluate", "evaluate", run, frames / "test", "--fit-on", frames / "train"),
        step("export", "export", run),
        step("segment", "segment", run / "model.onnx", test_bag, "--out", masks),
        step(
            "report",
            "report",
            "--out",
            out / "report.html",
            "--frames",
            frames / "train",
            "--test-frames",
            frames / "test",
            "--run",
            run,
            "--masks",
            masks,
            "--commands",
            out / "commands.txt",
        ),
    )


def _claim(out: Path, options: DemoOptions) -> None:
    """Make `out`, and keep the demo's command lines there; a folder belongs to one profile and one seed."""
    claim(out, "demo")
    lines = "".join(f"{step.line}\n" for step in demo_steps(out, options))
    path = out / "commands.txt"
    if path.is_file() and path.read_text(encoding="utf-8") != lines:
        fix = "Give another --out, or delete this folder"
        raise DsegError("holds a demo made by other commands, of another profile or seed", where=path, fix=fix)
    write_whole(path, lines.encode())


def _summary(out: Path, seconds: dict[str, float], runs: dict[str, Summary]) -> Summary:
    """What was made, and how long each step took, and the scores. Raises DsegError when something is missing."""
    videos = sorted((out / "masks").rglob("*.mp4"))
    made = {
        "report": out / "report.html",
        "overlay video": videos[0] if videos else out / "masks" / "overlay.mp4",
        "picture": out / "demo.png",
        "model": out / "run" / "model.onnx",
        "masks": out / "masks",
    }
    missing = [path for path in made.values() if not path.exists()]
    if missing:
        raise DsegError("was not made", where=missing[0], fix="Run the demo again in a new folder")
    scores = runs["evaluate"].text.strip()
    places = [*(f"  {name + ':':15}{path.resolve()}" for name, path in made.items())]
    took = [f"  {title:15}{value:6.0f} s" for title, value in (*seconds.items(), ("together", sum(seconds.values())))]
    text = "\n".join(
        ["\nMade:", *places, "\nTook:", *took, "\nScores:", *(f"  {line}" for line in scores.splitlines())]
    )
    numbers = {
        "seconds": seconds,
        "made": {name: str(path) for name, path in made.items()},
        "scores": scores,
        "results": {title: runs[title].results for title in ("evaluate", "export", "segment")},
    }
    return Summary(text, numbers)
