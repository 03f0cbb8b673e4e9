"""What a user gives by mistake, through the command: one line that says what, where and how to mend it; exit status.

Wrong flags and their spelling are in test_cli.py; what of a damaged bag can be kept is in test_bag_damage.py.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bags
import pytest
from bag_kinds import mcap_file, split, write_metadata
from bags import START_NS, bag_rows, write_bag
from mcap.writer import Writer
from test_bag_damage import cut
from test_frames_from_bag import unreadable

from dseg_core.cli import main

BAGS = "Give rosbag2 folders, .mcap, .db3 or .bag files"
MAKE = "`dseg record BAG --out FRAMES` makes frames"
REMOVE = "Remove it and record its drive again"
WHY = "`dseg inspect BAG` tells why and what would help"
GIVE_YAML, MEND_YAML = "Give a YAML file that is there", "Mend it there, or give another"
ROWS_OF_YAML = "Write `name: value`, a line each"
TF = "Record /tf and /tf_static, or give --topics.calibration"
INFO = "Record images with their camera_info"
POINTS = "Record the LiDAR's points, as PointCloud2, Livox CustomMsg or VelodyneScan; its driver makes them of" \
         " packets, also from `ros2 bag play`"  # fmt: skip


def json_bag(path: Path) -> None:
    """An MCAP file of messages that are none of ROS."""
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        schema = writer.register_schema("foo", "jsonschema", b"{}")
        writer.add_message(writer.register_channel("/x", "json", schema), 1, b"{}", 1)
        writer.finish()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of bad inputs, and of a good bag and its frames. Rows below are run in it; they write to OUT only."""
    folder = tmp_path_factory.mktemp("bad")
    before = Path.cwd()
    os.chdir(folder)
    write_bag(Path("good"))
    assert main(["record", "good", "--out", "frames"]) == 0
    for name in ("note.txt", "hello.mcap", "hello.db3", "hello.bag", "new\nline.mcap"):
        Path(name).write_text("hello, this is no bag at all")
    for name in ("empty.mcap", "empty.db3", "empty.bag", "empty.mcap.zstd"):
        Path(name).touch()
    Path("empty").mkdir()
    Path("dir.mcap").mkdir()
    sqlite3.connect("other.db3").execute("CREATE TABLE x(a)").connection.close()
    Path("old.bag").write_bytes(b"#ROSBAG V1.2\n" + bytes(100))
    mcap_file(Path("nothing"), [])
    json_bag(Path("json.mcap"))
    early = [row for row in bag_rows(sweeps=(900,), images=(4, 900)) if row[0] != "/camera/camera_info"]
    cut(mcap_file(Path("early"), early, chunk=1 << 12), 0.2)
    split(Path("outside"), bag_rows(), 9)
    write_metadata(Path("outside"), ["../good/good_0.mcap"], bag_rows(), 9, "mcap")
    Path("gone").mkdir()
    write_metadata(Path("gone"), ["gone_0.mcap"], bag_rows(), 9, "mcap")
    for name in ("a", "b"):
        shutil.copytree("good", f"{name}/drive")
    rear = [("/rear/points", bags.cloud(START_NS), START_NS)]
    for name, rows in {
        "no_lidar": {"leave_out": ["/lidar/points"]},
        "no_info": {"leave_out": ["/camera/camera_info"]},
        "no_images": {"leave_out": ["/camera/image_raw"]},
        "no_tf": {"leave_out": ["/tf_static"]},
        "unreadable": {"image": unreadable},
        "far": {"images": (1000, 1100)},
        "two": {"more": rear},
        "zero": {"sweep": lambda _: bags.cloud(0)},
        "escape": {"more": [("/\x1b[2J/points", bags.cloud(START_NS), START_NS)]},
    }.items():
        write_bag(Path(name), **rows)  # type: ignore[arg-type]
    for name, text in {
        "list": "- 1",
        "broken": "a: [",
        "unknown": "evry: 3",
        "word": "every: x",
        "deep": "a: 1",
    }.items():
        Path(f"{name}.yaml").write_text(text)
    Path("latin.yaml").write_bytes(b"\xff")
    for name, size in (("cut", 0.5), ("none", 0.0)):
        shutil.copytree("frames", f"{name}_frames")
        cut(Path(f"{name}_frames/good_0.mcap"), size)
    shutil.copytree("good", "cut_bag")
    cut(Path("cut_bag/good_0.mcap"), 0.5)
    shutil.copytree("frames", "blob_frames")
    with Path("blob_frames/good_0.mcap").open("r+b") as file:
        file.seek(20_000)
        file.write(bytes(3000))
    yield folder
    os.chdir(before)


NO_BAG = [
    ("missing", f"missing: does not exist. {BAGS}"),
    ("note.txt", f"note.txt: is no bag. {BAGS}"),
    ("/dev/null", f"/dev/null: is no bag. {BAGS}"),
    ("empty.mcap", "empty.mcap: is empty. Record it again"),
    ("empty.db3", "empty.db3: is empty. Record it again"),
    ("empty.bag", "empty.bag: is empty. Record it again"),
    ("empty.mcap.zstd", "empty.mcap.zstd: is empty. Record it again"),
    ("hello.mcap", "hello.mcap: is no MCAP file. Record it again"),
    ("hello.bag", "hello.bag: is no ROS 1 bag. Record it again"),
    ("hello.db3", "hello.db3: cannot be read as a bag: file is not a database. `sqlite3 FILE .recover` saves more, then"
                  " `ros2 bag reindex`"),
    ("other.db3", "other.db3: cannot be read as a bag: it has no table of topics and messages. `sqlite3 FILE .recover`"
                  " saves more, then `ros2 bag reindex`"),
    ("old.bag", "old.bag: is a bag of an older format. Run `rosbag fix` on it"),
    ("new\nline.mcap", "new\\nline.mcap: is no MCAP file. Record it again"),
    ("outside", "outside: metadata.yaml names a file outside of the bag: ../good/good_0.mcap. Correct"
                " relative_file_paths"),
    ("gone", "gone: has no file of messages. Copy its files again"),
    ("frames", "frames: is a folder of frames that `dseg record` wrote. Give the bag itself"),
]  # fmt: skip
CUT = "early.mcap is cut off in its last chunk. `mcap recover` or `ros2 bag reindex` repairs it; " \
      "early.mcap has no end: its recorder was killed or the file was cut off. `mcap recover` or `ros2 bag reindex`" \
      " repairs it"  # fmt: skip
RECORD = [
    ("empty", f"empty: holds no bag. {BAGS}"),
    ("dir.mcap", f"dir.mcap: holds no bag. {BAGS}"),
    ("a b", "b/drive: has the same name as a/drive. Rename one: drives are called by their bags"),
    ("nothing.mcap", f"nothing.mcap: no PointCloud2 topic. {POINTS}"),
    ("json.mcap", "json.mcap: no PointCloud2 topic; /x is skipped, its type is foo: encoding 'json' is unknown."
                  f" {POINTS}"),
    ("early.mcap", f"early.mcap: no PointCloud2 topic; {CUT}. {POINTS}"),
    ("no_lidar", f"no_lidar: no PointCloud2 topic. {POINTS}"),
    ("no_info", "no_info: no calibrated camera: /camera/image_raw is left out: there is no /camera/camera_info."
                f" {INFO}"),
    ("no_images", f"no_images: no calibrated camera: no topic of images or video has messages. {INFO}"),
    ("no_tf", f"no_tf: no transform connects lidar and camera_optical; known frames: none at all. {TF}"),
    ("unreadable", "unreadable: gave no frame: camera 3 messages, 0 paired, dropped 3 (encoding '32FC1' cannot be"
                   f" read); lidar 3 messages, 0 paired, dropped 3 (no usable image). {WHY}"),
    ("far", "far: gave no frame: camera 2 messages, 0 paired, dropped 1 (too far), 1 (no sweep); lidar 3 messages, 0"
            f" paired, dropped 3 (too far). {WHY}"),
    ("zero", "zero: gave no frame: camera 3 messages, 0 paired, dropped 3 (no sweep); lidar 3 messages, 0 paired,"
             f" dropped 3 (header stamp is zero). {WHY}"),
    ("two", "two: several PointCloud2 topics: /lidar/points, /rear/points. Choose one with --topics.lidar"),
    ("good --topics.other-lidars /lidar/points",
     "good: /lidar/points is among the further LiDARs, and no cloud topic is left for the first. Leave one out of"
     " --topics.other-lidars"),
    ("escape", "escape: several PointCloud2 topics: /\\x1b[2J/points, /lidar/points. Choose one with --topics.lidar"),
    ("good --windows 100:200", "good: gave no frame: camera 3 messages, 0 paired, dropped 3 (outside the chosen times);"
                               f" lidar 3 messages, 0 paired, dropped 3 (outside the chosen times). {WHY}"),
    ("good --topics.lidar /nope", "good: no cloud topic /nope; there are: /lidar/points"),
    ("good --topics.cameras /lidar/points", "good: no image topic /lidar/points; there are: /camera/image_raw"),
    ("good --topics.calibration no.yaml", f"no.yaml: cannot be read: No such file or directory. {GIVE_YAML}"),
    ("good --topics.calibration list.yaml", f"list.yaml: holds list, not a mapping. {ROWS_OF_YAML}"),
    ("good --topics.calibration deep.yaml", "deep.yaml: has no list 'transforms'. Each is {parent: base_link, child:"
                                            " lidar, translation: [x, y, z], quaternion: [x, y, z, w]}"),
    ("good --pairing.offsets nope:1", "good: pairing.offsets = 'nope:1': no camera 'nope'; there are camera"),
    ("good --min-speed 3", "good: --min-distance and --min-speed need the vehicle's motion, and nothing moves lidar."
                           " Record /tf with odometry, or a nav_msgs/Odometry topic"),
    ("good --ego.masks camera:no.png", "no.png: cannot be read as an image: No such file or directory. Give a PNG as"
                                       " CAMERA:FILE.png"),
    ("good --ego.masks camera:note.txt", "note.txt: cannot be read as an image: it is none. Give a PNG as"
                                         " CAMERA:FILE.png"),
    ("good --ego.box -1,-1,-1,1,1,1 --ego.frame nope",
     f"good: no transform connects lidar and nope; known frames: base_link, camera_optical, lidar. {TF}"),
]  # fmt: skip
RECORD_OUT = [
    ("good --out good", "good: lies in the bag that is recorded. Give --out another folder"),
    ("good --out good/x", "good/x: lies in the bag that is recorded. Give --out another folder"),
    ("good --out .", ".: holds the bag good that is recorded. Give --out another folder"),
    ("good --out note.txt", "note.txt: is a file. Give another folder to write to"),
    ("good --out note.txt/x", "note.txt: is a file where a folder is needed. Give another place"),
    ("good --out a/drive", "a/drive: is a bag. Give another folder to write to"),
]
OPTIONS = [  # exit status 2
    ("record good --out OUT --windows 5", "windows = '5' must be START:END in seconds, with END later"),
    ("record good --out OUT --every 0", "every = 0 must be at least 1"),
    ("record good --out OUT --every x", "every = 'x' must be a whole number"),
    ("record two --out OUT --topics.lidar /rear/points --topics.other-lidars /rear/points",
     "topics.other_lidars = '/rear/points' is the topic of lidar already. Name the topics of further LiDARs, each once,"
     " or leave it out"),
    ("record two --out OUT --topics.lidar /lidar/points --topics.other-lidars /rear/points,/rear/points",
     "topics.other_lidars names '/rear/points' twice. Name the topics of further LiDARs, each once, or leave it out"),
    ("record good --out OUT --pairing.tolerance -0.1", "pairing.tolerance = -0.1 must be at least 0 s"),
    ("record good --out OUT --pairing.tolerance nan", "pairing.tolerance = nan: nan is not a number"),
    ("record good --out OUT --pairing.offsets camera", "pairing.offsets = 'camera' must be CAMERA:SECONDS"),
    ("record good --out OUT --store.image-format gif", "store.image_format = 'gif' must be one of jpeg, png"),
    ("record good --out OUT --ego.box -1,2",
     "ego.box = [-1.0, 2.0] must be six numbers: x, y, z of two opposite corners"),
    ("record good --out OUT --config word.yaml", "word.yaml: every = 'x' must be a whole number"),
    ("record good --out OUT --view true --workers 2",
     "view = true does not go with workers = 2. See the frames later with `dseg view`"),
    ("record good", "the following arguments are required: --out"),
    ("inspect", "the following arguments are required: bag"),
    ("inspect good --every 0", "every = 0 must be at least 1"),
    ("inspect good --json x", "json = 'x' must be true or false"),
    ("check frames --deep maybe", "deep = 'maybe' must be true or false"),
    ("check frames --least-share -1", "least_share = -1.0 must be at least 0 %"),
    ("export-frames frames --out OUT --format x", "format = 'x' must be one of cityscapes, webdataset"),
    ("export-frames frames --out OUT --val-share 2", "val_share = 2.0 must be at most 1"),
    ("view frames --save x.txt", "save = 'x.txt' must end in .rrd, as Rerun's files do"),
    ("view frames --every 0", "every = 0 must be at least 1"),
    ("view frames --connect x", "connect = 'x' must be like rerun+http://HOST:9876/proxy"),
]  # fmt: skip
CONFIGS = [
    ("no.yaml", f"no.yaml: cannot be read: No such file or directory. {GIVE_YAML}"),
    ("empty", f"empty: cannot be read: Is a directory. {GIVE_YAML}"),
    ("list.yaml", f"list.yaml: holds list, not a mapping. {ROWS_OF_YAML}"),
    ("latin.yaml", "latin.yaml: is not YAML: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte."
                   f" {MEND_YAML}"),
    ("broken.yaml", "broken.yaml: is not YAML: while parsing a flow node expected the node content, but found '<stream"
                    f" end>' in \"<unicode string>\", line 1, column 5: a: [ ^. {MEND_YAML}"),
]  # fmt: skip
FRAMES = [
    ("missing", f"missing: does not exist. {MAKE}"),
    ("note.txt", f"note.txt: is no folder of frames. {MAKE}"),
    ("hello.mcap", f"hello.mcap: is no folder of frames. {MAKE}"),
    ("/dev/null", f"/dev/null: is no folder of frames. {MAKE}"),
]
FRAMES_READ = [  # of export-frames and view alike
    *FRAMES,
    ("empty", f"empty: holds no frames. {MAKE}"),
    ("good", f"good/good_0.mcap: is no part of frames. {MAKE}"),
    ("none_frames", f"none_frames/good_0.mcap: is broken: EndOfFile. {REMOVE}"),
]
OTHERS = [
    *((f"check {frames}", message) for frames, message in FRAMES),
    ("check good", f"good: is no folder of frames. {MAKE}"),
    ("check cut_bag", f"cut_bag: is no folder of frames. {MAKE}"),
    ("check none_frames", "none_frames/good_0.mcap: is broken: EndOfFile. Remove the part and record its drive again"),
    *((f"export-frames {frames} --labels none --out OUT", message) for frames, message in FRAMES_READ),
    ("export-frames frames --out OUT",
     "frames/labels/default: there are no such labels. `dseg label FRAMES` makes them"),
    ("export-frames frames --labels none --out frames/x", "frames/x: lies in the frames. Give an --out beside them"),
    ("export-frames frames --labels none --out good", "good: holds something else. Give another --out"),
    ("export-frames frames --labels none --out note.txt", "note.txt: holds something else. Give another --out"),
    *((f"view {frames} --save OUT.rrd", message) for frames, message in FRAMES_READ),
    ("view blob_frames --save OUT.rrd", "blob_frames/good_0.mcap: is broken: LZ4F_decompress failed with code:"
                                        f" ERROR_decompressionFailed. {REMOVE}"),
    ("view frames --drive nope", "frames: has no drive 'nope'. It has good"),
    ("view frames --save note.txt/x.rrd", "note.txt: is a file where a folder is needed. Give another place"),
    ("inspect empty", f"empty: is no bag: it has no metadata.yaml and no files of messages. {BAGS}"),
    ("inspect no_lidar --out OUT", f"no PointCloud2 topic. {POINTS}"),
    ("inspect good --topics.lidar /nope --out OUT", "no cloud topic /nope; there are: /lidar/points"),
    ("inspect good --out note.txt/y", "note.txt: is a file where a folder is needed. Give another place"),
    ("inspect zero --out OUT", "lidar (/lidar/points): 3 of 3 messages cannot be used: header stamp is zero. Let"
                               " the driver set header.stamp"),
]  # fmt: skip
ROWS: list[tuple[str, int, str]] = [
    *((f"record {bag} --out OUT", 1, message) for bag, message in [*NO_BAG, *RECORD]),
    *((f"inspect {bag} --out OUT", 1, message) for bag, message in NO_BAG),
    *((f"record {arguments}", 1, message) for arguments, message in RECORD_OUT),
    *((f"record good --out OUT --config {file}", 1, message) for file, message in CONFIGS),
    ("record good --out OUT --config unknown.yaml", 2, "unknown.yaml: there is no option evry. Did you mean every? "
     "Options here: every, min_distance, min_speed, max_frames, windows, events, before, after, workers, threads, "
     "ray_address, view, topics, pairing, proposals, regions, ego, store."),
    *((arguments, 2, message) for arguments, message in OPTIONS),
    *((arguments, 1, message) for arguments, message in OTHERS),
]  # fmt: skip


@pytest.mark.parametrize(("line", "status", "message"), ROWS, ids=[row[0].replace("\n", " ") for row in ROWS])
def test_a_mistake_costs_one_line(
    place: Path, tmp_path: Path, line: str, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [word.replace("OUT", str(tmp_path / "out")) for word in line.split(" ")]
    before = sorted(place.rglob("*"))
    try:
        found = main(arguments)
    except SystemExit as stopped:
        found = int(stopped.code or 0)
    told = capsys.readouterr().err
    # Relative paths may have been made absolute; bars of progress end without a line of their own.
    told = told.replace(f"{place}/", "").rpartition("\r")[2]
    lines = [text for text in told.splitlines() if "%|" not in text and "msg/s" not in text]
    assert (found, lines) == (status, [f"dseg {arguments[0]}: {message}"])
    assert not list(tmp_path.glob("out*/*.mcap")), "nothing that looks like frames"
    assert arguments[0] != "record" or not list(tmp_path.iterdir()), "nor anything else that was made"
    assert sorted(place.rglob("*")) == before, "nothing is left behind"


SHELL = ("record note.txt --out OUT", "inspect missing --out OUT", "check good", "view good --save OUT.rrd",
         "export-frames good --labels none --out OUT")  # fmt: skip


@pytest.mark.parametrize("line", SHELL)
def test_the_same_from_a_shell(place: Path, tmp_path: Path, line: str) -> None:
    arguments = line.replace("OUT", str(tmp_path / "out")).split(" ")
    done = subprocess.run([sys.executable, "-m", "dseg_core.cli", *arguments], capture_output=True, text=True)
    (message,) = (row[2] for row in ROWS if row[0] == line)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"dseg {arguments[0]}: {message}\n")
