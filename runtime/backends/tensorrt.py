"""TensorRT and TensorRT-RTX: engines compiled by `tiffin compile`. One file serves both; their API is one.

Building needs no GPU with TensorRT-RTX; running needs a GPU and its driver. docs/tensorrt.md says what was verified
with one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...artifact import Artifact, RunConfig, TensorSpec
from ...errors import BadInput, EngineFailed, EngineMissing
from .. import device_array
from . import Applied, Feeds, Probe, _cuda, _trt, accept, deliver, installed, refuse_priority
from ._cuda import Gpu, gpu_index
from ._trt_engine import shared_engine
from ._trt_execution import Execution
from ._trt_plan import Key


def probe(name: str = "tensorrt") -> Probe:
    """Version, and what is missing: the package, the driver or the GPU."""
    if not any(map(installed, _trt.MODULES[name])):
        return Probe(name, (name,), reason="not installed", install=_trt.INSTALL[name])
    version = _trt.library(name).version
    problem = _cuda.driver_problem()
    reason = f"{problem}; engines can be built here, not run" if problem else ""
    devices = () if problem else ("gpu",)
    return Probe(name, (name,), version, devices, ("fp32", "fp16", "bf16", "int8"), reason)


class TensorRtLane:
    """One stream with its execution contexts, buffers and CUDA graphs; lanes of a process share the engine.

    Feeds may hold arrays that lie on this lane's GPU.
    """

    takes_device_arrays = True

    def __init__(self, artifact: Artifact, run: RunConfig) -> None:
        library = _trt.library(run.backend)
        self._gpu = _gpu(run)
        self._manifest, self._run = artifact.manifest, run
        self._lock = threading.Lock()  # two threads in one session would silently share the pinned buffers
        with self._gpu.current():
            self._engine: Any = shared_engine(artifact, library, self._gpu, run.cache)
            self._execution = Execution(self._engine, self._gpu, artifact.manifest.inputs, artifact.manifest.outputs)
        self._profiles = _Profiles(artifact, self._engine.stamp.profiles)
        self.batches = tuple((least, most) for least, _, most in self._engine.stamp.profiles)
        self._applied: Applied | None = None

    @property
    def applied(self) -> Applied:
        """What took effect until now; sizes are in bytes, as free device memory told."""
        if self._applied is not None:
            return self._applied
        engine, execution = self._engine, self._execution
        with self._lock:  # a call in another thread changes them
            details = {
                "compute_capability": engine.capability,
                "gpu": engine.device,
                "cuda_graph": _graphs_said(execution),
                "device_bytes_engine": str(engine.size_bytes),
                "device_bytes_lane": str(execution.size_bytes),
                "device_bytes_scratch": str(engine.scratch_bytes),
            }
        # The calling thread waits for the GPU.
        return Applied(dataclasses.replace(self._run, threads=1, hint="latency"), engine.library.version, details)

    def run(self, feeds: Feeds, out: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Upload, run, download, wait."""
        profile = self._profiles.of(feeds)
        with self._lock, self._gpu.current():
            key, host, _owners = self._located(feeds)
            results = self._execution.run(profile, key, host)
            return deliver({name: view.copy() for name, view in results.items()} if out is None else results, out)

    def device_ns(self, feeds: Feeds) -> int:
        """Nanoseconds of the kernels of one run alone, by CUDA events."""
        profile = self._profiles.of(feeds)
        with self._lock, self._gpu.current():
            key, host, _owners = self._located(feeds)
            return self._execution.kernels_ns(profile, key, host)

    def close(self) -> None:
        """Free buffers, graphs and stream, and with the last lane the engine; a second call does nothing."""
        if self._engine is None:
            return
        self._applied = self.applied
        with self._lock, contextlib.suppress(EngineFailed), self._gpu.current():
            self._execution.close()
            self._engine.kernels.keep()
            self._engine = None
        self._engine = None

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # also of a lane that was never opened, and when Python ends
            self.close()

    def _located(self, feeds: Feeds) -> tuple[Key, Mapping[str, np.ndarray], list[object]]:
        """Where each input lies, those on the host, and what keeps the others alive."""
        places: list[tuple[tuple[int, ...], int]] = []
        owners: list[object] = []
        for spec in self._manifest.inputs:
            array = feeds[spec.name]
            if isinstance(array, np.ndarray):
                places.append((array.shape, 0))
            else:
                found = device_array.read(array, self._execution.stream)
                self._require_here(spec, found)
                if found.stream is not None:
                    self._execution.wait_for(found.stream)
                places.append((found.shape, found.address))
                owners.append(found.owner)
        return tuple(places), feeds, owners

    def _require_here(self, spec: TensorSpec, array: device_array.DeviceArray) -> None:
        try:
            on_device, gpu = self._gpu.memory_of(array.address)
        except EngineFailed as error:  # an address that CUDA does not know
            raise BadInput(f"{spec.name} lies at no address of a GPU: {error.what}", "device memory") from error
        if not on_device or gpu != self._gpu.index:
            where = f"on GPU {gpu}" if on_device else "in host memory"
            raise BadInput(f"{spec.name} lies {where}, this session runs on GPU {self._gpu.index}",
                           f"an array on GPU {self._gpu.index}, or a numpy array")  # fmt: skip


class _Profiles:
    """Which optimization profile takes a batch; engines of a fixed batch have none to choose from."""

    def __init__(self, artifact: Artifact, profiles: Sequence[tuple[int, int, int]]) -> None:
        self._artifact, self._profiles = artifact, tuple(profiles)
        inputs = artifact.manifest.inputs
        self._input = next((spec.name for spec in inputs if spec.shape and spec.shape[0] is None), None)
        self._known: dict[int, int] = {}

    def of(self, feeds: Feeds) -> int:
        """Index of the one that holds the batch, with the nearest optimum.

        Raises:
            BadInput: none holds it.
        """
        if self._input is None or not self._profiles:
            return 0
        array = feeds[self._input]
        batch = (array if isinstance(array, np.ndarray) else device_array.read(array)).shape[0]
        if batch not in self._known:
            self._known[batch] = self._nearest(batch)
        return self._known[batch]

    def _nearest(self, batch: int) -> int:
        holding = [(abs(best - batch), index) for index, (least, best, most) in enumerate(self._profiles)
                   if least <= batch <= most]  # fmt: skip
        if not holding:
            known = ", ".join(f"{least} to {most}" for least, _, most in self._profiles)
            low, high = min(batch, self._profiles[0][0]), max(batch, self._profiles[0][2])
            raise BadInput(f"a batch of {batch}; {self._artifact.folder} takes {known}", "a batch within a profile",
                           f"compile for it: `tiffin compile ONNX_ARTIFACT --backend {self._artifact.manifest.format} "
                           f"--batch {low}:{batch}:{high}`")  # fmt: skip
        return min(holding)[1]


def _graphs_said(execution: Execution) -> str:
    if execution.no_graphs:
        return f"off: {execution.no_graphs}"
    count = execution.graphs
    return f"on: {count} recorded" if count else "on: recorded at the second call of each shape"


def _gpu(run: RunConfig) -> Gpu:
    """The GPU that a run names.

    Raises:
        BadInput: it names none, or wants what was decided when the engine was built.
        EngineMissing: no driver, one that is too old, or no such GPU.
    """
    index = gpu_index(run.device)
    if (run.execution_precision, run.graph_level) != ("fp32", "all"):
        raise BadInput(f"an engine asked to run in {run.execution_precision}, graph level {run.graph_level}",
                       "fp32 and all: it runs as it was compiled",
                       "compile a graph of its own: `tiffin quantize FP32_ARTIFACT --precision fp16`")  # fmt: skip
    refuse_priority(run)
    problem = _cuda.driver_problem()
    if problem:
        raise EngineMissing(f"backend {run.backend} cannot run: {problem}", "an NVIDIA GPU and its driver",
                            "run it on such a machine")  # fmt: skip
    return Gpu(_cuda.cuda_runtime(), index)


def open(artifact: Artifact, run: RunConfig) -> TensorRtLane:  # noqa: A001
    """Open one lane.

    Raises:
        EngineMissing: TensorRT, the driver or the GPU is absent.
        BadArtifact: the engine was built for another version, GPU or platform.
        EngineFailed: TensorRT cannot read it, or the GPU has no memory for it.
    """
    accept(artifact, (run.backend,), run.backend)
    return TensorRtLane(artifact, run)
