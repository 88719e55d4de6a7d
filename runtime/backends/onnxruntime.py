"""ONNX Runtime: CPU by default, CUDA where its build has it. A provider that falls back is an error."""

from __future__ import annotations

import dataclasses

import numpy as np

from ...artifact import Artifact, RunConfig
from ...errors import BadInput, EngineFailed, EngineMissing
from ...machine import usable_cores
from . import Applied, Feeds, Probe, accept, deliver, installed

ENGINE = "onnxruntime"
FORMATS = ("onnx",)
_INSTALL = 'pip install "tiffin[onnxruntime]"'
_PROVIDERS = {"cpu": "CPUExecutionProvider", "gpu": "CUDAExecutionProvider"}


def probe(name: str = "onnxruntime") -> Probe:
    """Version and devices of the installed build."""
    if not installed("onnxruntime"):
        return Probe(name, FORMATS, ("cpu", "cpu-vnni"), reason="not installed", install=_INSTALL)
    import onnxruntime

    have = onnxruntime.get_available_providers()
    devices = tuple(word for word, provider in _PROVIDERS.items() if provider in have)
    # CPU kernels exist for fp32 and int8; fp16 graphs run through casts.
    return Probe(name, FORMATS, ("cpu", "cpu-vnni"), onnxruntime.__version__, devices, ("fp32", "int8"))


class OnnxRuntimeLane:
    """One InferenceSession, fed by name."""

    def __init__(self, artifact: Artifact, run: RunConfig) -> None:
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise EngineMissing("backend onnxruntime is not installed", "onnxruntime", _INSTALL) from error
        ort.disable_telemetry_events()
        provider, provider_options = _provider(run)
        if provider not in ort.get_available_providers():
            raise EngineMissing(
                f"onnxruntime {ort.__version__} has no {provider}",
                f"one of {', '.join(ort.get_available_providers())}",
                "install the build for this device, or use device cpu",
            )
        if run.execution_precision != "fp32":
            raise BadInput(
                f"onnxruntime cannot compute a float32 graph in {run.execution_precision}",
                "execution precision fp32",
                "make a typed graph: `tiffin quantize ARTIFACT --precision fp16`",
            )
        options, threads = _session_options(ort, run)
        # Reading the file here keeps a truncated model's error apart from the engine's own.
        try:
            self._session = ort.InferenceSession(
                artifact.model_path.read_bytes(), options, providers=[(provider, provider_options)]
            )
        except Exception as error:  # onnxruntime raises a family of pybind types without a common root
            raise EngineFailed(
                f"onnxruntime cannot load {artifact.model_path}: {_first_line(error)}", "a model that it supports"
            ) from error
        if self._session.get_providers()[0] != provider:
            raise EngineFailed(f"onnxruntime fell back to {self._session.get_providers()[0]}", provider)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._provider = provider
        self.applied = Applied(
            # It has neither a hint nor a compiled cache.
            dataclasses.replace(run, threads=threads, hint="latency", cache=None),
            ort.__version__,
            {"execution_provider": provider},
        )

    def run(self, feeds: Feeds, out: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Run once."""
        try:
            results = self._session.run(self._outputs, feeds)
        except Exception as error:
            raise EngineFailed(f"onnxruntime failed: {_first_line(error)}") from error
        return deliver(dict(zip(self._outputs, results, strict=True)), out)

    def close(self) -> None:
        """Drop the session."""
        self._session = None


def _provider(run: RunConfig) -> tuple[str, dict[str, str]]:
    kind, _, index = run.device.partition(":")
    if kind not in _PROVIDERS:
        raise BadInput(f"onnxruntime has no device {run.device!r}", "cpu, gpu or gpu:K")
    return _PROVIDERS[kind], {"device_id": index or "0"} if kind == "gpu" else {}


def _session_options(ort, run: RunConfig):  # type: ignore[no-untyped-def]
    options = ort.SessionOptions()
    threads = run.threads or usable_cores()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if run.graph_level == "all" else level.ORT_DISABLE_ALL
    return options, threads


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def open(artifact: Artifact, run: RunConfig) -> OnnxRuntimeLane:  # noqa: A001
    """Open one lane.

    Raises:
        EngineMissing: onnxruntime or its provider is absent.
        EngineFailed: the model does not load.
    """
    accept(artifact, FORMATS, "onnxruntime")
    return OnnxRuntimeLane(artifact, run)
