"""Floor 3: all that runs on the device. Importing it loads no engine, no torch, no onnx, no typer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..artifact import Artifact, RunConfig
from ..errors import BadInput
from .classifier import Classifier, Guess
from .session import Session

__all__ = ["Classifier", "Guess", "Session", "default_run", "load"]

_DEFAULT_BACKEND = {
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "pt2": "torch",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt_rtx",
    "null": "null",
}


def default_run(artifact: Artifact) -> RunConfig:
    """The manifest's own RunConfig, else the engine that its format belongs to.

    Raises:
        BadInput: the format belongs to no engine of ours, and the manifest names none.
    """
    if artifact.manifest.run is not None:
        return artifact.manifest.run
    form = artifact.manifest.format
    if form not in _DEFAULT_BACKEND:
        raise BadInput(f"{artifact.folder}: unknown format {form!r}", f"one of {', '.join(_DEFAULT_BACKEND)}")
    backend = _DEFAULT_BACKEND[form]
    return RunConfig(backend, device="gpu" if backend.startswith("tensorrt") else "cpu")


def load(artifact: Artifact | str | Path, run: RunConfig | str | None = None) -> Session:
    """Open an artifact on an engine.

    Args:
        artifact: an Artifact, or its folder.
        run: a RunConfig, a backend word, or None for `default_run`.

    Raises:
        BadArtifact: the folder is no artifact, or its bytes changed.
        EngineMissing, EngineFailed: as the backend says.
    """
    if not isinstance(artifact, Artifact):
        artifact = Artifact.load(artifact)
    if isinstance(run, str):
        run = dataclasses.replace(default_run(artifact), backend=run)
    return Session(artifact, run or default_run(artifact))
