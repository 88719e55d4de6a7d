"""Reading a TensorRT engine: what it was built for is compared first, and one copy serves all lanes of a process."""

from __future__ import annotations

import logging
import os
import re
import threading
import weakref
from collections import deque
from pathlib import Path
from typing import Any

from ...artifact import Artifact
from ...artifact.engine_stamp import EngineStamp, Here, read_stamp
from ...artifact.lineage import SOURCE
from ...errors import BadArtifact, EngineFailed, EngineMissing, command
from . import _cuda, _trt
from ._cuda import Gpu
from ._trt import Library

_LOG = logging.getLogger(__name__)
_SHARED: weakref.WeakValueDictionary[tuple[object, ...], Engine] = weakref.WeakValueDictionary()
_SHARING = threading.Lock()
_LOGGERS: dict[int, tuple[Library, Any, deque[str]]] = {}

# How TensorRT says that there is no room; «an illegal memory access» is none of it.
_NO_MEMORY = re.compile(r"out ?of ?memory|could not be allocated|(not enough|insufficient).* memory", re.IGNORECASE)
# EngineInvalidityDiagnostics of TensorRT-RTX → our words.
_INVALID = {
    "VERSION_MISMATCH": "it is of another TensorRT-RTX version",
    "UNSUPPORTED_CC": "it was not built for this compute capability",
    "OLD_CUDA_DRIVER": "the NVIDIA driver is too old for it",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old for it",
    "INSUFFICIENT_GPU_MEMORY": "it needs more memory than this GPU has",
    "MALFORMED_ENGINE": "it is no engine, or a damaged one",
    "CUDA_ERROR": "CUDA does not answer",
}


def shared_engine(artifact: Artifact, library: Library, gpu: Gpu, cache: str | None) -> Engine:
    """The engine that this process already holds, or a new one; it goes with its last lane.

    Args:
        cache: folder for the kernels that TensorRT-RTX compiles, or None.

    Raises:
        BadArtifact: built for another version, GPU or platform: nothing of it was read.
        EngineMissing: a plugin that it needs is not registered.
        EngineFailed: TensorRT cannot read it.
    """
    key = (artifact.digest, id(library.module), gpu.index, cache)
    with _SHARING:
        engine = _SHARED.get(key)
        if engine is None:
            engine = _SHARED[key] = _opened(artifact, library, gpu, Path(cache) if cache else None)
        return engine


def _opened(artifact: Artifact, library: Library, gpu: Gpu, cache: Path | None) -> Engine:
    try:
        return Engine(artifact, library, gpu, cache)
    except (RuntimeError, TypeError) as error:  # what its bindings raise where a constructor answers nothing
        raise EngineFailed(f"{library.name} cannot read {artifact.model_path}: {error}") from error


class Engine:
    """A deserialized engine on one GPU; its weights lie on the device once.

    `size_bytes` is what free device memory shrank by meanwhile, `scratch_bytes` what a context needs while it runs.
    """

    def __init__(self, artifact: Artifact, library: Library, gpu: Gpu, cache: Path | None) -> None:
        self.library, self._gpu = library, gpu
        self.capability, self.device = _cuda.compute_capability(gpu.index), _cuda.device_name(gpu.index)
        self.stamp = _fitting_stamp(artifact, self._here(), _rebuild(artifact, gpu))
        self._logger, self._said = _logger(library)
        self._said.clear()
        before = gpu.free_bytes()
        self._runtime = self._make_runtime()
        plan = artifact.model_path.read_bytes()
        self._refuse_invalid(artifact, plan)
        _require_plugins(library, self.stamp, self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise self.failed(f"cannot read {artifact.model_path}", "an engine built by `tiffin compile` for this GPU")
        if self.stamp.stripped:
            self._refit(artifact)
        self.kernels = _RuntimeCache(library, self._engine, cache, f"{artifact.digest[:16]}-{self.capability}")
        self.size_bytes = max(0, before - gpu.free_bytes())

    @property
    def scratch_bytes(self) -> int:
        """Of one context, whatever the profile."""
        return int(self._engine.device_memory_size_v2)

    def context(self) -> Any:
        """A new IExecutionContext without scratch memory of its own.

        Raises:
            EngineFailed: TensorRT does not make one, such as for want of memory.
        """
        strategy = self.library.module.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._engine.create_execution_context(self.kernels.config or strategy)
        if context is None:
            raise self.failed("cannot make an execution context", "enough free device memory")
        return context

    def failed(self, what: str, expected: str = "") -> EngineFailed:
        """The error, with the library's own last words."""
        words = self._said.pop() if self._said else "no reason given"
        if _NO_MEMORY.search(words):
            return _cuda.out_of_memory(self._gpu, f"{self.library.name} {what} ({words})")
        return EngineFailed(f"{self.library.name} {what}: {words}", expected)

    def _here(self) -> Here:
        return Here(self.library.name, self.library.version, self.capability, _trt.this_platform(), self.device)

    def _make_runtime(self) -> Any:
        runtime = self.library.module.Runtime(self._logger)
        if runtime is None:
            raise self.failed("does not start", "a driver that it supports")
        if self.stamp.version_compatible:
            runtime.engine_host_code_allowed = True  # such an engine carries the code of its own lean runtime
        if self.stamp.dla_core is not None:
            self._place_on_dla(runtime, self.stamp.dla_core)
        return runtime

    def _place_on_dla(self, runtime: Any, core: int) -> None:
        """One stamp fits every Orin, and the smallest has no DLA."""
        if core >= runtime.num_DLA_cores:
            raise BadArtifact(f"an engine for DLA core {core}; this machine has {runtime.num_DLA_cores}",
                              "a Jetson with DLA, such as Orin NX or AGX Orin",
                              "compile its ONNX artifact without --dla-core")  # fmt: skip
        runtime.DLA_core = core

    def _refuse_invalid(self, artifact: Artifact, plan: bytes) -> None:
        """TensorRT-RTX says beforehand whether it can read an engine."""
        if not self.library.has("Runtime.get_engine_validity"):
            return
        validity, bits = self._runtime.get_engine_validity(plan)
        if validity == self.library.module.EngineValidity.INVALID:
            known = self.library.module.EngineInvalidityDiagnostics
            words = [text for name, text in _INVALID.items() if int(getattr(known, name)) & int(bits)]
            said = "; ".join(words or list(self._said)[-1:] or ["no reason given"])
            raise BadArtifact(f"{artifact.model_path} cannot be read here: {said}", "an engine for this machine",
                              _rebuild(artifact, self._gpu))  # fmt: skip

    def _refit(self, artifact: Artifact) -> None:
        """Put the weights back from the ONNX model that travels with a stripped engine."""
        refitter = self.library.module.Refitter(self._engine, self._logger)
        parser = self.library.module.OnnxParserRefitter(refitter, self._logger)
        if not (parser.refit_from_file(str(artifact.folder / SOURCE)) and refitter.refit_cuda_engine()):
            missing = list(refitter.get_missing_weights())
            named = f"{len(missing)} weights are missing ({', '.join(missing[:3])})" if missing else "it was refused"
            raise self.failed(f"cannot put weights back from {artifact.folder / SOURCE}: {named}",
                              "the ONNX model that the engine was built from")  # fmt: skip


class _RuntimeCache:
    """Kernels that TensorRT-RTX compiles on the device: shared by contexts, kept in a folder between processes.

    `config` is None where the library compiles nothing at run time.
    """

    def __init__(self, library: Library, engine: Any, folder: Path | None, name: str) -> None:
        self.config: Any = None
        self._path = folder / f"{name}.runtime-cache" if folder else None
        self._kept = b""
        if not library.has("IRuntimeConfig.create_runtime_cache"):
            return
        self.config = engine.create_runtime_config()
        self.config.set_execution_context_allocation_strategy(
            library.module.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        # Lazily, a recorded graph would keep the fallback kernels that run until the specialized ones are compiled.
        self.config.dynamic_shapes_kernel_specialization_strategy = (
            library.module.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        self._cache = self.config.create_runtime_cache()  # held here: the configuration does not keep it alive
        if self._path and self._path.is_file():
            self._kept = self._path.read_bytes()
            self._cache.deserialize(self._kept)  # one of another driver or version is refused; then it is made anew
        self.config.set_runtime_cache(self._cache)

    def keep(self) -> None:
        """Write what was compiled since."""
        if self.config is None or self._path is None:
            return
        memory = self._cache.serialize()
        if memory is None:  # such as for want of memory: they are compiled again next time
            return
        content = bytes(memory)
        if content != self._kept and _trt.keep(self._path, content, "compiled kernels"):
            self._kept = content


def _fitting_stamp(artifact: Artifact, here: Here, fix: str) -> EngineStamp:
    """The stamp, if it may be read here.

    Raises:
        BadArtifact: it may not; both sides are named.
    """
    stamp = read_stamp(artifact.manifest.built_for, str(artifact.folder))
    built, found = stamp.problem(here)
    if built:
        raise BadArtifact(f"{artifact.folder}: built for {built}, here is {found}", f"an engine for {found}",
                          fix)  # fmt: skip
    if stamp.is_foreign(here):
        _LOG.warning("%s: built on %s and read on %s: expect less speed; %s",
                     artifact.folder, stamp.device, here.device, fix)  # fmt: skip
    return stamp


def _rebuild(artifact: Artifact, gpu: Gpu) -> str:
    """The command; it builds on the first GPU that it sees, so that another one is made the first."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    name = seen[gpu.index].strip() if gpu.index < len(seen) else ""
    first = f"CUDA_VISIBLE_DEVICES={name or gpu.index} " if gpu.index else ""
    return f"compile it here: `{first}{command('compile', artifact.folder, rebuild_for_this_device=True)}`"


def _require_plugins(library: Library, stamp: EngineStamp, logger: Any) -> None:
    """Raises EngineMissing if a creator that the engine names is not registered."""
    if not stamp.plugins:
        return
    library.module.init_libnvinfer_plugins(logger, "")
    registry = library.module.get_plugin_registry()
    for plugin in stamp.plugins:
        namespace, name, version = plugin.rsplit("::", 2)
        if registry.get_creator(name, version, namespace) is None:
            raise EngineMissing(f"plugin {plugin} is not registered", "the library that holds it, loaded before")


def _logger(library: Library) -> tuple[Any, deque[str]]:
    """One logger a library for the life of the process: TensorRT keeps the first it sees, also when that one goes."""
    if id(library.module) not in _LOGGERS:
        said: deque[str] = deque(maxlen=20)

        def keep(severity: str, line: str) -> None:
            if severity in ("ERROR", "INTERNAL_ERROR"):
                said.append(line)

        _LOGGERS[id(library.module)] = (library, library.logger(keep), said)
    _, logger, said = _LOGGERS[id(library.module)]
    return logger, said
