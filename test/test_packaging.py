"""What pip installs and what package.xml, setup.py and the README promise."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
            (source / name).chmod((ROOT / name).stat().st_mode)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", folder, source]
    subprocess.run(command, check=True)
    return zipfile.ZipFile(next(folder.glob("dseg_ros-*.whl")))


def test_executables_are_where_ros2_run_looks(wheel: zipfile.ZipFile) -> None:
    launchers = [i for i in wheel.infolist() if ".data/data/lib/dseg_ros/" in i.filename]
    assert [Path(i.filename).name for i in launchers] == sorted(
        p.name for p in (ROOT / "resource/executables").iterdir()
    )
    assert all(i.external_attr >> 16 & stat.S_IXUSR for i in launchers)


def test_ament_finds_the_package(wheel: zipfile.ZipFile) -> None:
    names = {n.partition(".data/data/")[2] for n in wheel.namelist()}
    assert "share/ament_index/resource_index/packages/dseg_ros" in names
    assert "share/dseg_ros/package.xml" in names
    files = [path for folder in ("config", "launch") for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert {f"share/dseg_ros/{path.relative_to(ROOT)}" for path in files} <= names


def test_every_module_is_packed(wheel: zipfile.ZipFile) -> None:
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "dseg_core").rglob("*.py")}
    assert modules <= set(wheel.namelist())
    assert not [n for n in wheel.namelist() if n.startswith("test")]


def test_package_xml_agrees_with_setup_py(wheel: zipfile.ZipFile) -> None:
    package = ET.parse(ROOT / "package.xml").getroot()  # noqa: S314
    metadata = wheel.read(next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))).decode()
    assert package.get("format") == "3"
    assert re.search(r"^Name: (\S+)$", metadata, re.M).group(1).replace("-", "_") == package.findtext("name")  # type: ignore[union-attr]
    assert re.search(r"^Version: (\S+)$", metadata, re.M).group(1) == package.findtext("version")  # type: ignore[union-attr]
    assert package.findtext("export/build_type") == "ament_python"


def test_every_import_is_declared() -> None:
    """Each third-party module that the product imports is installed by one of setup.py's extras, or is ROS's."""
    declared = {
        "cv2": "opencv-python-headless",
        "yaml": "pyyaml",
        "PIL": "pillow",
        "lightning_fabric": "lightning-fabric",
        "faiss": "faiss-cpu",
        "rclpy": "ros-jazzy-rclpy",
        "rerun": "rerun-sdk>=0.39",
        "velodyne_decoder": "velodyne-decoder",
    }
    setup = (ROOT / "setup.py").read_text()
    ros = {element.text for element in ET.parse(ROOT / "package.xml").getroot().findall("exec_depend")}  # noqa: S314
    pattern = re.compile(r"^\s*(?:from|import) ([a-zA-Z_]\w*)", re.M)
    for path in [*(ROOT / "dseg_core").rglob("*.py"), *(ROOT / "dseg_ros").rglob("*.py")]:
        source = re.sub(r'"""[\s\S]*?"""', "", path.read_text())
        for name in pattern.findall(source):
            if name in sys.stdlib_module_names or name in ("dseg_core", "dseg_ros"):
                continue
            known = f'"{declared.get(name, name)}"' in setup or (path.parent.name == "dseg_ros" and name in ros)
            assert known, f"{path.relative_to(ROOT)} imports {name}"
