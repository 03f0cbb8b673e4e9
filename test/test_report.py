"""The report: self-contained, true to the stages' own numbers, safe whatever the data is called."""

from __future__ import annotations

import base64
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from dseg_core.errors import DsegError
from dseg_core.image_codecs import decode
from dseg_core.networks.checkpoint import load_network
from dseg_core.networks.mask_model import MaskModel
from dseg_core.report import report
from dseg_core.reporting.frame_sections import _tolerances
from dseg_core.reporting.learning_sections import apart, mask_of, truth_of
from dseg_core.reporting.matching import overlap_of
from dseg_core.reporting.sources import Frames, Sources
from dseg_core.stage_options import ReportOptions

VOID = {"meta", "img", "br", "hr", "source"}


class Page(HTMLParser):
    """Elements, visible text and text per section; fails on tags that do not nest."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.sections: dict[str, str] = {}
        self._open: list[str] = []
        self._section = ""
        self.feed(path.read_text(encoding="utf-8"))
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "section":
            self._section = str(dict(attrs)["id"])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._section:
            self.sections[self._section] = self.sections.get(self._section, "") + " " + data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(small_demo: Path) -> Page:
    return Page(small_demo / "report.html")


def test_page_loads_nothing_and_runs_nothing(small_demo: Path, page: Page) -> None:
    text = (small_demo / "report.html").read_text(encoding="utf-8")
    for name, attributes in page.elements:
        assert name not in ("script", "link", "iframe", "object", "embed", "base")
        for key, value in attributes.items():
            assert not key.startswith("on")
            if key in ("src", "href", "poster", "data"):
                assert str(value).startswith(("data:image/webp;base64,", "data:video/mp4;base64,", "#"))
    assert not re.search(r"url\s*\(|@import", text)
    assert len(text) < 8e6


def test_every_picture_decodes_and_says_what_it_shows(page: Page) -> None:
    images = page.all("img")
    assert len(images) > 10
    for image in images:
        data = base64.b64decode(str(image["src"]).partition(",")[2], validate=True)
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert decoded.shape[:2] == (int(str(image["height"])), int(str(image["width"])))
        assert len(str(image["alt"])) > 8


def test_every_chapter_has_its_data(page: Page) -> None:
    names = ["result", "pairing", "frames", "classes", "training", "scores", "masks", "model", "reproduce"]
    assert list(page.sections) == names
    assert [str(link["href"]) for link in page.all("a")] == [f"#{name}" for name in names]
    assert not [e for e in page.elements if e[1].get("class") == "absent"]


def test_scores_are_those_of_the_evaluation(small_demo: Path, page: Page) -> None:
    """Every cell of the four ladders, and the headline, printed with one digit."""
    cells = json.loads((small_demo / "run/evaluation/test/summary.json").read_text())["results"]["rows"]
    printed = re.findall(r"\d+\.\d", page.sections["scores"])
    for cell in cells:
        assert f"{100 * cell['miou']:.1f}" in printed
    student = next(
        c
        for c in cells
        if (c["row"], c["pixels"], c["ground"], c["sky"], c["convention"])
        == ("student", "all", "merged", False, "one-to-one")
    )
    assert f"{100 * student['miou']:.1f}" in page.sections["result"].split()


def test_result_shows_every_convention_and_says_where_there_is_no_gain(small_demo: Path, page: Page) -> None:
    """Worked out anew from the evaluation's cells: the lead over the better baseline, and the ways without one."""
    cells = json.loads((small_demo / "run/evaluation/test/summary.json").read_text())["results"]["rows"]
    text = " ".join(page.sections["result"].split())
    lost = 0
    for ground, sky in (("merged", False), ("as is", True)):
        for way in ("one-to-one", "many-to-one", "unmatched ignored"):
            found = {
                c["row"]: 100 * c["miou"]
                for c in cells
                if (c["pixels"], c["ground"], c["sky"], c["convention"]) == ("all", ground, sky, way)
            }
            best = max(found["colour baseline"], found["features, no LiDAR"])
            assert f"{found['student']:.1f}" in text
            assert f"{found['student'] - best:+.1f}".replace("-", "−") in text.split()
            if found["student"] <= best:
                lost += 1
                assert f"({found['student']:.1f} against {best:.1f})" in text
    assert ("No gain over the better baseline" in text) == (lost > 0)


def test_first_section_begins_with_pictures_and_says_whose_colours(page: Page) -> None:
    names = [name for name, _ in page.elements]
    assert names.index("img") < names.index("table") and names.count("video") == 1
    assert "coloured by the class of the truth that each covers most" in page.sections["result"]
    assert "as it comes" in page.sections["masks"]


def test_pictures_and_confusion_matrix_are_of_one_matching(small_demo: Path) -> None:
    """The student's mask painted in truth's colours, counted against truth by colour, is the printed matrix."""
    path = small_demo / "frames/test"
    sources = Sources.open(ReportOptions(test_frames=path, run=small_demo / "run"))
    overlap = overlap_of(sources)
    assert overlap is not None and sources.test is not None
    keys = sources.test.store.view_keys
    truth = truth_of(sources, keys)
    student = load_network(small_demo / "run")
    model = MaskModel(student, apart(student.classes)).eval()
    colors = overlap.truth.palette()[: len(overlap.truth)].tolist()
    counts = np.zeros((len(colors), len(colors)), dtype=int)
    for key in keys:
        painted = overlap.palette(student.classes)[mask_of(model, decode(sources.test.store.view(key).image))]
        for said, color in enumerate(colors):
            there = truth[key][(painted == color).all(axis=2)]
            counts[:, said] += np.bincount(there[there != 255], minlength=len(colors))
    assert np.array_equal(counts, overlap.confusion()[:, : len(colors)])


@pytest.mark.parametrize(
    ("pairing", "band"),
    [
        ({"tolerance": 0.02}, (-20, 20)),
        ({"tolerance": 0.02, "offsets": ["camera_front:-0.005"]}, (-25, 15)),
        ({"tolerance": 0.02, "reference": "crossing"}, None),
    ],
)
def test_tolerance_is_that_of_the_recording(
    small_demo: Path, pairing: dict[str, object], band: tuple[float, float] | None
) -> None:
    frames = Frames.open(small_demo / "frames/test")
    assert frames is not None
    summary = {**frames.summary, "options": {**frames.summary["options"], "pairing": pairing}}
    found = _tolerances(replace(frames, summary=summary))
    assert found == ({} if band is None else {"camera_front": pytest.approx(band)})


def test_the_player_has_room_for_its_controls_below_the_picture(small_demo: Path, page: Page) -> None:
    """The box has the video's own shape, so what is added below it is free of legend."""
    capture = cv2.VideoCapture(str(next((small_demo / "masks").rglob("*.mp4"))))
    size = [int(capture.get(which)) for which in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
    box = next(e for _, e in page.elements if e.get("class") == "player")
    assert box["style"] == "aspect-ratio:{}/{}".format(*size)


def test_frames_whose_summary_is_of_training_cost_one_line(small_demo: Path, tmp_path: Path) -> None:
    shutil.copytree(small_demo / "frames/test", tmp_path / "frames")
    shutil.copy(small_demo / "run/summary.json", tmp_path / "frames/summary.json")
    with pytest.raises(DsegError, match="is of `dseg train`, not of recording"):
        report(tmp_path / "page.html", ReportOptions(frames=tmp_path / "frames"))


def test_pairing_table_adds_up_to_the_bags(small_demo: Path, page: Page) -> None:
    for split in ("train", "test"):
        drives = json.loads((small_demo / f"frames/{split}/summary.json").read_text())["results"]["drives"].values()
        for sensor in {name for drive in drives for name in drive["sensors"]}:
            counts = [drive["sensors"][sensor] for drive in drives]
            lost = sum(sum(c["dropped"].values()) for c in counts)
            total, paired, surplus = (sum(c[k] for c in counts) for k in ("messages", "paired", "surplus"))
            assert total == paired + surplus + lost
            assert re.search(rf"{sensor}\s+{total}\s+{paired}\s+{surplus}\s+{lost}\b", page.sections["pairing"])
    assert "not accounted for" not in page.sections["pairing"]


def test_commands_are_the_ones_that_were_run(small_demo: Path, page: Page) -> None:
    for line in (small_demo / "commands.txt").read_text().splitlines():
        assert f"$ {line}" in page.sections["reproduce"]


def test_frames_alone_make_a_page_that_says_what_is_missing(small_demo: Path, tmp_path: Path) -> None:
    report(tmp_path / "page.html", ReportOptions(frames=small_demo / "frames/train", samples=1))
    alone = Page(tmp_path / "page.html")
    assert "proposals in" in alone.sections["frames"]
    for name in ("training", "scores", "masks", "model"):
        assert (
            "No run was given" in alone.sections[name] or "when" in alone.sections[name] or "no" in alone.sections[name]
        )


def test_hostile_names_stay_text(small_demo: Path, tmp_path: Path) -> None:
    """A drive, its summary and a class named like markup."""
    hostile = "<script>alert(1)<&'"
    frames = tmp_path / "frames"
    shutil.copytree(small_demo / "frames/train", frames)
    part = sorted(frames.glob("*_0.mcap"))[0]
    drive = part.name.removesuffix("_0.mcap")
    part.rename(frames / f"{hostile}_0.mcap")
    summary = (frames / "summary.json").read_text().replace("camera_front", hostile).replace(drive, hostile)
    (frames / "summary.json").write_text(summary)
    classes = frames / "labels/default/classes.yaml"
    classes.write_text(classes.read_text().replace("cluster_01", f'"{hostile}"'))
    report(tmp_path / "page.html", ReportOptions(frames=frames, title=hostile, samples=2))
    page = Page(tmp_path / "page.html")
    assert not page.all("script")
    for name in ("pairing", "frames", "classes"):
        assert hostile in page.sections[name]


def test_nothing_given_is_an_error_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DsegError, match="nothing to report on"):
        report(tmp_path / "page.html", ReportOptions())
    with pytest.raises(DsegError, match="run wants the folder"):
        report(tmp_path / "page.html", ReportOptions(run=tmp_path / "missing"))
    assert not list(tmp_path.iterdir())


def test_masks_are_the_folder_of_segment(small_demo: Path, tmp_path: Path) -> None:
    with pytest.raises(DsegError, match=r"run: holds what `dseg train` made.*--masks wants"):
        report(tmp_path / "page.html", ReportOptions(run=small_demo / "run", masks=small_demo / "run"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DsegError, match=r"empty: has no summary\.json"):
        report(tmp_path / "page.html", ReportOptions(run=small_demo / "run", masks=tmp_path / "empty"))
    assert not (tmp_path / "page.html").exists()


def test_a_run_without_frames_makes_a_page_too(small_demo: Path, tmp_path: Path) -> None:
    report(tmp_path / "run.html", ReportOptions(run=small_demo / "run"))
    assert "No frames were given" in (tmp_path / "run.html").read_text(encoding="utf-8")


def test_a_page_of_somebody_else_is_not_written_over(small_demo: Path, tmp_path: Path) -> None:
    out = tmp_path / "notes.html"
    out.write_text("<html>my notes</html>")
    with pytest.raises(DsegError, match=r"notes.html: is a file that `dseg report` did not write"):
        report(out, ReportOptions(run=small_demo / "run"))
    assert out.read_text() == "<html>my notes</html>"
    out.unlink()
    for _ in range(2):
        report(out, ReportOptions(run=small_demo / "run"))
