"""Libraries that only some ways of splitting a sweep need, and that are installed apart."""

from __future__ import annotations

import importlib
from typing import Any

from dseg_core.errors import DsegError
from dseg_core.stage_options import ProposalOptions


def hdbscan() -> Any:
    """The module. Raises DsegError where it cannot be imported."""
    return _package("hdbscan", "method hdbscan")


def pypatchworkpp() -> Any:
    """The module. Raises DsegError where it cannot be imported."""
    return _package("pypatchworkpp", "ground patchwork")


def check_packages(options: ProposalOptions) -> None:
    """See that what the options ask for is there, before anything takes long. Raises DsegError."""
    if options.method == "hdbscan":
        hdbscan()
    if options.ground == "patchwork":
        pypatchworkpp()


def _package(name: str, option: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == name
        why = "which is not installed" if missing else f"which cannot be imported: {error}"
        what = f"--proposals.{option} needs the package {name}, {why}"
        raise DsegError(what, fix=f"pip install 'dseg_ros[{option.split()[1]}]'") from None
