"""ONNX Runtime's optimized graph, kept between processes: opening it takes no optimization.

One file: a line that says what it is and the content's CRC-32, then the model. A file that says anything else, was cut
or has another sum is made again. Its optimizations belong to one CPU: the key holds all that they depend on.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ... import machine
from ...artifact import Artifact, RunConfig
from ...artifact.files import replace_files


class OptimizedModel:
    """Where the optimized graph of an artifact lies.

    Args:
        folder: of the cache; made where there is none.
        version, provider: ONNX Runtime's.
    """

    def __init__(self, folder: str, artifact: Artifact, run: RunConfig, version: str, provider: str) -> None:
        about = [artifact.digest, version, provider, run.graph_level, machine.cpu_model(), sorted(machine.cpu_flags())]
        self._key = hashlib.sha256(json.dumps(about).encode()).hexdigest()
        self.path = Path(folder) / f"onnxruntime-{self._key[:32]}.onnx"

    def read(self) -> bytes | None:
        """The model, or None where there is none, or not the one that was written."""
        try:
            head, _, model = self.path.read_bytes().partition(b"\n")
        except OSError:
            return None
        return model if head == self._head(model) else None

    def write(self, optimize: Callable[[Path], Any]) -> Any:
        """Keep what `optimize` writes to the file that it is given; hand on what it answers.

        Raises:
            OSError: the folder cannot be written.
        """
        import tempfile

        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".onnxruntime-", dir=self.path.parent) as draft:
            target = Path(draft) / "model.onnx"
            made = optimize(target)
            model = target.read_bytes()
        replace_files({self.path: self._head(model) + b"\n" + model})
        return made

    def _head(self, model: bytes) -> bytes:
        return f"tiffin {self._key} {zlib.crc32(model):08x}".encode()
