"""What an artifact was made from, as far as it is found: in folders beside it, or by exporting its checkpoint anew."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...artifact import Artifact
from ...artifact.engine_stamp import LIBRARIES
from ...artifact.files import sha256_file
from ...artifact.lineage import neighbours, source_of
from ...artifact.store import is_artifact

if TYPE_CHECKING:  # torch
    from ...export.loaders import Source

_SHIPPED = Path(__file__).parents[2] / "train" / "weights"
NO_CHECKPOINT = "no checkpoint of it is found: name it with --checkpoint"


class Lineage:
    """An artifact's ancestors.

    Args:
        artifact: the one that is explained.
        checkpoint: the source that it was exported from (docs/sources.md); None looks for a torch program beside the
            artifact and for a shipped checkpoint of the digest that its manifest names.
        work: folder for what is exported anew.

    Raises:
        BadInput: the source cannot be opened, or is not what the artifact was exported from.
    """

    def __init__(self, artifact: Artifact, checkpoint: str | None, work: Path) -> None:
        self.artifact, self._work = artifact, work
        self._named = checkpoint or self._shipped()
        if checkpoint:
            _ = self.source  # where torch is, another one is refused before anything is answered

    def _shipped(self) -> str | None:
        wanted = self.artifact.manifest.checkpoint
        return next((str(path) for path in sorted(_SHIPPED.glob("*.safetensors")) if sha256_file(path) == wanted), None)

    @cached_property
    def _around(self) -> dict[str, Artifact]:
        return {other.digest: other for other in neighbours(self.artifact)}

    def ancestors(self) -> Iterator[Artifact]:
        """From its parent on, as long as each is found."""
        seen, found = {self.artifact.digest}, self._around.get(self.artifact.manifest.parent or "")
        while found is not None and found.digest not in seen:
            seen.add(found.digest)
            yield found
            found = self._around.get(found.manifest.parent or "")

    @cached_property
    def graph(self) -> Artifact | None:
        """The artifact as an ONNX model: itself, an engine's source, or the model that it was compiled from."""
        artifact = self.artifact
        if artifact.manifest.format == "onnx":
            return artifact
        if artifact.manifest.format in LIBRARIES:
            return source_of(artifact)
        same = (each for each in self.ancestors() if each.manifest.precision == artifact.manifest.precision)
        return next((each for each in same if each.manifest.format == "onnx"), None)

    @cached_property
    def fp32(self) -> Artifact | None:
        """The nearest fp32 ONNX model, the artifact itself included."""
        known = [self.graph] if self.graph else []
        return next((each for each in (*known, *self.ancestors()) if _is_fp32_onnx(each)), None)

    def trusted(self, photos: np.ndarray) -> Artifact | None:
        """An fp32 ONNX model above the artifact's own graph; else its checkpoint's, exported anew; None without.

        Args:
            photos: uint8 `(N, H, W, 3)`, as the checkpoint takes them, for the export's proof of parity.
        """
        own = self.graph.digest if self.graph else ""
        above = (each for each in self.ancestors() if _is_fp32_onnx(each) and each.digest != own)
        return next(above, None) or self._exported(photos)

    def _exported(self, photos: np.ndarray) -> Artifact | None:
        if self.source is None or find_spec("onnxscript") is None:
            return None
        folder = self._work / f"onnx-{self.source.key[:12]}"
        if is_artifact(folder):
            return Artifact.load(folder)
        host = self.source.model.preprocess
        if photos.shape[1:] != (host.height, host.width, 3):
            return None
        from ...export.from_source import export_source

        return export_source(self.source, folder, photos)[0]

    @cached_property
    def source(self) -> Source | None:
        """The trained classifier; None where it is not found or torch is absent."""
        if self._named is None or find_spec("torch") is None:
            return None
        from ...export.loaders import reopened

        return reopened(self.artifact, self._named)

    def program(self) -> tuple[Artifact | None, str]:
        """The checkpoint as a torch program, or why there is none."""
        mine = self.artifact.manifest.checkpoint
        for other in self._around.values():
            if other.manifest.format == "pt2" and mine and other.manifest.checkpoint == mine:
                return other, ""
        if self._named is None:
            return None, NO_CHECKPOINT
        if self.source is None:
            return None, 'torch is not installed: pip install "tiffin[build]"'
        folder = self._work / f"torch-{self.source.key[:12]}"
        if is_artifact(folder):
            return Artifact.load(folder), ""
        from ...export.from_source import program_of

        return program_of(self.source, folder), ""


def _is_fp32_onnx(artifact: Artifact) -> bool:
    return artifact.manifest.format == "onnx" and artifact.manifest.precision == "fp32"
