"""TensorRT and TensorRT-RTX: engines compiled by `tiffin compile`. One file serves both; their API is one.

Building needs no GPU with TensorRT-RTX; running needs a GPU and its driver. Running was not verified on the machines
that this project was built on (none has a GPU): docs/tensorrt.md says what was.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np

from ...artifact import Artifact, RunConfig
from ...errors import BadArtifact, BadInput, EngineFailed, EngineMissing
from . import Applied, Feeds, Probe, accept, deliver, installed
from ._cuda import DeviceBuffer, check, compute_capability, driver_problem

_MODULES = {"tensorrt": ("tensorrt",), "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
_INSTALL = {
    "tensorrt": 'pip install "tiffin[tensorrt]"',
    "tensorrt_rtx": 'pip install "tiffin[tensorrt-rtx]"',
}


def engine_module(name: str) -> ModuleType:
    """Import the engine's Python module.

    Raises:
        EngineMissing: it is not installed.
    """
    for module in _MODULES[name]:
        if installed(module):
            return importlib.import_module(module)
    raise EngineMissing(f"backend {name} is not installed", " or ".join(_MODULES[name]), _INSTALL[name])


def probe(name: str = "tensorrt") -> Probe:
    """Version, and what is missing: the package, the driver or the GPU."""
    try:
        version = engine_module(name).__version__
    except EngineMissing:
        return Probe(name, (name,), ("tensorrt",), reason="not installed", install=_INSTALL[name])
    problem = driver_problem()
    reason = f"{problem}; engines can be built here, not run" if problem else ""
    return Probe(
        name, (name,), ("tensorrt",), version, () if problem else ("gpu",), ("fp32", "fp16", "bf16", "int8"), reason
    )


class TensorRtLane:
    """One execution context, stream and set of device buffers."""

    def __init__(self, artifact: Artifact, run: RunConfig) -> None:
        trt = engine_module(run.backend)
        index = _gpu_index(run.device)
        problem = driver_problem()
        if problem:
            raise EngineMissing(
                f"backend {run.backend} cannot run: {problem}",
                "an NVIDIA GPU and its driver",
                "run it on such a machine",
            )
        _check_stamp(artifact, trt.__version__, compute_capability(index))
        self._cudart = _cudart(run.backend)
        check(self._cudart.cudaSetDevice(index))
        runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = runtime.deserialize_cuda_engine(artifact.model_path.read_bytes())
        if self._engine is None:
            raise EngineFailed(f"{run.backend} cannot read {artifact.model_path}", "an engine built for this GPU")
        self._context = self._engine.create_execution_context()
        self._stream = check(self._cudart.cudaStreamCreate())
        self._inputs = artifact.manifest.inputs
        self._outputs = artifact.manifest.outputs
        self._buffers = {spec.name: DeviceBuffer(self._cudart) for spec in (*self._inputs, *self._outputs)}
        self.applied = Applied(run, trt.__version__, {"compute_capability": compute_capability(index)})

    def run(self, feeds: Feeds, out: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Upload, run, download, wait."""
        for spec in self._inputs:
            array = np.ascontiguousarray(feeds[spec.name])
            if not self._context.set_input_shape(spec.name, array.shape):
                raise BadInput(
                    f"{spec.name} {array.shape} is outside the engine's profile", "a batch within its profile"
                )
            self._context.set_tensor_address(spec.name, self._buffers[spec.name].upload(array, self._stream))
        results = {}
        for spec in self._outputs:
            shape = tuple(self._context.get_tensor_shape(spec.name))
            array = results[spec.name] = np.empty(shape, spec.dtype)
            self._context.set_tensor_address(spec.name, self._buffers[spec.name].reserve(array.nbytes))
        if not self._context.execute_async_v3(int(self._stream)):
            raise EngineFailed("TensorRT failed to run the engine")
        for spec in self._outputs:
            self._buffers[spec.name].download(results[spec.name], self._stream)
        check(self._cudart.cudaStreamSynchronize(self._stream))
        return deliver(results, out)

    def close(self) -> None:
        """Free buffers and stream; a second call does nothing."""
        for buffer in self._buffers.values():
            buffer.free()
        if self._stream is not None:
            check(self._cudart.cudaStreamDestroy(self._stream))
        self._stream = self._context = self._engine = None


def _gpu_index(device: str) -> int:
    kind, _, index = device.partition(":")
    if kind != "gpu":
        raise BadInput(f"TensorRT has no device {device!r}", "gpu or gpu:K")
    return int(index or 0)


def _cudart(name: str) -> Any:
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise EngineMissing("cuda.bindings is not installed", "the package cuda-bindings", _INSTALL[name]) from error


def _check_stamp(artifact: Artifact, version: str, capability: str) -> None:
    """An engine moved to another version or GPU crashes inside TensorRT; compare before it is deserialized."""
    built = artifact.manifest.built_for
    if built.get("engine_version") != version:
        raise BadArtifact(
            f"{artifact.folder}: built by version {built.get('engine_version')}, installed is {version}",
            "the version that it was built by",
            f"compile it again on this machine: `tiffin compile ONNX_ARTIFACT --backend {artifact.manifest.format}`",
        )
    if capability not in built.get("compute_capabilities", ()):
        raise BadArtifact(
            f"{artifact.folder}: built for compute capability {', '.join(built.get('compute_capabilities', ()))}, "
            f"this GPU has {capability}",
            "an engine built for this GPU",
            f"compile it again: `tiffin compile ONNX_ARTIFACT --backend {artifact.manifest.format} "
            f"--capability {capability}`",
        )


def open(artifact: Artifact, run: RunConfig) -> TensorRtLane:  # noqa: A001
    """Open one lane.

    Raises:
        EngineMissing: TensorRT, the driver or the GPU is absent.
        BadArtifact: the engine was built by another version or for another GPU.
    """
    accept(artifact, (run.backend,), run.backend)
    return TensorRtLane(artifact, run)
