"""No engine: answers zeros at once. Measures the harness itself and serves tests."""

from __future__ import annotations

import dataclasses

import numpy as np

from ...artifact import Artifact, RunConfig
from . import Applied, Feeds, Probe, deliver


def probe(name: str = "null") -> Probe:
    """Runs everywhere."""
    return Probe(name, ("onnx", "openvino", "tensorrt", "tensorrt_rtx", "pt2", "null"), "1", ("cpu",), ("fp32",))


class NullLane:
    """Answers zeros of the outputs' shape."""

    def __init__(self, artifact: Artifact, run: RunConfig) -> None:
        self.applied = Applied(dataclasses.replace(run, threads=run.threads or 1), "1")
        self._input = artifact.manifest.inputs[0].name
        self._outputs = [(spec.name, np.dtype(spec.dtype), spec.shape) for spec in artifact.manifest.outputs]

    def run(self, feeds: Feeds, out: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Zeros, one row a photo."""
        count = feeds[self._input].shape[0]
        zeros = {
            name: np.zeros([count if size is None else size for size in shape], dtype)
            for name, dtype, shape in self._outputs
        }
        return deliver(zeros, out)

    def close(self) -> None:
        """Nothing to free."""


def open(artifact: Artifact, run: RunConfig) -> NullLane:  # noqa: A001
    """Open a lane that computes nothing."""
    return NullLane(artifact, run)
