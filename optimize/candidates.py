"""Which artifact runs on which engine, as this machine allows: candidates, and a reason for each that cannot run."""

from __future__ import annotations

from dataclasses import dataclass

from .. import machine
from ..artifact import RunConfig
from ..artifact.cpu_class import SWITCHED_BACKENDS
from ..benchmarks.candidate import Candidate
from ..benchmarks.workers.place import WITHOUT_VNNI
from ..runtime import backends
from .pipeline import Built


@dataclass(frozen=True)
class _Plan:
    """One row: backend, the stage whose artifact it opens, what it is called, and the precision it computes in."""

    backend: str
    stage: str
    words: str
    execution_precision: str = "fp32"
    device: str = "cpu"


_PLANS = (
    _Plan("torch", "torch-fp32", "fp32"),
    _Plan("onnxruntime", "fp32", "fp32"),
    _Plan("onnxruntime", "fp16", "fp16"),
    _Plan("onnxruntime", "bf16", "bf16"),
    _Plan("onnxruntime", "int8-cpu-nncf", "int8 cpu nncf"),
    _Plan("onnxruntime", "int8-cpu-ort", "int8 cpu ort"),
    _Plan("onnxruntime", "int8-cpu-vnni-nncf", "int8 cpu-vnni nncf"),
    _Plan("onnxruntime", "int8-cpu-vnni-ort", "int8 cpu-vnni ort"),
    _Plan("openvino", "openvino-fp32", "fp32"),
    _Plan("openvino", "openvino-fp32", "fp16", "fp16"),
    _Plan("openvino", "openvino-fp32", "bf16", "bf16"),
    _Plan("openvino", "openvino-int8-cpu-nncf", "int8 cpu nncf"),
    _Plan("openvino", "openvino-int8-cpu-ort", "int8 cpu ort"),
    _Plan("openvino", "int8-cpu-vnni-nncf", "int8 cpu-vnni nncf"),
    _Plan("openvino", "int8-cpu-vnni-ort", "int8 cpu-vnni ort"),
    _Plan("tensorrt_rtx", "tensorrt_rtx-fp16", "fp16", device="gpu"),
    _Plan("tensorrt_rtx", "tensorrt_rtx-int8-tensorrt-ort", "int8 tensorrt", device="gpu"),
)


def plan(built: Built, threads: int | None = None) -> list[Candidate]:
    """Every row of the table, in its order."""
    return [
        _candidate(row, built, threads) for row in _PLANS if row.stage in built.artifacts or row.stage in built.reasons
    ]


def _candidate(row: _Plan, built: Built, threads: int | None) -> Candidate:
    name = f"{row.backend} {row.words}"
    artifact = built.artifacts.get(row.stage)
    if artifact is None:
        return Candidate(name, reason=built.reasons[row.stage])
    run = RunConfig(row.backend, row.device, threads=threads, execution_precision=row.execution_precision)
    return Candidate(name, artifact, run, reason=_obstacle(row))


def _obstacle(row: _Plan) -> str:
    """Why this row cannot run here, or an empty string."""
    probe = backends.probe(row.backend)
    if not probe.runs:
        return f"{probe.reason}: {probe.install}" if probe.install else probe.reason
    if row.backend == "onnxruntime" and row.words == "bf16":
        return "onnxruntime has no bf16 convolution for CPUs"
    if row.device == "cpu" and row.execution_precision not in probe.precisions:
        named = ", ".join(probe.precisions)
        return f"this CPU does not compute in {row.execution_precision} ({row.backend} names {named})"
    return ""


def without_vnni(candidates: list[Candidate]) -> list[Candidate]:
    """The int8 candidates once more under AVX2, to be scored, never timed; none where this CPU has no VNNI anyway."""
    if not machine.has_vnni():
        return []
    return [
        Candidate(f"{row.name}, {WITHOUT_VNNI.name}", row.artifact, row.run, WITHOUT_VNNI)
        for row in candidates
        if row.run and row.run.backend in SWITCHED_BACKENDS and not row.reason
        and row.artifact and row.artifact.manifest.precision == "int8"
    ]  # fmt: skip
