"""Packaging for colcon (ament_python) and pip alike."""

from pathlib import Path

from setuptools import find_packages, setup

# `colcon build --symlink-install` runs a link to this file from its build folder.
ROOT = Path(__file__).resolve().parent
PACKAGE = "dseg_ros"
SHARE = f"share/{PACKAGE}"

# On the car: what `record` and the live nodes need. The rest is for the desk.
CORE = [
    "av",
    "lz4",
    "mcap",
    "numba",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "pillow",
    "pyyaml",
    "rosbags",
    "scipy",
    "tqdm",
    "typing_extensions",
    "zstandard",
]
EXTRAS = {
    "simulate": ["open3d"],
    "train": [
        "faiss-cpu",
        "lightning-fabric",
        "matplotlib",
        "ml_dtypes",
        "onnx",
        "onnxscript",
        "safetensors",
        "tensorboard",
        "timm",
        "torch",
        "torchvision",
    ],
    # CUDA 13; for a driver of CUDA 12 add "cuda-python<13" and take tensorrt-cu12, or tensorrt-rtx-cu12.
    "tensorrt": ["cuda-python", "tensorrt>=8.6"],
    "tensorrt_rtx": ["cuda-python", "tensorrt-rtx"],
    "ray": ["ray"],  # recording many bags on a cluster
    "view": ["rerun-sdk>=0.39"],  # the last one for Python 3.10
    "velodyne": ["velodyne-decoder"],
    "hdbscan": ["hdbscan"],  # --proposals.method hdbscan
    "patchwork": ["pypatchworkpp"],  # --proposals.ground patchwork
    "ros": ["ros-jazzy-rclpy", "ros-jazzy-rmw-fastrtps-cpp", "ros-jazzy-common-interfaces"],
    "test": [
        "cityscapesscripts",
        "cuda-python; sys_platform == 'linux'",
        "hdbscan",
        "hypothesis",
        "mypy",
        "pypatchworkpp",
        "pytest",
        "pytest-xdist",
        "ray",
        "ruff",
        "scikit-learn",
        "tensorrt-rtx; sys_platform == 'linux' and platform_machine == 'x86_64'",  # builds engines without a GPU
        "types-PyYAML",
        "webdataset",
    ],
}
EXTRAS["all"] = sorted({name for extra in ("simulate", "train", "velodyne", "view") for name in EXTRAS[extra]})


def files(pattern: str) -> list[str]:
    """Files of the source tree, relative to it."""
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))


setup(
    name=PACKAGE,
    version="0.1.0",
    description="Semantic segmentation of urban scenes, learned from rosbags without manual labels",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    maintainer="The dseg developers",
    maintainer_email="dseg@users.noreply.github.com",
    python_requires=">=3.10",
    packages=find_packages(include=["dseg_core", "dseg_core.*", "dseg_ros", "dseg_ros.*"]),
    package_data={"dseg_core": ["py.typed"]},
    install_requires=CORE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["dseg = dseg_core.cli:main"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (SHARE, ["package.xml"]),
        (f"{SHARE}/launch", files("launch/*.launch.xml")),
        *((f"{SHARE}/{folder}", files(f"{folder}/*.*")) for folder in ("config", "config/dds", "config/systemd")),
        # `ros2 run dseg_ros NAME` looks only here, and pip has no other way to put a file there.
        (f"lib/{PACKAGE}", files("resource/executables/*")),
    ],
    zip_safe=False,
)
