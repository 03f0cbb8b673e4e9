"""TensorRT and TensorRT-RTX, which are one Python interface: what versions of it differ in is here.

| library      | versions     | types computed in                  | state                                          |
|--------------|--------------|------------------------------------|------------------------------------------------|
| TensorRT     | 8.6          | FP16, INT8 allowed as in the model | unverified: names checked in 8.6.1's binding   |
| TensorRT     | 10.3 to 10.x | as in the model (strongly typed)   | unverified: names checked in 10.3's and 10.13's |
| TensorRT     | 11           | as in the model (strongly typed)   | unverified: names checked in 11.4's            |
| TensorRT-RTX | 1.7          | as in the model (strongly typed)   | built and read back without a GPU; not run     |

Only tensors with names are used (`num_io_tensors`, `set_tensor_address`, `execute_async_v3`), which all of these have.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
from typing import Any

from dseg_core.errors import DsegError

LIBRARIES = ("tensorrt", "tensorrt_rtx")
LOG = logging.getLogger("dseg.engine")

_OLDEST = (8, 6)


def installed(name: str) -> bool:
    """Whether a library can be found; it is not loaded, which takes a second."""
    return importlib.util.find_spec(name) is not None


class TensorRt:
    """One of the libraries, loaded.

    Args:
        name: One of `LIBRARIES`.
        verbose: Log what it says of its work, not only what is wrong.

    Attributes:
        name: As given.
        version: As in "10.3.0".
        module: Its Python module.
        logger: For its objects; one for all of a process, `verbose` as it was asked for last.

    Raises:
        DsegError: It is not installed, does not load, or is too old.
    """

    def __init__(self, name: str, verbose: bool = False) -> None:
        fix = f"`pip install 'dseg_ros[{name}]'`" + (", or JetPack's package" if name == "tensorrt" else "")
        try:
            self.module: Any = importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing = "is not installed" if error.name == name else f"lacks {error.name}"
            raise DsegError(missing, where=name, fix=fix) from None
        except (ImportError, OSError, RuntimeError) as error:
            raise DsegError(f"does not load: {' '.join(str(error).split())}", where=name, fix=fix) from None
        self.name, self.version = name, str(self.module.__version__)
        if name == "tensorrt" and self._number() < _OLDEST:
            raise DsegError(f"{self.version} is too old", where=name, fix="8.6 is the oldest that works")
        self.logger = _logger(self.module)
        self.logger.verbose = verbose

    @property
    def strongly_typed(self) -> bool:
        """Whether networks compute in exactly the types that the model says."""
        flags = self.module.NetworkDefinitionCreationFlag
        return hasattr(flags, "STRONGLY_TYPED") or not hasattr(flags, "EXPLICIT_BATCH")

    def network_flags(self) -> int:
        """Of `create_network`: strong types where they can be had."""
        flags = self.module.NetworkDefinitionCreationFlag
        for name in ("STRONGLY_TYPED", "EXPLICIT_BATCH"):  # the second: until TensorRT 9
            if hasattr(flags, name):
                return 1 << int(getattr(flags, name))
        return 0

    def capabilities(self) -> tuple[str, ...]:
        """What GPUs engines can be built for by name, as in "8.9"; none where only for the one that is there."""
        known = getattr(self.module, "ComputeCapability", None)
        numbers = [name[2:] for name in dir(known) if name.startswith("SM")]
        return tuple(f"{number[:-1]}.{number[-1]}" for number in sorted(numbers, key=int))

    def words(self) -> str:
        """The errors since the last call, in one line."""
        found, self.logger.errors = self.logger.errors, []
        return "; ".join(found[:2]) or "it does not say why"

    def _number(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split(".")[:2] if part.isdigit())


@functools.cache
def _logger(module: Any) -> Any:
    """One for the whole process: the library keeps a bare pointer to the first that it is given, and takes no other."""
    severity = module.ILogger.Severity
    levels = {severity.INTERNAL_ERROR: logging.ERROR, severity.ERROR: logging.ERROR, severity.WARNING: logging.INFO}

    class Logger(module.ILogger):  # type: ignore[misc]  # of a library that is not typed
        """Keeps errors for the message that says what failed."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.errors: list[str] = []
            self.verbose = False

        def log(self, level: Any, text: str) -> None:
            """Called by the library, from any of its threads."""
            if levels.get(level) == logging.ERROR:
                self.errors.append(" ".join(text.split()))
            if self.verbose:
                LOG.log(levels.get(level, logging.INFO), "%s: %s", module.__name__, text)

    return Logger()
