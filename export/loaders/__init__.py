"""Where a trained classifier comes from: one string, one loader a kind (docs/sources.md).

Each file here that has `KIND`, `claims(text)` and `load(text, told)` is a loader (`source.Loader`); the first in
`LOADERS` that claims a string opens it. What it returns is a `Checkpoint` (a torch module) or an `OnnxClassifier`, with
labels and preprocessing from the source's own configuration, and what is `Told` in their place.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from ...artifact import Artifact
from ...artifact.store import is_artifact
from ...errors import BadInput, NotTold, command
from . import checkpoint_file, factory, huggingface, keras, onnx_file, program, timm, torchscript, torchvision
from .source import Loader, OnnxClassifier, Source
from .told import Told

__all__ = ["LOADERS", "OnnxClassifier", "Source", "Told", "is_source", "open_alone", "open_source", "reopened"]

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
        raise BadInput(f"{text}: a folder of transformers", "hf: before it", f"`{command('export', f'hf:{text}')}`")
    what = "no such file" if Path(text).suffix and not Path(text).exists() else "no source of a trained classifier"
    raise BadInput(f"{text}: {what}", _EXPECTED, "see docs/sources.md")


def open_alone(text: str) -> Source:
    """Open a source that says all of itself, where nothing can be told.

    Raises:
        BadInput: it does not, or cannot be opened.
    """
    try:
        return open_source(text)
    except NotTold as error:
        wanted = "a source that says all of itself: FILE.safetensors of tiffin, hf:, timm:, torchvision:"
        raise NotTold(error.what, wanted, "see docs/sources.md") from error


def reopened(artifact: Artifact, text: str) -> Source:
    """The source with torch code that an artifact was exported from. Its preprocessing need not be the artifact's.

    Raises:
        BadInput: it does not say all of itself, has no torch module, or is another than the manifest names.
    """
    found, wanted = open_alone(text), str(artifact.manifest.checkpoint)
    if found.module().sha256 != wanted:
        raise BadInput(
            f"{text}: sha256 {found.model.sha256[:12]}…, not what {artifact.folder} was made from",
            f"the weights {wanted[:12]}…",
        )
    return found
