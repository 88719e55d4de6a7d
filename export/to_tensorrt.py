"""ONNX artifact → TensorRT or TensorRT-RTX engine, and the same again on another device.

Networks are strongly typed: precision is what the graph says. The one exception is a DLA under TensorRT 10, whose int8
needs an untyped network and a calibration cache (`graph.implicit_int8`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from .. import machine
from ..artifact import Artifact, Producer
from ..artifact.engine_stamp import PORTABLE, EngineStamp
from ..artifact.lineage import SOURCE, is_source, source_of
from ..artifact.store import save
from ..errors import EngineMissing
from ..runtime.backends import _cuda
from ..runtime.backends._trt import Library, keep, library, this_platform
from .engine import BuildProgress, Built, build_engine
from .engine_checks import check_dla, check_graph, check_options
from .engine_options import EngineOptions, options_from
from .graph.gemm_as_conv import gemm_as_conv
from .graph.implicit_int8 import implicit_int8
from .graph.preflight import Target
from .onnx_source import read_onnx, require_onnx

_TURING = "7.5"
_TIMINGS, _LOG = "timing.cache", "build.log"
# As TensorRT 8 to 10 warn where they do not list the layers of both.
_FALLS_BACK = re.compile(r"(falling back|device type|switching) to GPU", re.IGNORECASE)


def to_tensorrt(
    artifact: Artifact,
    out: Path,
    backend: str = "tensorrt_rtx",
    options: EngineOptions | None = None,
    progress: BuildProgress = lambda phase, done: None,
) -> Artifact:
    """Build an engine and save it with the stamp that loading compares.

    Args:
        progress: called with the builder's phase and the part of the build that is done, 0 to 1.

    Raises:
        EngineMissing: the library is not installed, or has no GPU and needs one.
        BadDialect: an int8 graph that TensorRT would read wrongly.
        BadInput: an option that the library does not have, or a profile that the graph does not take.
        EngineFailed: the parser or the builder refused, with its own words.
    """
    require_onnx(artifact, backend)
    lib, options = library(backend), options or EngineOptions()
    gpu = _gpu()
    options = _targeted(options, lib, gpu)
    check_options(lib, options)
    model = read_onnx(artifact.model_path)
    check_graph(model, artifact, Target(backend, _targets(options, lib, gpu)), options)
    prepared = _prepare(model, lib, options)
    timings = Path(options.timing_cache) if options.timing_cache else _timings_of(lib, gpu)
    start = timings if timings.is_file() else artifact.folder / _TIMINGS  # those that an engine brought along
    with prepared.file(artifact.model_path) as path:
        built = build_engine(path, backend, options, prepared.calibration, start, progress)
    made = _save(artifact, out, lib, options, prepared, built, gpu)
    if built.timings is not None:
        keep(timings, built.timings, "layer timings")
    return made


def rebuild(artifact: Artifact, out: Path, progress: BuildProgress = lambda phase, done: None) -> Artifact:
    """An engine again from the ONNX model that travels in it, with the options of its first build, for this device.

    Raises:
        BadArtifact: no engine, or its `source.onnx` is not there.
        EngineMissing, EngineFailed: as `to_tensorrt` says.
    """
    source = source_of(artifact)
    backend, options = artifact.manifest.format, options_from(artifact.manifest.producer.options)
    gpu, lib = _gpu(), library(backend)
    if options.capabilities and not gpu.capability:
        raise EngineMissing(f"no GPU to rebuild for: {gpu.problem}", "the device that will run it",
                            "run it there, or compile its ONNX artifact with --capability")  # fmt: skip
    wanted = (gpu.capability,) if options.capabilities and gpu.capability in lib.capabilities else ()
    return to_tensorrt(source, out, backend, dataclasses.replace(options, capabilities=wanted), progress)


def layers_on_gpu(engine: Artifact) -> list[str]:
    """What the build log of a DLA's engine says of layers that the GPU runs; empty where it says nothing."""
    if engine.manifest.built_for.get("dla_core") is None:
        return []
    lines = (engine.folder / _LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    placed = [line.partition("[GpuLayer] ")[2] for line in lines if "[GpuLayer] " in line]
    return placed or [line.partition(": ")[2] for line in lines if _FALLS_BACK.search(line)]


@dataclass(frozen=True)
class _Gpu:
    """This machine's GPU; empty words where there is none."""

    capability: str = ""
    name: str = ""
    problem: str = ""


def _gpu() -> _Gpu:
    problem = _cuda.driver_problem()
    if problem:
        return _Gpu(problem=problem)
    return _Gpu(_cuda.compute_capability(), _cuda.device_name())


@dataclass(frozen=True)
class _Prepared:
    """What is handed to the parser: the artifact's own file, or a rewritten graph."""

    model: onnx.ModelProto | None = None
    passes: tuple[str, ...] = ()
    calibration: bytes | None = None

    @contextlib.contextmanager
    def file(self, original: Path) -> Iterator[Path]:
        """Where it lies while it is built."""
        if self.model is None:
            yield original
            return
        with tempfile.TemporaryDirectory(prefix="tiffin-graph-") as scratch:
            path = Path(scratch, original.name)
            path.write_bytes(self.model.SerializeToString())
            yield path


def _targeted(options: EngineOptions, lib: Library, gpu: _Gpu) -> EngineOptions:
    """TensorRT-RTX's portable engines leave Turing out: it is named where it is the GPU here."""
    turing = lib.is_rtx and gpu.capability == _TURING and not options.capabilities
    return dataclasses.replace(options, capabilities=(_TURING,)) if turing else options


def _targets(options: EngineOptions, lib: Library, gpu: _Gpu) -> tuple[str, ...]:
    """Whose limits the graph must keep: those named, or the GPU here where nothing can be built for another."""
    here = (gpu.capability,) if gpu.capability and not lib.builds_for_others else ()
    return options.capabilities or here


def _prepare(model: onnx.ModelProto, lib: Library, options: EngineOptions) -> _Prepared:
    """Rewrites that the target needs: to a convolution, exact but for float rounding; to a DLA's own int8."""
    if options.dla_core is not None:
        check_dla(model, options, untyped=lib.implicit_int8)
    if options.dla_core is not None and lib.implicit_int8:
        floats, cache = implicit_int8(model, lib.version)
        return _Prepared(floats, ("implicit_int8",), cache) if cache else _Prepared()
    if lib.is_rtx and _TURING in options.capabilities:
        # Without it the build is refused, or the engine answers zeros (pytorch/TensorRT#4643).
        made, changed = gemm_as_conv(model)
        return _Prepared(made, ("gemm_as_conv",)) if changed else _Prepared()
    return _Prepared()


def _timings_of(lib: Library, gpu: _Gpu) -> Path:
    """One cache for each version and GPU: timings of another are refused by the library."""
    device = "".join(letter if letter.isalnum() else "-" for letter in gpu.name or "gpu")
    return machine.cache_folder() / "tensorrt" / f"timings-{lib.name}-{lib.version}-{device}.cache"


def _save(
    artifact: Artifact,
    out: Path,
    lib: Library,
    options: EngineOptions,
    prepared: _Prepared,
    built: Built,
    gpu: _Gpu,
) -> Artifact:
    capabilities = options.capabilities or ((PORTABLE,) if lib.builds_for_others else (gpu.capability,))
    stamp = EngineStamp(
        lib.name, built.version, capabilities, this_platform(), gpu.name, options.profiles, options.hardware,
        options.version_compatible, options.stripped, options.dla_core, build_log_sha256=built.log_sha256,
    )  # fmt: skip
    about = {"backend": lib.name, **options.plain(), "graph_passes": list(prepared.passes)}
    manifest = dataclasses.replace(
        artifact.manifest,
        format=lib.name,
        producer=Producer("compile", {lib.name: built.version}, about),
        parent=artifact.manifest.parent if is_source(artifact) else artifact.digest,
        built_for=stamp.plain(),
    )
    # The source ONNX travels along: another GPU needs another engine, and a stripped one its weights, by their names.
    rewritten = prepared.model if options.stripped else None
    source = rewritten.SerializeToString() if rewritten else artifact.model_path
    files: dict[str, bytes | Path] = {"model.engine": built.plan, SOURCE: source, _LOG: built.log}
    if built.timings is not None:
        files[_TIMINGS] = built.timings
    return save(out, manifest, files)
