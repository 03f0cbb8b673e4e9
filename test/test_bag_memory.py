"""Memory does not grow with a bag's length."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bag_kinds import Row, humble_db3, mcap_file, rosbag1_file, split
from bags import MS, START_NS

from dseg_core import messages as ros

READ = """
import resource, sys
from pathlib import Path
from dseg_core.bag import BagReader
with BagReader(Path(sys.argv[1])) as reader:
    marks = []
    for number, message in enumerate(reader.messages()):
        if number in (300, 2990):
            marks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(number + 1, *marks)
"""


@pytest.mark.parametrize("kind", ["mcap", "sqlite3", "rosbag1", "split", "cut"])
def test_memory_is_flat_over_3000_sweeps(tmp_path: Path, kind: str) -> None:
    data = {axis: np.arange(2000, dtype=np.float32) for axis in "xyz"}  # 24 kB a sweep, 72 MB in all
    rows: list[Row] = []
    for n in range(3000):
        stamp = START_NS + n * 100 * MS
        rows.append(("/points", ros.cloud_to_message(stamp, "lidar", data), stamp))
    make = {"mcap": mcap_file, "sqlite3": humble_db3, "rosbag1": rosbag1_file, "cut": mcap_file}
    path = split(tmp_path / "drive", rows, 9) if kind == "split" else make[kind](tmp_path / "drive", rows)
    if kind == "cut":
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 10_000)
    found = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True).stdout
    count, early, late = map(int, found.split())
    assert count >= 2990 and late - early < 10_000  # KiB
