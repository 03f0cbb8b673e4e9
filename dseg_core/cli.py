"""The `dseg` command. One table of commands; options, help and errors come from the options classes."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import threading
from collections.abc import Sequence

from dseg_core import stage_options
from dseg_core.command_parser import Argument, Command, CommandParser, command_parser
from dseg_core.errors import DsegError, OptionError, printable, system_error
from dseg_core.options import Options
from dseg_core.progress import Summary, announced

COMMANDS = (
    Command(
        "simulate",
        "make a synthetic drive with ground truth",
        (Argument("out_bag", "rosbag2 folder to write, or folder of bags with --worlds"),),
        stage_options.SimulateOptions,
        "dseg_core.simulation.simulate:simulate",
    ),
    Command(
        "inspect",
        "tell what a bag holds and what recording it would give, before it is recorded",
        (Argument("bag", "rosbag2 folder, .mcap, .db3 or ROS 1 .bag file"),),
        stage_options.InspectOptions,
        "dseg_core.inspection.inspect:inspect",
    ),
    Command(
        "record",
        "turn bags into proposal-labelled frames",
        (
            Argument("bags", "rosbag2 folders, .mcap, .db3 or ROS 1 .bag files, or folders of bags", many=True),
            Argument("out", "folder of frames to write", flag=True),
        ),
        stage_options.RecordOptions,
        "dseg_core.frames_from_bag:record",
    ),
    Command(
        "check",
        "see whether recorded frames are whole and make sense; exit status 1 if not",
        (Argument("frames", "folder of frames"),),
        stage_options.FrameCheckOptions,
        "dseg_core.checks_from_frames:check",
    ),
    Command(
        "export-frames",
        "write frames and pseudo-labels as a data set for other trainers",
        (Argument("frames", "folder of frames"), Argument("out", "folder of the data set to write", flag=True)),
        stage_options.ExportFramesOptions,
        "dseg_core.dataset_from_frames:export_frames",
    ),
    Command(
        "view",
        "show frames in Rerun's viewer: points, boxes, images and regions",
        (Argument("frames", "folder of frames"),),
        stage_options.ViewOptions,
        "dseg_core.viewer:view",
    ),
    Command(
        "label",
        "cluster the regions into pseudo-classes",
        (Argument("frames", "folder of frames"),),
        stage_options.LabelOptions,
        "dseg_core.classes_from_features:label",
    ),
    Command(
        "train",
        "train the teacher, refine its predictions inside proposals, distil the student",
        (Argument("frames", "folder of frames with labels"), Argument("out", "folder of the run to write", flag=True)),
        stage_options.TrainOptions,
        "dseg_core.student_from_teacher:train",
    ),
    Command(
        "evaluate",
        "score pseudo-labels, teacher and student against truth",
        (
            Argument("runs", "training runs; several give mean and deviation", many=True),
            Argument("data", "simulated frames, or a folder of image/label PNG pairs with classes.yaml"),
        ),
        stage_options.EvaluateOptions,
        "dseg_core.evaluation.evaluate:evaluate",
    ),
    Command(
        "score-proposals",
        "score recorded frames' proposals and regions against truth",
        (Argument("frames", "folder of frames"),),
        stage_options.ScoreProposalsOptions,
        "dseg_core.evaluation.score_proposals:score_proposals",
    ),
    Command(
        "export",
        "export a student as one ONNX graph, checked against torch, and build engines of it",
        (Argument("run", "training run"),),
        stage_options.ExportOptions,
        "dseg_core.engine_from_model:export",
    ),
    Command(
        "segment",
        "make masks from a bag, a folder of images or a video",
        (
            Argument("model", "exported .onnx model, the folder of a training run, or an engine file"),
            Argument("source", "bag, folder of images, or video file"),
        ),
        stage_options.SegmentOptions,
        "dseg_core.masks_from_model:segment",
    ),
    Command(
        "report",
        "write one self-contained HTML page about frames, a run and its masks",
        (Argument("out", "the .html file to write", flag=True),),
        stage_options.ReportOptions,
        "dseg_core.report:report",
    ),
    Command(
        "demo",
        "run the whole way on a simulated drive and write report.html",
        (Argument("out", "folder for everything the demo makes", flag=True),),
        stage_options.DemoOptions,
        "dseg_core.pipeline:demo",
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `dseg`. Returns the exit status: 0, 1 for an error, 2 for wrong options, 130 when interrupted."""
    parsed = _parser().parse_args(_hyphenated(sys.argv[1:] if arguments is None else arguments))
    command: Command = parsed.command
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)
        if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # not where it is to be ignored, as by nohup
            signal.signal(signal.SIGHUP, _interrupt)
    try:
        if parsed.print_config:
            print(_options(command, parsed).to_yaml(), end="")
            return 0
        summary = _run(parsed)
    except DsegError as error:
        print(f"dseg {command.name}: {error}", file=sys.stderr)
        return 2 if isinstance(error, OptionError) else 1
    except OSError as error:  # a full disk, a read-only folder: the system's words are what the user needs
        print(f"dseg {command.name}: {system_error(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        again = "run the same command again: it keeps what is finished"
        print(f"dseg {command.name}: interrupted; {again}", file=sys.stderr)
        return 130
    print("\n".join(map(printable, summary.text.split("\n"))))
    for problem in summary.problems:
        print(f"dseg {command.name}: {printable(problem)}", file=sys.stderr)
    return 1 if summary.problems else 0


def run(arguments: Sequence[str]) -> Summary:
    """Run one command line as `main` does, but return the run's summary and let DsegError through."""
    return _run(_parser().parse_args(_hyphenated(arguments)))


def _hyphenated(arguments: Sequence[str]) -> list[str]:
    """Flags with hyphens, as the command line has them; underscores, as YAML and ROS have them, are understood."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    flags = (argument.partition("=") for argument in arguments[:end])
    known = ["".join((n.replace("_", "-") if n.startswith("--") else n, *rest)) for n, *rest in flags]
    return [*known, *arguments[end:]]


def _interrupt(*_: object) -> None:
    """A polite kill, or a terminal that is closed, ends a run as Ctrl-C does."""
    raise KeyboardInterrupt


def _run(parsed: argparse.Namespace) -> Summary:
    command: Command = parsed.command
    options = _options(command, parsed)
    module, _, function = command.runner.partition(":")
    paths = {a.name: getattr(parsed, a.name) for a in command.arguments}
    with announced(f"dseg {command.name}: loading"):  # torch takes seconds
        runner = getattr(importlib.import_module(module), function)
    summary: Summary = runner(**paths, options=options)
    return summary


def _options(command: Command, parsed: argparse.Namespace) -> Options:
    """Defaults, then --config, then the flags."""
    flags = {field.path: getattr(parsed, field.path) for field in command.options.fields()}
    given = {path: value for path, value in flags.items() if value is not None}
    if parsed.config is not None:
        return command.options.from_yaml(parsed.config, given)
    return command.options.from_mapping(given)


def _parser() -> CommandParser:
    return command_parser(COMMANDS, _version())


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("dseg_ros")
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
