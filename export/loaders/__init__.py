"""Where a trained classifier comes from: one string, one loader a kind (docs/sources.md).

Each file here that has `KIND`, `claims(text)` and `load(text, told)` is a loader (`source.Loader`); the first in
`LOADERS` that claims a string opens it. What it returns is a `Checkpoint` (a torch module) or an `OnnxClassifier`, with
labels and preprocessing from the source's own configuration, and what is `Told` in their place.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from ...artifact import Artifact
from ...artifact.store import is_artifact
from ...errors import BadInput
from . import checkpoint_file, factory, huggingface, keras, onnx_file, program, timm, torchscript, torchvision
from .source import Loader, OnnxClassifier, Source
from .told import Told

if TYPE_CHECKING:
    from ...train import Checkpoint

__all__ = ["LOADERS", "OnnxClassifier", "Source", "Told", "is_source", "module_of", "open_source"]

LOADERS = cast(
    "tuple[Loader, ...]",
    (huggingface, timm, torchvision, checkpoint_file, program, torchscript, onnx_file, keras, factory),
)
_EXPECTED = (
    "FILE.safetensors, package.module:factory, hf:FOLDER, timm:NAME, torchvision:NAME, FILE.pt2, FILE.pt, FILE.onnx, "
    "FILE.keras, FILE.h5, FILE.tflite or a SavedModel's folder"
)


def is_source(text: str) -> bool:
    """True if a loader knows the string, or can tell how it should be written; an artifact's folder is no source."""
    known = any(loader.claims(text) for loader in LOADERS) or (Path(text) / "config.json").is_file()
    return known and not is_artifact(text)


def open_source(text: str, told: Told | None = None) -> Source:
    """Open a trained classifier.

    Raises:
        BadInput: no loader knows the string, or what it names cannot be used.
        EngineMissing: a library that it needs is not installed here.
    """
    for loader in LOADERS:
        if loader.claims(text):
            return loader.load(text, told or Told())
    if (Path(text) / "config.json").is_file():
        raise BadInput(f"{text}: a folder of transformers", "hf: before it", f"`tiffin export hf:{text}`")
    what = "no such file" if Path(text).suffix and not Path(text).exists() else "no source of a trained classifier"
    raise BadInput(f"{text}: {what}", _EXPECTED, "see docs/sources.md")


def module_of(artifact: Artifact, text: str) -> Checkpoint:
    """The torch module that an artifact was exported from.

    Args:
        text: a source that says all of itself. Its preprocessing is its own, which need not be the artifact's.

    Raises:
        BadInput: it cannot be opened by its name alone, has no torch module, or is another than the manifest names.
    """
    found, manifest = open_source(text).module(), artifact.manifest
    if manifest.checkpoint and found.sha256 != manifest.checkpoint:
        raise BadInput(
            f"{text}: sha256 {found.sha256[:12]}…, not what {artifact.folder} was made from",
            f"the weights {manifest.checkpoint[:12]}…",
        )
    return found
