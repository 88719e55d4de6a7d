"""One source for TensorRT 10, TensorRT 11 and TensorRT-RTX: what each of them has is asked here, and nowhere else.

Their Python API is one; what differs was read from the real bindings of TensorRT 10.3 (JetPack 6), 10.13 and 11.4 and
of TensorRT-RTX 1.7, and a test reads it again. TensorRT 11 and RTX take strongly typed networks only.
"""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from ...artifact.files import replace_files
from ...errors import EngineMissing
from . import engine_module, installed

MODULES = {"tensorrt": ("tensorrt",), "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
INSTALL = {
    "tensorrt": 'pip install "tiffin[tensorrt]"',
    "tensorrt_rtx": 'pip install "tiffin[tensorrt-rtx]"',
}

Sink = Callable[[str, str], None]  # severity such as "ERROR", and a line
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Library:
    """An installed library and what it can do.

    Args:
        name: backend word, "tensorrt" or "tensorrt_rtx".
        module: its Python module.
    """

    name: str
    module: ModuleType

    @property
    def version(self) -> str:
        """Such as "10.3.0"."""
        return str(self.module.__version__)

    def has(self, path: str) -> bool:
        """Whether it has a class or a member, such as "BuilderFlag.INT8"."""
        found: Any = self.module
        for part in path.split("."):
            found = getattr(found, part, None)
        return found is not None

    @property
    def is_rtx(self) -> bool:
        """TensorRT-RTX: compiles for the GPU when the engine is loaded, so nothing is timed while building."""
        return self.name == "tensorrt_rtx"

    @property
    def keeps_timings(self) -> bool:
        """Timing caches matter; in TensorRT-RTX they are deprecated and do nothing."""
        return not self.is_rtx

    @property
    def implicit_int8(self) -> bool:
        """Untyped networks with int8 by calibration cache: TensorRT 10, the only int8 that a DLA takes."""
        return self.has("IInt8EntropyCalibrator2") and self.has("BuilderFlag.INT8")

    @property
    def builds_for_others(self) -> bool:
        """Engines for GPUs that are not in this machine."""
        return self.has("ComputeCapability")

    @cached_property
    def capabilities(self) -> dict[str, Any]:
        """Compute capability such as "8.9" → what the builder calls it; empty where it builds for this GPU alone."""
        known = getattr(self.module, "ComputeCapability", None)
        names = [name for name in dir(known) if name.startswith("SM")] if known else []
        return {f"{name[2:-1]}.{name[-1]}": getattr(known, name) for name in names}

    def logger(self, sink: Sink) -> Any:
        """An ILogger that hands every line on, so that nothing is printed."""
        base = self.module.ILogger

        class Logger(base):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                base.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                sink(severity.name, message)

        return Logger()

    def typed_network_flags(self) -> int:
        """Flags of a strongly typed network."""
        return 1 << int(self.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def library(name: str) -> Library:
    """Import a backend word's library.

    Raises:
        EngineMissing: it is not installed, or it is and cannot be imported.
    """
    for module in MODULES[name]:
        if installed(module):
            return Library(name, engine_module(module, INSTALL[name]))
    raise EngineMissing(f"backend {name} is not installed", " or ".join(MODULES[name]), INSTALL[name])


def this_platform() -> str:
    """Operating system and architecture, such as "linux-x86_64"."""
    return f"{sys.platform}-{platform.machine().lower()}"


def keep(path: Path, content: bytes, what: str) -> bool:
    """Write a cache, whole or not at all; one that cannot be written is only logged, for the work is done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_files({path: content})
    except OSError as error:
        _LOG.warning("%s are not kept in %s: %s", what, path, error)
        return False
    return True
