"""Truth joined by stamp, folders of pairs with all their error lines, and `dseg evaluate` end to end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dseg_core import cli
from dseg_core.bag import BagReader, BagWriter
from dseg_core.cameras import Camera
from dseg_core.class_table import ClassTable
from dseg_core.errors import DsegError
from dseg_core.evaluation.evaluate import evaluate, split_data
from dseg_core.evaluation.ladder import (
    ALL,
    BASELINE,
    CAPACITY,
    CELLS,
    LABELLED,
    LABELS,
    MANY_TO_ONE,
    NAMED,
    ONE_TO_ONE,
    STUDENT,
    TEACHER,
    Cell,
    Predictor,
    Row,
    conventions,
    groupings,
    labels_predictor,
    score_rows,
    tally,
)
from dseg_core.evaluation.stored_scores import (
    done_before,
    evaluation_folder,
    network_print,
    results_for_report,
    scores_for_report,
)
from dseg_core.evaluation.tables import Board, Spread, score_tables
from dseg_core.evaluation.truth import TruthData, TruthView, _bag_truth, open_truth
from dseg_core.frame_writer import FrameWriter
from dseg_core.image_codecs import encode
from dseg_core.label_store import LabelStore
from dseg_core.messages import image_to_message, stamp_ns
from dseg_core.networks.build import build_network
from dseg_core.networks.checkpoint import RunDescription, save_network
from dseg_core.progress import Summary, write_whole
from dseg_core.records import Frame, Sweep, View
from dseg_core.simulation.simulate import simulate
from dseg_core.stage_options import (
    EvaluateOptions,
    FitOptions,
    NetworkOptions,
    SimulateOptions,
    StoreOptions,
    TrainOptions,
)
from dseg_core.store import FrameStore
from dseg_core.topic_names import camera_name

HEIGHT, WIDTH = 48, 96
TRUTH = ClassTable.of_names(["road", "car", "sky"], [(128, 64, 128), (0, 0, 142), (70, 130, 180)])
COLOURS = np.array([[90, 90, 95], [180, 30, 30], [140, 190, 240]])
OFFSET = 15_000_000  # from the sweep's stamp to the image's, ns


def scene(shift: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image, truth, and pseudo-labels that know no sky and split the car in two."""
    truth = np.zeros((HEIGHT, WIDTH), np.uint8)
    truth[:16] = 2
    truth[20:36, 10 + shift : 50 + shift] = 1
    noise = np.random.default_rng(shift).normal(0, 4, (HEIGHT, WIDTH, 3))
    rgb = np.clip(COLOURS[truth] + noise, 0, 255).astype(np.uint8)
    labels = np.where(truth == 2, 255, truth).astype(np.uint8)
    labels[20:36, 40 + shift : 50 + shift] = 2
    return rgb, truth, labels


def make_drive(folder: Path, drive: str, shifts: tuple[int, ...], truth_late: int = 0) -> None:
    """Frames with labels under `folder/frames`, and under `folder/bags` the bag they say they come from."""
    frames = folder / "frames"
    bag = folder / "bags" / drive
    camera = Camera.pinhole("front_optical", WIDTH, HEIGHT, 60, 60, WIDTH / 2, HEIGHT / 2)
    store, masks = FrameWriter(frames, drive), {}
    with BagWriter(bag) as writer, store:
        for index, shift in enumerate(shifts):
            rgb, truth, labels = scene(shift)
            stamp = 10**9 + index * 10**8
            image = stamp + OFFSET
            message = image_to_message(image + truth_late, "front_optical", truth)
            writer.write("/truth/camera_front/semantic", message, image)
            encoded = encode(image, "front_optical", rgb, StoreOptions())
            view = View("camera_front", encoded, np.ones((HEIGHT, WIDTH), np.uint16), camera, np.eye(4))
            sweep = Sweep(stamp, "lidar", np.ones((3, 3), np.float32))
            store.write(Frame(drive, sweep, np.ones(3, np.uint16), (view,)))
            masks[stamp] = labels
    TRUTH.write(bag / "truth_classes.yaml")
    drives = {d.name: {"bag": str(d)} for d in sorted((folder / "bags").iterdir())}
    write_whole(frames / "summary.json", json.dumps({"results": {"drives": drives}}).encode())
    label_store = LabelStore(frames, "default")
    for key in FrameStore(frames).view_keys:
        if key.drive == drive:
            label_store.write_mask(key, masks[key.stamp_ns])
    ClassTable.of_clusters(3).write(label_store.path / "classes.yaml")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train/frames` and `test/frames`, two drives each."""
    root = tmp_path_factory.mktemp("world")
    for split, first in (("train", 0), ("test", 20)):
        for drive in (0, 1):
            make_drive(root / split, f"{split}_{drive}", (first + drive, first + drive + 5))
    return root


def make_run(run: Path, seed: int = 0) -> Path:
    network = NetworkOptions(height=32, width=64, channels=8)
    options = TrainOptions(network=network, student=FitOptions(steps=3, batch=2))
    RunDescription(network, ClassTable.of_clusters(3), {}, options.to_dict()).write(run)
    for offset, which in enumerate(("teacher", "student")):
        torch.manual_seed(10 * seed + offset)
        save_network(run, which, build_network(network, 4).state_dict())
    return run


def find(cells: list[Cell], *key: object) -> Cell:
    (cell,) = [c for c in cells if c.key == key]
    return cell


def test_truth_is_joined_by_the_images_stamp(world: Path) -> None:
    data = open_truth(world / "train" / "frames")
    assert data.drives == ("train_0", "train_1") and data.classes == TRUTH
    assert data.label_classes == ClassTable.of_clusters(3)
    views = list(data.views("train_1"))
    assert data.count("train_1") == len(views) == 2
    for view, shift in zip(views, (1, 6), strict=True):
        rgb, truth, labels = scene(shift)
        np.testing.assert_array_equal(view.truth, truth)
        np.testing.assert_array_equal(view.labels, labels)
        assert np.abs(view.rgb.astype(int) - rgb).mean() < 5  # JPEG


def test_truth_with_other_stamps_is_no_truth(tmp_path: Path) -> None:
    make_drive(tmp_path, "drive", (0,), truth_late=1)
    data = open_truth(tmp_path / "frames")
    with pytest.raises(DsegError, match="no truth for the image of drive/1000000000/camera_front at stamp 1015000000"):
        list(data.views("drive"))


def test_moved_bags_are_found_by_truth(tmp_path: Path) -> None:
    make_drive(tmp_path, "drive", (0,))
    (tmp_path / "bags").rename(tmp_path / "moved")
    gone = r"the bag that drive drive was recorded from, .*bags/drive, is not there any more\. Tell where it is with"
    with pytest.raises(DsegError, match=rf"{gone} --truth BAG$"):
        open_truth(tmp_path / "frames")
    with pytest.raises(DsegError, match=rf"{gone} --fit-truth BAG$"):
        open_truth(tmp_path / "frames", option="--fit-truth")
    (tmp_path / "moved" / "drive").rename(tmp_path / "moved" / "other")
    with pytest.raises(DsegError, match=r"none of --truth's bags is that of drive drive\. Add it"):
        open_truth(tmp_path / "frames", bags=(tmp_path / "moved",))
    (tmp_path / "moved" / "other").rename(tmp_path / "moved" / "drive")
    data = open_truth(tmp_path / "frames", bags=(tmp_path / "moved",))
    assert len(list(data.views("drive"))) == 1


def test_labels_of_another_name_are_listed(world: Path) -> None:
    with pytest.raises(DsegError, match=r"there are no labels 'other'\. Give --labels default"):
        open_truth(world / "train" / "frames", labels="other")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    root = tmp_path / "pairs"
    TRUTH_YAML = root / "classes.yaml"
    for part in ("images/a", "images/b", "labels/a", "labels/b"):
        (root / part).mkdir(parents=True)
    TRUTH.write(TRUTH_YAML)
    for drive, shift in (("a", 0), ("b", 9)):
        rgb, truth, _ = scene(shift)
        cv2.imwrite(str(root / "images" / drive / "one.jpg"), rgb[..., ::-1])
        cv2.imwrite(str(root / "labels" / drive / "one.png"), truth)
    return root


def test_folder_of_pairs_reads_as_it_was_written(pairs: Path) -> None:
    data = open_truth(pairs)
    assert data.drives == ("a", "b") and data.label_classes is None
    (view,) = data.views("b")
    rgb, truth, _ = scene(9)
    np.testing.assert_array_equal(view.truth, truth)
    assert np.abs(view.rgb.astype(int) - rgb).mean() < 5


def _remove(path: Path) -> None:
    path.unlink()


def _resize(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((20, 30), np.uint8))


def _colour(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH, 3), np.uint8))


def _foreign(path: Path) -> None:
    cv2.imwrite(str(path), np.full((HEIGHT, WIDTH), 9, np.uint8))


def _garble(path: Path) -> None:
    path.write_bytes(b"no image")


@pytest.mark.parametrize(
    ("file", "spoil", "line"),
    [
        ("labels/b/one.png", _remove, "images/b/one.jpg: has no label labels/b/one.png. Every image needs a label"),
        ("labels/b/one.png", _resize, "labels/b/one.png: truth is 30x20, but the image is 96x48 (width x height)"),
        ("labels/b/one.png", _colour, "labels/b/one.png: is uint8 with 3 channels. A label image is an 8-bit grey"),
        ("labels/b/one.png", _foreign, "labels/b/one.png: holds id 9, which is not in classes.yaml (0 to 2)"),
        ("labels/b/one.png", _garble, "labels/b/one.png: cannot be read as an image"),
        ("images/b/one.jpg", _garble, "images/b/one.jpg: cannot be read as an image"),
        ("classes.yaml", _remove, "classes.yaml: cannot be read: No such file"),
    ],
)
def test_a_broken_folder_is_one_line(pairs: Path, tmp_path: Path, file: str, spoil, line: str, capsys) -> None:
    run = make_run(tmp_path / "run")
    spoil(pairs / file)
    assert cli.main(["evaluate", str(run), str(pairs), "--baseline", "false"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("dseg evaluate: ") and line in error
    assert not (run / "evaluation").exists()


def test_data_that_is_nothing_is_one_line(tmp_path: Path, capsys) -> None:
    run = make_run(tmp_path / "run")
    assert cli.main(["evaluate", str(run), str(tmp_path / "nowhere")]) == 1
    assert "nowhere: is not a folder. Give recorded frames" in capsys.readouterr().err


def test_folder_of_pairs_end_to_end(pairs: Path, tmp_path: Path, capsys) -> None:
    run = make_run(tmp_path / "run")
    assert cli.main(["evaluate", str(run), str(pairs), "--baseline-seeds", "1"]) == 0
    printed = capsys.readouterr().out
    assert "matched on 1 drive, scored on the other 1" in printed and "no rows on labelled pixels" in printed
    scores = scores_for_report(run, pairs)
    assert scores is not None and {c.row for c in scores.cells} == {TEACHER, STUDENT, CELLS, BASELINE}


def test_split_keeps_fitting_and_scoring_apart(world: Path, tmp_path: Path) -> None:
    train, test = (open_truth(world / split / "frames") for split in ("train", "test"))
    halves = split_data(test, None)
    assert (halves.fit_drives, halves.scored_drives) == (("test_0",), ("test_1",)) and halves.apart
    other = split_data(test, train)
    assert other.fit is train and other.scored_drives == test.drives and other.apart
    make_drive(tmp_path, "alone", (0,))
    alone = split_data(open_truth(tmp_path / "frames"), None)
    assert not alone.apart and "MATCHED ON THE SCORED IMAGES" in alone.notes[0]
    assert not split_data(test, test).apart


def test_labels_of_other_clusters_are_refused(world: Path, tmp_path: Path) -> None:
    make_drive(tmp_path, "other", (0,))
    ClassTable.of_clusters(7).write(tmp_path / "frames" / "labels" / "default" / "classes.yaml")
    with pytest.raises(DsegError, match=r"have 8 classes, those of .* have 4\. Label both with the same clusters"):
        split_data(open_truth(tmp_path / "frames"), open_truth(world / "train" / "frames"))


def test_supervised_rows_are_not_matched() -> None:
    counts = np.array([[5, 3, 0], [2, 9, 0], [4, 0, 8], [0, 0, 0]])
    row = Row(CAPACITY, 3, TRUTH, supervised=True)
    found = conventions(
        row, groupings(TRUTH, EvaluateOptions())["as is", False], TRUTH, counts[:, :2], counts[:, :2], "pixels"
    )
    assert list(found) == [ONE_TO_ONE]
    # What it calls sky stands for no scored class: an error, not a match.
    assert found[ONE_TO_ONE].iou.tolist() == [5 / 14, 9 / 14]


class OneView:
    """A data set of one image: all road, labelled on its left half as clusters 1 and 2."""

    path, classes, drives, label_classes, notes = Path(), TRUTH, ("drive",), ClassTable.of_clusters(2), ()

    def count(self, drive: str) -> int:
        return 1

    def views(self, drive: str) -> Iterator[TruthView]:
        truth = np.zeros((2, 8), np.uint8)
        truth[1, :2] = 255  # not scored
        labels = np.tile(np.repeat([1, 2, 255, 255], 2), (2, 1)).astype(np.uint8)
        yield TruthView("view", np.zeros((2, 8, 3), np.uint8), truth, labels)


def test_labelled_pixels_are_the_same_for_every_row_and_labels_are_scored_on_no_others() -> None:
    everywhere = Predictor((Row("x", 3),), lambda view: {"x#0": np.full(view.truth.shape, 2, np.uint8)})
    assert OneView.label_classes is not None
    counts = tally(OneView(), ("drive",), [labels_predictor(OneView.label_classes), everywhere], "count")
    assert {key: table[:, 0].tolist() for key, table in counts.items()} == {
        ("x#0", ALL): [0, 0, 14, 0],
        ("x#0", LABELLED): [0, 0, 6, 0],
        (f"{LABELS}#0", LABELLED): [0, 2, 4, 0],
    }


def test_capacity_learns_from_the_fitting_images_alone(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def learn(run: Path, data: TruthData, drives: tuple[str, ...], out: Path) -> Predictor:
        seen.append((data.path, drives))
        return Predictor((), lambda view: {})

    monkeypatch.setattr("dseg_core.evaluation.evaluate.capacity_predictor", learn)
    fit = world / "train" / "frames"
    options = EvaluateOptions(fit_on=fit, capacity=True, baseline=False)
    evaluate([make_run(tmp_path / "run", 0)], world / "test" / "frames", options)
    assert seen == [(fit, FrameStore(fit).drives)]


def test_deviation_is_the_samples() -> None:
    assert Spread.of([0.1, 0.3]).percent() == "20.0 ± 14.1" and Spread.of([0.1]).percent() == "10.0"


def test_mapping_is_fitted_elsewhere() -> None:
    """The fitting split says cluster 0 is a car; the scored one would say road. The former counts."""
    row = Row("x", 2)
    fit = np.array([[0, 9, 0], [9, 0, 0], [0, 0, 0]])
    scored = np.array([[8, 2, 0], [1, 7, 0], [0, 0, 0]])
    options = EvaluateOptions()
    cells = score_rows([row], {(row.key, ALL): fit}, {(row.key, ALL): scored}, TRUTH, options)
    cell = find(cells, "x", ALL, "as is", False, ONE_TO_ONE)
    assert cell.iou == {"road": pytest.approx(1 / 16), "car": pytest.approx(2 / 17)}


def test_named_clusters_are_also_scored_by_name() -> None:
    named = ClassTable.of_names(["ground", "sky", "car"], [(0, 0, 0)] * 3)
    grouping = groupings(TRUTH, EvaluateOptions())["merged", True]
    counts = np.array([[9, 0, 0], [0, 0, 5], [0, 6, 0], [0, 0, 0]])
    found = conventions(Row("x", 3, named), grouping, TRUTH, counts[[1, 2, 0, 3]], counts, "pixels")
    assert found[NAMED].miou == 1 and found[ONE_TO_ONE].miou == 0
    assert NAMED not in conventions(Row("x", 3, ClassTable.of_clusters(2)), grouping, TRUTH, counts, counts, "pixels")


def test_best_seed_of_the_baseline_is_shown() -> None:
    rows = [Row(BASELINE, 1, seed=seed) for seed in (0, 1)]
    tallies = {(row.key, ALL): np.array([[5 + row.seed, 5, 0], [0, 0, 0]]) for row in rows}
    cells = score_rows(rows, tallies, tallies, TRUTH, EvaluateOptions())
    assert find(cells, BASELINE, ALL, "as is", False, ONE_TO_ONE).iou["road"] == pytest.approx(6 / 11)


@pytest.fixture(scope="module")
def evaluated(world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("runs")
    runs = [make_run(root / f"run_{seed}", seed) for seed in (0, 1)]
    options = EvaluateOptions(fit_on=world / "train" / "frames", capacity=True)
    evaluate(runs, world / "test" / "frames", options)
    return runs[0], runs[1]


def test_ladder_end_to_end(evaluated: tuple[Path, Path], world: Path) -> None:
    data = world / "test" / "frames"
    folder = evaluated[0] / "evaluation" / "frames"
    scores = scores_for_report(evaluated[0], data)
    assert scores is not None and scores.images == {"fitted on": 4, "scored": 4}
    expected = {(row, pixels) for row in (TEACHER, STUDENT, CELLS, BASELINE, CAPACITY) for pixels in (LABELLED, ALL)}
    assert {(c.row, c.pixels) for c in scores.cells} == {*expected, (LABELS, LABELLED)}
    # The labels are the truth but for a quarter of the car, which is left over one-to-one and comes back many-to-one.
    for ground, name in (("merged", "ground"), ("as is", "road")):
        strict = find(scores.cells, LABELS, LABELLED, ground, False, ONE_TO_ONE)
        assert strict.iou == {name: 1.0, "car": pytest.approx(0.75)}
        assert find(scores.cells, LABELS, LABELLED, ground, False, MANY_TO_ONE).miou == 1
    # Three flat colours are easy for the baseline but for its window, which blurs borders of this small image.
    assert find(scores.cells, BASELINE, ALL, "as is", True, MANY_TO_ONE).miou > 0.65
    assert cv2.imread(str(scores.confusion)).shape[0] > 200
    summary = json.loads((folder / "summary.json").read_text())
    pixels = 4 * HEIGHT * WIDTH
    assert np.sum(summary["results"]["counts"][f"{STUDENT}#0 {ALL}"]) == pixels
    assert (folder / "report.txt").read_text().startswith("mIoU %, ground merged, sky ignored")
    assert summary["text"] in (folder / "report.txt").read_text()
    assert (folder / "capacity" / "capacity.safetensors").is_file()


def test_several_runs_give_mean_and_deviation(evaluated: tuple[Path, Path], world: Path) -> None:
    (found,) = (evaluated[0] / "evaluation" / "frames").glob("combined_*/summary.json")
    combined = json.loads(found.read_text())
    key = {"row": STUDENT, "pixels": ALL, "ground": "merged", "sky": False, "convention": ONE_TO_ONE}
    (row,) = [r for r in combined["results"]["rows"] if key.items() <= r.items()]
    single = [find(scores_for_report(run, world / "test" / "frames").cells, *key.values()).miou for run in evaluated]
    assert row["runs"] == 2
    assert row["miou"] == pytest.approx(np.mean(single))
    assert row["miou_deviation"] == pytest.approx(abs(single[0] - single[1]) / np.sqrt(2))
    assert "±" in combined["text"]


def test_scores_are_kept_until_something_changes(evaluated: tuple[Path, Path], world: Path) -> None:
    run, options = evaluated[1], EvaluateOptions(fit_on=world / "train" / "frames", capacity=True)
    summary = run / "evaluation" / "frames" / "summary.json"
    before = summary.stat().st_mtime_ns
    again = evaluate([run], world / "test" / "frames", options)
    assert summary.stat().st_mtime_ns == before and "they were kept" in again.text
    torch.manual_seed(99)
    save_network(run, "student", build_network(NetworkOptions(height=32, width=64, channels=8), 4).state_dict())
    assert "they were kept" not in evaluate([run], world / "test" / "frames", options).text
    assert summary.stat().st_mtime_ns != before


def test_capacity_never_learns_from_scored_images(tmp_path: Path) -> None:
    make_drive(tmp_path, "alone", (0,))
    run = make_run(tmp_path / "run")
    with pytest.raises(DsegError, match="capacity row would learn from the images it is scored on"):
        evaluate([run], tmp_path / "frames", EvaluateOptions(capacity=True, baseline=False))


def test_tables_are_aligned() -> None:
    cells = [
        Cell(row, ALL, "merged", False, ONE_TO_ONE, 0.5, 0.9, {"ground": 0.7, "car": None}) for row in ("teacher",)
    ]
    lines = [line for line in score_tables(Board([cells, cells])).splitlines() if "  " in line.strip()]
    assert "50.0 ± 0.0" in lines[1] and "absent" in lines[-1]
    assert len({len(line) for line in lines[:2]}) == 1


def test_the_headline_is_a_small_table_and_notes_have_lines_of_their_own(
    evaluated: tuple[Path, Path], world: Path
) -> None:
    options = EvaluateOptions(fit_on=world / "train" / "frames", capacity=True)
    text = evaluate([evaluated[0]], world / "test" / "frames", options).text
    lines = text.splitlines()
    assert max(map(len, lines[:8])) <= 80 and len(lines) < 16
    for row, found in ((LABELS, (LABELLED,)), (STUDENT, (LABELLED, ALL))):
        (line,) = [line for line in lines if line.startswith(f"  {row}")]
        cells = [
            find(scores_for_report(evaluated[0], world / "test" / "frames").cells, row, p, "merged", False, ONE_TO_ONE)
            for p in found
        ]
        assert line.removeprefix(f"  {row}").split() == [
            *(f"{100 * cell.miou:.1f}" for cell in cells),
            *["-"] * (2 - len(found)),
        ]
    assert any(line.startswith("Note: LiDAR never labels sky") for line in lines)


def test_truth_of_a_simulated_drive_has_its_images_stamps(tmp_path: Path) -> None:
    """Every image of a simulated bag finds its truth under its camera's name and stamp."""
    options = SimulateOptions(sweeps=2, width=96, height=48, beams=16, columns=180, cameras=(0.0, 40.0), samples=1)
    simulate(tmp_path / "bag", options)
    with BagReader(tmp_path / "bag") as reader:
        images = {
            (camera_name(message.topic), stamp_ns(message.data))
            for message in reader.messages()
            if message.topic.startswith("/camera/") and message.topic.endswith("/image_raw")
        }
    truth = _bag_truth(tmp_path / "bag")
    assert len(images) == 4 and set(truth) == images
    classes = ClassTable.read(tmp_path / "bag" / "truth_classes.yaml")
    for packed in truth.values():
        mask = packed.unpack()
        assert mask.shape == (48, 96) and mask.max() < len(classes)


def test_data_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Scores of another folder `frames`, of networks that were trained anew, or broken ones are nobody's."""
    run = tmp_path / "run"
    one, other = tmp_path / "monday" / "frames", tmp_path / "tuesday" / "frames"
    folder = evaluation_folder(run, one)
    assert folder == run / "evaluation" / "frames"
    results = {"data": str(one), "rows": [], "notes": [], "counts": {}, "classes": [], "network": network_print(run)}
    Summary("", results).write(folder, "evaluate", EvaluateOptions())
    assert evaluation_folder(run, one) == folder
    assert evaluation_folder(run, other) == run / "evaluation" / "frames_2"
    assert results_for_report(run, one) == results and results_for_report(run, other) is None
    (run / "student.safetensors").write_bytes(b"trained anew")
    assert results_for_report(run, one) is None
    (folder / "summary.json").write_text("{")
    assert evaluation_folder(run, one) == folder and done_before(folder, "") is None
    with pytest.raises(DsegError, match=r"summary.json: cannot be read"):
        results_for_report(run, one)
