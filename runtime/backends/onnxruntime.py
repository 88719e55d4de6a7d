"""ONNX Runtime: CPU by default, CUDA where its build has it. A provider that falls back is an error."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ...artifact import Artifact, RunConfig
from ...errors import BadInput, EngineFailed, EngineMissing, first_line
from . import Applied, Feeds, Probe, accept, deliver, engine_module, installed, refuse_priority, threads_of_a_lane
from ._kept import KeptModel

ENGINE = "onnxruntime"
FORMATS = ("onnx",)
_INSTALL = 'pip install "tiffin[onnxruntime]"'
_PROVIDERS = {"cpu": "CPUExecutionProvider", "gpu": "CUDAExecutionProvider"}


def probe(name: str = "onnxruntime") -> Probe:
    """Version and devices of the installed build."""
    if not installed("onnxruntime"):
        return Probe(name, FORMATS, reason="not installed", install=_INSTALL)
    import onnxruntime

    have = onnxruntime.get_available_providers()
    devices = tuple(word for word, provider in _PROVIDERS.items() if provider in have)
    # CPU kernels exist for fp32 and int8; fp16 graphs run through casts.
    return Probe(name, FORMATS, onnxruntime.__version__, devices, ("fp32", "int8"))


class OnnxRuntimeLane:
    """An InferenceSession, fed by name. Lanes share one: its `run` may be called from several threads."""

    def __init__(self, artifact: Artifact, run: RunConfig) -> None:
        other = ", or take the one that is here: --backend openvino" if installed("openvino") else ""
        ort = engine_module("onnxruntime", _INSTALL + other)
        ort.disable_telemetry_events()
        provider = _require_able(ort, run)
        options, threads = _session_options(ort, run)
        self._session, cached = _opened(ort, artifact, run, options, provider)
        if self._session.get_providers()[0] != provider[0]:
            raise EngineFailed(f"onnxruntime fell back to {self._session.get_providers()[0]}", provider[0])
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.applied = Applied(
            # It has no hint.
            dataclasses.replace(run, threads=threads, hint="latency", cache=run.cache if cached[:3] != "off" else None),
            ort.__version__,
            {"execution_provider": provider[0], **({"cache": cached} if cached else {})},
        )

    def run(self, feeds: Feeds, out: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Run once."""
        try:
            results = self._session.run(self._outputs, feeds)
        except Exception as error:
            raise EngineFailed(f"onnxruntime failed: {first_line(error)}") from error
        return deliver(dict(zip(self._outputs, results, strict=True)), out)

    def another(self) -> OnnxRuntimeLane:
        """One more lane over the same session."""
        return copy.copy(self)

    def close(self) -> None:
        """Drop the session."""
        self._session = None


def _require_able(ort, run: RunConfig) -> tuple[str, dict[str, str]]:  # type: ignore[no-untyped-def]
    """The provider with its options.

    Raises:
        EngineMissing: this build has none for the device.
        BadInput: the run asks for what it does not do.
    """
    provider, options = _provider(run)
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
    refuse_priority(run)
    return provider, options


def _opened(ort, artifact: Artifact, run: RunConfig, options, provider) -> tuple[Any, str]:  # type: ignore[no-untyped-def]
    """The session, and what became of the cache: "read", "written", "off: " and why; "" where none was asked for."""
    if not run.cache or run.graph_level == "none":
        why = "off: nothing is optimized at graph level none" if run.cache else ""
        return _load(ort, artifact, artifact.model_path.read_bytes(), options, provider), why
    about = [artifact.digest, ort.__version__, provider[0], run.graph_level]
    kept = KeptModel(run.cache, "onnxruntime", about)
    model = kept.read()
    if model is not None:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return _load(ort, artifact, model, options, provider), "read"
    try:
        session, optimized = _optimized(ort, artifact, options, provider, kept.folder())
        kept.write(optimized)
    except (OSError, EngineFailed) as error:  # a full disk or a read-only folder stops no answer
        options.optimized_model_filepath = ""
        session = _load(ort, artifact, artifact.model_path.read_bytes(), options, provider)
        return session, f"off: cannot be written ({error})"
    return session, "written"


def _optimized(ort, artifact: Artifact, options, provider, folder: Path) -> tuple[Any, bytes]:  # type: ignore[no-untyped-def]
    """A session and the optimized model that it runs, which ONNX Runtime hands out as a file alone."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix=".onnxruntime-", dir=folder) as draft:
        target = Path(draft) / "model.onnx"
        options.optimized_model_filepath = str(target)
        session = _load(ort, artifact, artifact.model_path.read_bytes(), options, provider)
        return session, target.read_bytes()


def _load(ort, artifact: Artifact, model: bytes, options, provider):  # type: ignore[no-untyped-def]
    # Bytes: a truncated file's error is kept apart from the engine's own.
    try:
        return ort.InferenceSession(model, options, providers=[provider])
    except Exception as error:  # onnxruntime raises a family of pybind types without a common root
        raise EngineFailed(
            f"onnxruntime cannot load {artifact.model_path}: {first_line(error)}", "a model that it supports"
        ) from error


def _provider(run: RunConfig) -> tuple[str, dict[str, str]]:
    kind, _, index = run.device.partition(":")
    if kind not in _PROVIDERS:
        raise BadInput(f"onnxruntime has no device {run.device!r}", "cpu, gpu or gpu:K")
    return _PROVIDERS[kind], {"device_id": index or "0"} if kind == "gpu" else {}


def _session_options(ort, run: RunConfig):  # type: ignore[no-untyped-def]
    options = ort.SessionOptions()
    threads = threads_of_a_lane(run)
    # A caller computes too: what the lanes share is their helpers.
    options.intra_op_num_threads = run.lanes * (threads - 1) + 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if run.graph_level == "all" else level.ORT_DISABLE_ALL
    return options, threads


def open(artifact: Artifact, run: RunConfig) -> OnnxRuntimeLane:  # noqa: A001
    """Open one lane.

    Raises:
        EngineMissing: onnxruntime or its provider is absent.
        EngineFailed: the model does not load.
    """
    accept(artifact, FORMATS, "onnxruntime")
    return OnnxRuntimeLane(artifact, run)
