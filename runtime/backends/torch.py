"""PyTorch: runs a `.pt2` program that travels in the artifact; no architecture code is needed."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np

from ...artifact import Artifact, RunConfig
from ...errors import BadInput, EngineFailed, EngineMissing, first_line
from . import (
    Applied,
    Feeds,
    Probe,
    accept,
    deliver,
    engine_module,
    installed,
    refuse_priority,
    require_own_threads,
    threads_of_a_lane,
)

ENGINE = "torch"
FORMATS = ("pt2",)
_INSTALL = 'pip install "tiffin[torch]"'


def probe(name: str = "torch") -> Probe:
    """Version and devices of the installed build."""
    if not installed("torch"):
        return Probe(name, FORMATS, reason="not installed", install=_INSTALL)
    import torch

    devices = ("cpu", "gpu") if torch.cuda.is_available() else ("cpu",)
    return Probe(name, FORMATS, torch.__version__, devices, ("fp32",))


class TorchLane:
    """One exported program, eager."""

    def __init__(self, artifact: Artifact, run: RunConfig) -> None:
        torch = engine_module("torch", _INSTALL)
        if run.execution_precision != "fp32":
            raise BadInput("the torch backend computes in fp32 only", "execution precision fp32")
        if run.device != "cpu" and not torch.cuda.is_available():
            raise EngineMissing(f"torch sees no device {run.device}", "cpu")
        refuse_priority(run)
        run = require_own_threads(run)
        threads = threads_of_a_lane(run)
        self._torch, self._threads = torch, threads
        self._device = torch.device(run.device.replace("gpu", "cuda"))
        try:
            self._module = torch.export.load(artifact.model_path).module().to(self._device)
        except Exception as error:
            raise EngineFailed(f"torch cannot load {artifact.model_path}: {error}", "a .pt2 program") from error
        self._inputs = [spec.name for spec in artifact.manifest.inputs]
        self._outputs = [spec.name for spec in artifact.manifest.outputs]
        applied = dataclasses.replace(run, threads=threads, hint="latency", graph_level="none", cache=None)
        self.applied = Applied(applied, torch.__version__, {"mode": "eager"})

    def run(self, feeds: Feeds, out: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Run once, without gradients."""
        torch = self._torch
        torch.set_num_threads(self._threads)  # the process's: another session may have set its own
        with torch.inference_mode():
            try:
                # Torch warns of read-only arrays, such as Pillow's: those are copied.
                arrays = [np.require(feeds[name], requirements=["C", "W"]) for name in self._inputs]
                tensors = [torch.from_numpy(array).to(self._device) for array in arrays]
                results = self._module(*tensors)
            except Exception as error:  # a shape outside the exported range is an AssertionError
                raise EngineFailed(f"torch failed: {first_line(error)}") from error
        results = results if isinstance(results, (tuple, list)) else (results,)
        found = [_apart(result.cpu().numpy(), arrays) for result in results]
        return deliver(dict(zip(self._outputs, found, strict=True)), out)

    def another(self) -> TorchLane:
        """One more lane over the same module."""
        return copy.copy(self)

    def close(self) -> None:
        """Drop the module."""
        self._module = None


def _apart(result: np.ndarray, feeds: list[np.ndarray]) -> np.ndarray:
    """A copy where a program hands on what it was fed, or a part of it: that is the caller's."""
    return result.copy() if any(np.may_share_memory(result, fed) for fed in feeds) else result


def open(artifact: Artifact, run: RunConfig) -> TorchLane:  # noqa: A001
    """Open one lane.

    Raises:
        EngineMissing: torch is absent.
        EngineFailed: the program does not load.
    """
    accept(artifact, FORMATS, "torch")
    return TorchLane(artifact, run)
