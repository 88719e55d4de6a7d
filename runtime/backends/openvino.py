"""OpenVINO: ONNX and IR on Intel and AMD CPUs, Intel GPUs and NPUs.

The execution precision is always set and read back: with no hint, OpenVINO computes a float32 model in bf16
wherever the CPU has AVX512-BF16 or AMX (2026.4.1, measured).

One photo runs in a form compiled with every shape fixed: 11 to 13 % faster than the form for any batch, with the same
bits (2026.4.1 on an AMD EPYC, measured). The other form is compiled when a first larger batch comes.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import numpy as np

from ...artifact import Artifact, RunConfig
from ...errors import BadInput, EngineFailed, EngineMissing
from . import Applied, Feeds, Probe, accept, deliver, engine_module, installed, require_own_threads, threads_of_a_lane
from ._kept import KeptModel
from ._openvino_forms import Forms, last_line

ENGINE = "openvino"
FORMATS = ("openvino", "onnx")
_INSTALL = 'pip install "tiffin[openvino]"'
_TYPE_WORDS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}
_CAPABILITIES = {"FP32": "fp32", "FP16": "fp16", "BF16": "bf16", "INT8": "int8"}


def probe(name: str = "openvino") -> Probe:
    """Version, devices, and the precisions that the CPU plugin names as its own."""
    if not installed("openvino"):
        return Probe(name, FORMATS, reason="not installed", install=_INSTALL)
    import openvino as ov

    core = ov.Core()
    devices = tuple(device.lower() for device in core.available_devices)
    told = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") if "cpu" in devices else []
    precisions = tuple(word for name, word in _CAPABILITIES.items() if name in told)
    return Probe(name, FORMATS, ov.__version__.split("-")[0], devices, precisions)


_SETTING_UP = threading.Lock()


def _set_up(ov: Any) -> None:
    """Make a first tensor before any lane does.

    The bindings look numpy up at their first tensor, holding a lock of their own and, in turns, the interpreter's: two
    threads that make it at once wait for one another for ever (2026.4.1).
    """
    with _SETTING_UP:
        tensor = ov.Tensor(np.zeros(1, np.uint8), shared_memory=True)
        tensor.get_element_type().to_dtype()
        _ = tensor.data


class OpenVinoLane:
    """An infer request for each form of the model; lanes share the forms, and with them the weights."""

    def __init__(self, forms: Forms, artifact: Artifact, applied: Applied) -> None:
        self._forms: Forms | None = forms
        self._artifact, self.applied = artifact, applied
        self._fixed = forms.fixed
        self._request: Any = forms.first.create_infer_request()
        self._outputs = _output_names(forms.first, artifact)
        self._larger: Any = None

    def run(self, feeds: Feeds, out: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Run once."""
        request = self._request
        if self._fixed is not None and feeds[self._fixed].shape[0] != 1:
            request = self._larger or self._open_larger()
        try:
            results = request.infer(feeds, share_inputs=True)
        except Exception as error:
            raise EngineFailed(f"openvino failed: {last_line(error)}") from error
        # 2026.4.1 does so where a CPU lacks an instruction: u8u8 limited to SSE4.1, int8 on a Cortex-A72.
        answers = {name: results[index] for index, name in enumerate(self._outputs)}
        if not all(array.size for array in answers.values()):
            raise EngineFailed(
                f"openvino {self.applied.version} gave an empty answer without an error",
                "one for each photo",
                "this CPU lacks what the graph needs there: take another scheme, or backend onnxruntime",
            )
        return deliver(answers, out)

    def _open_larger(self) -> Any:
        assert self._forms is not None
        self._larger = self._forms.any_batch().create_infer_request()
        return self._larger

    def another(self) -> OpenVinoLane:
        """One more lane over the same forms."""
        assert self._forms is not None
        return OpenVinoLane(self._forms, self._artifact, self.applied)

    def close(self) -> None:
        """Drop the requests and with the last lane the compiled model."""
        self._request = self._larger = self._forms = None


def _output_names(compiled, artifact: Artifact) -> list[str]:  # type: ignore[no-untyped-def]
    """The manifest's names: a port may carry several, and `get_any_name` takes the first of the alphabet."""
    wanted = {spec.name for spec in artifact.manifest.outputs}
    return [next(iter(port.get_names() & wanted), None) or port.get_any_name() for port in compiled.outputs]


def _config(ov, run: RunConfig) -> dict[str, object]:  # type: ignore[no-untyped-def]
    config: dict[str, object] = {
        "PERFORMANCE_HINT": run.hint.upper(),
        "INFERENCE_PRECISION_HINT": _TYPE_WORDS[run.execution_precision],
        "NUM_STREAMS": run.lanes,  # one model for all lanes; they share its weights
    }
    if run.device == "cpu":
        config["INFERENCE_NUM_THREADS"] = run.lanes * threads_of_a_lane(run)
    elif run.priority != "normal":
        config["MODEL_PRIORITY"] = "LOW" if run.priority == "low" else "HIGH"
    if run.cpus is not None:
        config["ENABLE_CPU_PINNING"] = False  # by the plugin itself, to cores of its own choice
    if run.cache:
        config["CACHE_DIR"] = run.cache
    return config


def _kept(artifact: Artifact, device: str, config: dict[str, object], version: str) -> KeptModel | None:
    """Where the compiled form for one photo is kept; other devices' plugins have caches of their own."""
    if "CACHE_DIR" not in config or device != "CPU":
        return None
    decides = {name: value for name, value in config.items() if name != "CACHE_DIR"}
    return KeptModel(str(config["CACHE_DIR"]), ENGINE, [artifact.digest, version, sorted(decides.items())])


def _require_device(core, device: str, run: RunConfig) -> None:  # type: ignore[no-untyped-def]
    """Every build has the CPU; to list the others loads their plugins, which takes 20 ms."""
    if device != "CPU" and device.split(".")[0] not in {name.split(".")[0] for name in core.available_devices}:
        raise EngineMissing(f"openvino sees no device {run.device}", f"one of {', '.join(core.available_devices)}")


def _refuse_unknown_precision(core, device: str, run: RunConfig) -> None:  # type: ignore[no-untyped-def]
    """The CPU plugin takes a hint that it cannot honour and computes in something else; say so instead."""
    told = {_CAPABILITIES.get(name) for name in core.get_property(device, "OPTIMIZATION_CAPABILITIES")}
    if run.execution_precision not in told:
        raise EngineFailed(
            f"this {device} does not compute in {run.execution_precision}",
            f"one of {', '.join(sorted(word for word in told if word and word != 'int8'))}",
            "see `tiffin backends`",
        )


def _refuse_unknown_priority(core, device: str, run: RunConfig) -> None:  # type: ignore[no-untyped-def]
    """On a CPU the operating system has it; of the plugins some do."""
    known = core.get_property(device, "SUPPORTED_PROPERTIES")
    if run.priority != "normal" and run.device != "cpu" and "MODEL_PRIORITY" not in known:
        raise BadInput(f"openvino has no priority {run.priority} on device {run.device}", "priority normal")


def _applied(forms: Forms, run: RunConfig, version: str) -> Applied:
    """Read back from the engine."""
    compiled = forms.first
    words = {told: word for word, told in _TYPE_WORDS.items()}
    told = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if words.get(told) != run.execution_precision:
        raise EngineFailed(f"openvino computes in {told}", f"{run.execution_precision}, as asked")
    threads, details = run.threads, {"execution_precision": told, "streams": str(compiled.get_property("NUM_STREAMS"))}
    if run.device == "cpu":
        threads = max(1, int(compiled.get_property("INFERENCE_NUM_THREADS")) // run.lanes)
        details["cpu_pinning"] = str(compiled.get_property("ENABLE_CPU_PINNING"))
    if run.cache:
        engines = "read" if compiled.get_property("LOADED_FROM_CACHE") else "written"
        details["cache"] = forms.cache or engines
    details["fixed_shapes"] = forms.why
    cache = None if forms.cache.startswith("off") else run.cache
    return Applied(dataclasses.replace(run, threads=threads, cache=cache), version, details)


def open(artifact: Artifact, run: RunConfig) -> OpenVinoLane:  # noqa: A001
    """Open one lane.

    Raises:
        EngineMissing: openvino or the device is absent.
        EngineFailed: the model does not load, or the precision asked for is not what would be computed.
    """
    accept(artifact, FORMATS, "openvino")
    if run.cpus is not None and run.lanes > 1:  # its streams are the process's: one was seen on other cores
        raise BadInput(f"openvino does not keep {run.lanes} lanes to given cores", "one lane",
                       "start the whole process so, with taskset")  # fmt: skip
    if run.graph_level != "all":
        raise BadInput(f"openvino has no graph level {run.graph_level!r}", "all")
    ov = engine_module("openvino", _INSTALL)
    _set_up(ov)
    core = ov.Core()
    device = run.device.upper().replace(":", ".")
    _require_device(core, device, run)
    run = require_own_threads(run)
    _refuse_unknown_precision(core, device, run)
    _refuse_unknown_priority(core, device, run)
    config = _config(ov, run)
    forms = Forms(core, device, artifact, config, _kept(artifact, device, config, ov.__version__))
    return OpenVinoLane(forms, artifact, _applied(forms, run, ov.__version__.split("-")[0]))
