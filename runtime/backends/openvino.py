"""OpenVINO: ONNX and IR on Intel and AMD CPUs, Intel GPUs and NPUs.

The execution precision is always set and read back: with no hint, OpenVINO computes a float32 model in bf16
wherever the CPU has AVX512-BF16 or AMX (2026.4.1, measured).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ...artifact import Artifact, RunConfig
from ...errors import BadInput, EngineFailed, EngineMissing
from ...machine import usable_cores
from . import Applied, Feeds, Probe, accept, deliver, installed

ENGINE = "openvino"
FORMATS = ("openvino", "onnx")
_INSTALL = 'pip install "tiffin[openvino]"'
_TYPE_WORDS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}
_CAPABILITIES = {"FP32": "fp32", "FP16": "fp16", "BF16": "bf16", "INT8": "int8"}


def probe(name: str = "openvino") -> Probe:
    """Version, devices, and the precisions that the CPU plugin names as its own."""
    if not installed("openvino"):
        return Probe(name, FORMATS, ("cpu", "cpu-vnni"), reason="not installed", install=_INSTALL)
    import openvino as ov

    core = ov.Core()
    devices = tuple(device.lower() for device in core.available_devices)
    told = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") if "cpu" in devices else []
    precisions = tuple(word for name, word in _CAPABILITIES.items() if name in told)
    return Probe(name, FORMATS, ("cpu", "cpu-vnni"), ov.__version__.split("-")[0], devices, precisions)


class OpenVinoLane:
    """One compiled model and one infer request."""

    def __init__(self, artifact: Artifact, run: RunConfig) -> None:
        try:
            import openvino as ov
        except ImportError as error:
            raise EngineMissing("backend openvino is not installed", "openvino", _INSTALL) from error
        core = ov.Core()
        device = run.device.upper().replace(":", ".")
        if device.split(".")[0] not in {name.split(".")[0] for name in core.available_devices}:
            raise EngineMissing(f"openvino sees no device {run.device}", f"one of {', '.join(core.available_devices)}")
        config = _config(ov, run)
        _refuse_unknown_precision(core, device, run)
        try:
            compiled = core.compile_model(str(artifact.model_path), device, config)
        except Exception as error:  # openvino raises RuntimeError for everything
            raise EngineFailed(
                f"openvino cannot load {artifact.model_path}: {_last_line(error)}", "a model that it supports"
            ) from error
        self._request = compiled.create_infer_request()
        self._outputs = _output_names(compiled, artifact)
        self.applied = _applied(compiled, run, ov.__version__.split("-")[0])

    def run(self, feeds: Feeds, out: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Run once."""
        try:
            results = self._request.infer(feeds, share_inputs=True)
        except Exception as error:
            raise EngineFailed(f"openvino failed: {_last_line(error)}") from error
        # 2026.4.1 does so where a CPU lacks an instruction: u8u8 limited to SSE4.1, int8 on a Cortex-A72.
        answers = {name: results[index] for index, name in enumerate(self._outputs)}
        if not all(array.size for array in answers.values()):
            raise EngineFailed(
                f"openvino {self.applied.version} gave an empty answer without an error",
                "one for each photo",
                "this CPU lacks what the graph needs there: take another scheme, or backend onnxruntime",
            )
        return deliver(answers, out)

    def close(self) -> None:
        """Drop the request and with it the compiled model."""
        self._request = None


def _output_names(compiled, artifact: Artifact) -> list[str]:  # type: ignore[no-untyped-def]
    """The manifest's names: a port may carry several, and `get_any_name` takes the first of the alphabet."""
    wanted = {spec.name for spec in artifact.manifest.outputs}
    return [next(iter(port.get_names() & wanted), None) or port.get_any_name() for port in compiled.outputs]


def _config(ov, run: RunConfig) -> dict[str, object]:  # type: ignore[no-untyped-def]
    config: dict[str, object] = {
        "PERFORMANCE_HINT": run.hint.upper(),
        "INFERENCE_PRECISION_HINT": _TYPE_WORDS[run.execution_precision],
        "NUM_STREAMS": 1,
    }
    if run.device == "cpu":
        config["INFERENCE_NUM_THREADS"] = run.threads or usable_cores()
    if run.cache:
        config["CACHE_DIR"] = run.cache
    return config


def _refuse_unknown_precision(core, device: str, run: RunConfig) -> None:  # type: ignore[no-untyped-def]
    """The CPU plugin takes a hint that it cannot honour and computes in something else; say so instead."""
    told = {_CAPABILITIES.get(name) for name in core.get_property(device, "OPTIMIZATION_CAPABILITIES")}
    if run.execution_precision not in told:
        raise EngineFailed(
            f"this {device} does not compute in {run.execution_precision}",
            f"one of {', '.join(sorted(word for word in told if word and word != 'int8'))}",
            "see `tiffin backends`",
        )


def _applied(compiled, run: RunConfig, version: str) -> Applied:  # type: ignore[no-untyped-def]
    words = {told: word for word, told in _TYPE_WORDS.items()}
    told = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if words.get(told) != run.execution_precision:
        raise EngineFailed(f"openvino computes in {told}", f"{run.execution_precision}, as asked")
    threads = int(compiled.get_property("INFERENCE_NUM_THREADS")) if run.device == "cpu" else run.threads
    details = {"execution_precision": told, "streams": str(compiled.get_property("NUM_STREAMS"))}
    return Applied(dataclasses.replace(run, threads=threads), version, details)


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:300]


def open(artifact: Artifact, run: RunConfig) -> OpenVinoLane:  # noqa: A001
    """Open one lane.

    Raises:
        EngineMissing: openvino or the device is absent.
        EngineFailed: the model does not load, or the precision asked for is not what would be computed.
    """
    accept(artifact, FORMATS, "openvino")
    if run.graph_level != "all":
        raise BadInput(f"openvino has no graph level {run.graph_level!r}", "all")
    return OpenVinoLane(artifact, run)
