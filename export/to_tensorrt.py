"""ONNX artifact → TensorRT or TensorRT-RTX engine. TensorRT-RTX builds without a GPU.

Networks are strongly typed: precision is what the graph says. API as of TensorRT 10.8, 11 and RTX 1.7.
"""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx

from ..artifact import Artifact, Producer
from ..artifact.store import save
from ..errors import BadInput, EngineFailed
from ..runtime.backends.tensorrt import engine_module
from .graph.dialect import check_for_tensorrt
from .to_openvino import require_onnx


@dataclass(frozen=True)
class EngineOptions:
    """What an engine is built for.

    Args:
        min_batch, opt_batch, max_batch: the optimization profile.
        workspace_bytes: scratch memory that a layer may use.
        capabilities: compute capabilities such as "8.9"; empty means this machine's GPU.
    """

    min_batch: int = 1
    opt_batch: int = 1
    max_batch: int = 16
    workspace_bytes: int = 1 << 30
    capabilities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.min_batch <= self.opt_batch <= self.max_batch:
            raise BadInput(
                f"profile min {self.min_batch}, opt {self.opt_batch}, max {self.max_batch}", "1 ≤ min ≤ opt ≤ max"
            )


def to_tensorrt(
    artifact: Artifact, out: Path, backend: str = "tensorrt_rtx", options: EngineOptions | None = None
) -> Artifact:
    """Build an engine and save it with the stamp that loading compares.

    Raises:
        EngineMissing: the engine's package is not installed.
        BadDialect: an int8 graph that TensorRT would read wrongly.
        EngineFailed: the parser or the builder refused, with its own words.
    """
    require_onnx(artifact, backend)
    trt = engine_module(backend)
    options = options or EngineOptions()
    check_for_tensorrt(onnx.load(artifact.model_path), str(artifact.folder))
    plan, capabilities = _build(trt, artifact, options)
    manifest = dataclasses.replace(
        artifact.manifest,
        format=backend,
        producer=Producer("compile", {backend: trt.__version__}, {"backend": backend, **_plain(options)}),
        parent=artifact.digest,
        built_for={"engine_version": trt.__version__, "compute_capabilities": capabilities},
    )
    # The source ONNX travels along: another GPU needs another engine.
    return save(out, manifest, {"model.engine": plan, "source.onnx": artifact.model_path})


def _plain(options: EngineOptions) -> dict[str, Any]:
    return {**asdict(options), "capabilities": list(options.capabilities)}


def _build(trt: ModuleType, artifact: Artifact, options: EngineOptions) -> tuple[bytes, list[str]]:
    log = _Log(trt)
    builder = trt.Builder(log.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse(artifact.model_path.read_bytes()):
        problems = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise EngineFailed(f"{trt.__name__} cannot parse {artifact.model_path}: {problems}", "a graph that it supports")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    config.add_optimization_profile(_profile(builder, network, options))
    capabilities = _set_capabilities(trt, config, options.capabilities)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineFailed(
            f"{trt.__name__} cannot build {artifact.model_path}: {log.last()}", "a graph that it supports"
        )
    return bytes(plan), capabilities


def _profile(builder: Any, network: Any, options: EngineOptions) -> Any:
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        rest = tuple(tensor.shape)[1:]
        batches = (options.min_batch, options.opt_batch, options.max_batch)
        profile.set_shape(tensor.name, *((batch, *rest) for batch in batches))
    return profile


def _set_capabilities(trt: ModuleType, config: Any, wanted: tuple[str, ...]) -> list[str]:
    """Name the GPUs to build for; without names, the GPU of this machine."""
    if not wanted:
        from ..runtime.backends._cuda import compute_capability

        return [compute_capability()]
    if not hasattr(trt, "ComputeCapability"):
        raise BadInput(f"{trt.__name__} builds for this machine's GPU only", "no --capability, or backend tensorrt_rtx")
    known = {name[2:-1] + "." + name[-1]: name for name in dir(trt.ComputeCapability) if name.startswith("SM")}
    unknown = [word for word in wanted if word not in known]
    if unknown:
        raise BadInput(f"unknown compute capability {', '.join(unknown)}", f"one of {', '.join(sorted(known))}")
    config.num_compute_capabilities = len(wanted)
    for index, word in enumerate(wanted):
        config.set_compute_capability(getattr(trt.ComputeCapability, known[word]), index)
    return list(wanted)


class _Log:
    """TensorRT's words, kept for the error instead of printed."""

    def __init__(self, trt: ModuleType) -> None:
        lines: list[str] = []

        class Logger(trt.ILogger):  # type: ignore[name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity <= trt.ILogger.Severity.ERROR:
                    lines.append(message)

        self.logger = Logger()
        self._lines = lines

    def last(self) -> str:
        return self._lines[-1] if self._lines else "no reason given"
