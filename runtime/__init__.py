"""Floor 3: all that runs on the device. Importing it loads no engine, no torch, no onnx, no typer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..artifact import Artifact, RunConfig
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
    """The manifest's own RunConfig, else the engine that its format belongs to."""
    backend = _DEFAULT_BACKEND[artifact.manifest.format]
    device = "gpu" if backend.startswith("tensorrt") else "cpu"
    return artifact.manifest.run or RunConfig(backend, device=device)


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
