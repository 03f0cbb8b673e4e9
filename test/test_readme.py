"""The README's commands exist and run, its files are there."""

from __future__ import annotations

import re
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch

from dseg_core.cli import main
from dseg_core.runtime.predictor import open_model
from dseg_core.simulation.simulate import simulate
from dseg_core.stage_options import SimulateOptions

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCED = re.findall(r"^```(\w*)\n(.*?)^```", README, re.S | re.M)
BLOCKS = [block for language, block in FENCED if language == "bash"]
# The same commands on a small drive and a small network: what is tested is that they are right, not how good.
SMALLER = {
    "label": ["--clusters", "6"],
    "train": [
        *("--network.width", "160", "--network.height", "96", "--network.channels", "8"),
        *("--teacher.steps", "8", "--student.steps", "8"),
    ],
}


def commands(program: str) -> list[list[str]]:
    lines = [line.partition("  #")[0].strip() for block in BLOCKS for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith(program + " ")]


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = [arguments[0] for arguments in commands("make")]
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_files_and_pictures_exist() -> None:
    tree = next(block for language, block in FENCED if not language)
    folder = ROOT
    for line in tree.splitlines():
        for name in re.findall(r"[\w.]+(?:/|\.py)", line.partition("   ")[0] if line[0] != " " else line[:36]):
            parent = folder if line.startswith(" ") else ROOT
            assert (parent / name).exists(), name
        if not line.startswith(" "):
            folder = ROOT / line.split("/")[0]
    for page in (ROOT / "README.md", ROOT / "benchmarks" / "README.md"):
        for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / picture).is_file(), picture


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"])
def test_rows_of_tables_have_as_many_cells_as_their_header(name: str) -> None:
    """A value that is missing would stand under another one's title."""
    block: list[str] = []
    for number, line in enumerate([*(ROOT / name).read_text(encoding="utf-8").splitlines(), ""], 1):
        if line.strip().startswith("|"):
            block.append(line)
            cells = [len(re.findall(r"(?<!\\)\|", row)) for row in (block[0], line)]
            assert cells[0] == cells[1], f"{name}:{number}: {line}"
        else:
            block = []


@pytest.mark.xdist_group("readme")
def test_own_bags_from_start_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `dseg` command of the README, in its order, in an empty folder that holds `my_drive`."""
    simulate(tmp_path / "my_drive", SimulateOptions(sweeps=3, width=320, height=96, beams=32, columns=900))
    monkeypatch.chdir(tmp_path)
    ran = []
    for arguments in commands("dseg"):
        if "--help" in arguments or any(word.isupper() for word in arguments):
            continue
        assert main([*arguments, *SMALLER.get(arguments[0], [])]) == 0, arguments
        ran.append(arguments[0])
    assert ran == ["inspect", "record", "label", "train", "export", "segment", "report"]
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert list((tmp_path / "masks").rglob("*.mp4"))


def test_options_named_in_the_text_exist() -> None:
    from dseg_core.cli import COMMANDS

    known = {"--" + field.path.replace("_", "-") for command in COMMANDS for field in command.options.fields()}
    known |= {"--help", "--config", "--print-config", "--out", "--symlink-install", "--ipc", "--shm-size"}
    for option in re.findall(r"`(--[\w.-]+)", README):
        assert option in known, option


def test_launch_files_and_arguments_named_in_the_text_exist() -> None:
    files = {path.name: ET.parse(path).getroot() for path in (ROOT / "launch").iterdir()}  # noqa: S314
    arguments = {name: {str(arg.get("name")) for arg in root.findall("arg")} for name, root in files.items()}
    assert set(arguments) == set(re.findall(r"[\w]+\.launch\.xml", README))
    for name, given in re.findall(r"(\w+\.launch\.xml)(.*)", README):
        assert set(re.findall(r"(\w+):=", given)) <= arguments[name], given
    for words in re.findall(r"`(\w+):=", README):
        assert any(words in known for known in arguments.values()), words


def test_configuration_named_in_the_text_exists() -> None:
    named = re.findall(r"config/[\w./-]+\w", README)
    assert named
    for name in named:
        assert (ROOT / name).is_file(), name


def test_others_networks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example, with a network of which the answer is known: a car is where red outweighs blue."""
    network = torch.nn.Conv2d(3, 2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[0.0, 0.0, 4.0], [4.0, 0.0, 0.0]])[..., None, None])
        network.bias.zero_()
    (example,) = [block for language, block in FENCED if language == "python"]
    monkeypatch.chdir(tmp_path)
    exec(example, {"network": network})  # noqa: S102 (that it runs is what is tested)
    predictor = open_model(tmp_path / "model.onnx", threads=1)
    assert predictor.size == (375, 1242) and predictor.classes.names == ("road", "car")
    image = np.random.default_rng(0).integers(0, 256, (375, 1242, 3)).astype(np.uint8)
    found = predictor.predict(image)
    red, blue = (image[..., i].astype(float) for i in (0, 2))
    np.testing.assert_array_equal(found.mask, red > blue)
    assert found.confidence is not None
    expected = 255 / (1 + np.exp(-4 * np.abs(red - blue) / 255))
    assert np.abs(found.confidence - expected).max() <= 1.01
