"""ONNX artifact → TensorRT or TensorRT-RTX engine, and the same again on another device.

Networks are strongly typed: precision is what the graph says. The one exception is a DLA under TensorRT 10, whose int8
needs an untyped network and a calibration cache (`graph.implicit_int8`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from .. import machine
from ..artifact import Artifact, Producer
from ..artifact.engine_stamp import PORTABLE, EngineStamp
from ..artifact.files import replace_files
from ..artifact.lineage import SOURCE, source_of
from ..artifact.store import save
from ..errors import BadInput, EngineMissing
from ..runtime.backends import _cuda
from ..runtime.backends._trt import Library, library, this_platform
from .engine import BuildProgress, Built, build_engine
from .engine_options import EngineOptions, options_from
from .graph.dialect import check_for_tensorrt
from .graph.gemm_as_conv import gemm_as_conv
from .graph.implicit_int8 import implicit_int8
from .graph.preflight import DIALECT, Target, examine, summary
from .onnx_source import read_onnx, require_onnx

_TURING = "7.5"
_TIMINGS = "timing.cache"


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
    _check_graph(model, artifact, Target(backend, options.capabilities))
    _check_profiles(model, options)
    prepared = _prepare(model, lib, options)
    timings = Path(options.timing_cache) if options.timing_cache else _timings_of(lib, gpu)
    start = timings if timings.is_file() else artifact.folder / _TIMINGS  # those that an engine brought along
    with prepared.file(artifact.model_path) as path:
        built = build_engine(path, backend, options, prepared.calibration, start, progress)
    if built.timings is not None:
        timings.parent.mkdir(parents=True, exist_ok=True)
        replace_files({timings: built.timings})
    return _save(artifact, out, lib, options, prepared, built, gpu)


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


def _prepare(model: onnx.ModelProto, lib: Library, options: EngineOptions) -> _Prepared:
    """Rewrites that change no answer, where the target needs them."""
    if options.dla_core is not None and lib.implicit_int8:
        if options.stripped:
            raise BadInput("--strip-weights with --dla-core", "one of them", "leave --strip-weights out")
        floats, cache = implicit_int8(model, lib.version)
        return _Prepared(floats, ("implicit_int8",), cache) if cache else _Prepared()
    if lib.is_rtx and _TURING in options.capabilities:
        # Without it the build is refused, or the engine answers zeros (pytorch/TensorRT#4643).
        made, changed = gemm_as_conv(model)
        return _Prepared(made, ("gemm_as_conv",)) if changed else _Prepared()
    return _Prepared()


def check_options(lib: Library, options: EngineOptions) -> None:
    """What this library cannot do, before anything is built.

    Raises:
        BadInput: an option that it does not have.
        EngineMissing: it needs a GPU for this, and there is none.
    """
    unknown = [word for word in options.capabilities if word not in lib.capabilities]
    if unknown and not lib.builds_for_others:
        raise BadInput(f"{lib.name} builds for this machine's GPU only", "no --capability, or backend tensorrt_rtx")
    if unknown:
        raise BadInput(f"unknown compute capability {', '.join(unknown)}",
                       f"one of {', '.join(sorted(lib.capabilities, key=float))}")  # fmt: skip
    if lib.is_rtx:
        _check_rtx(options)
    sources = [name for name in options.tactic_sources if not lib.has(f"TacticSource.{name}")]
    if sources:
        known = [name for name in dir(lib.module.TacticSource) if name.isupper()]
        raise BadInput(
            f"{lib.name} {lib.version} has no tactic source {', '.join(sources)}", f"some of {', '.join(known)}"
        )
    if options.hardware == "same-capability" and not lib.has("HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY"):
        raise BadInput(f"{lib.name} {lib.version} has no hardware compatibility same-capability", "none or ampere+")
    needs_gpu = not lib.builds_for_others or options.stripped
    problem = _cuda.driver_problem() if needs_gpu else ""
    if problem:
        what, instead = ("weight-stripped engines", "leave --strip-weights out") if lib.builds_for_others else (
            "engines", "use backend tensorrt_rtx")  # fmt: skip
        raise EngineMissing(f"{lib.name} builds {what} on a GPU only: {problem}", "an NVIDIA GPU and its driver",
                            f"run it on the device, or {instead}")  # fmt: skip


def _check_rtx(options: EngineOptions) -> None:
    """Seen with 1.7: it warns and ignores, or fails in the middle of the build."""
    refused = {
        "--version-compatible": options.version_compatible,
        "--hardware": options.hardware != "none",
        "--dla-core": options.dla_core is not None,
    }
    asked = [word for word, given in refused.items() if given]
    if asked:
        raise BadInput(f"tensorrt_rtx has no {', '.join(asked)}", "backend tensorrt for these",
                       "leave it out: without --capability its engines run on every GPU from 8.0 on")  # fmt: skip


def _check_graph(model: onnx.ModelProto, artifact: Artifact, target: Target) -> None:
    """What `tiffin doctor` calls an error never reaches the builder.

    Raises:
        BadDialect: an int8 graph that TensorRT would read wrongly.
        BadInput: anything else.
    """
    errors = [finding for finding in examine(model, target) if finding.severity == "error"]
    if any(finding.check in DIALECT for finding in errors):
        check_for_tensorrt(model, str(artifact.folder))
    if errors:
        gpus = "".join(f" --capability {word}" for word in target.capabilities)
        raise BadInput(
            f"{artifact.folder}: {'; '.join(summary(errors))}",
            f"a graph that {target.backend} builds",
            f"see each node and its fix: `tiffin doctor {artifact.folder} --backend {target.backend}{gpus}`",
        )


def _check_profiles(model: onnx.ModelProto, options: EngineOptions) -> None:
    """A profile must hold the batch that a graph of fixed shape has."""
    for tensor in model.graph.input:
        dimensions = tensor.type.tensor_type.shape.dim
        fixed = dimensions[0].dim_value if dimensions else 0
        wrong = [profile for profile in options.profiles if fixed and set(profile) != {fixed}]
        if wrong:
            low, opt, high = wrong[0]
            raise BadInput(f"profile {low}:{opt}:{high} for input {tensor.name}, whose batch is always {fixed}",
                           f"{fixed}:{fixed}:{fixed}", f"pass --batch {fixed}:{fixed}:{fixed}")  # fmt: skip


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
        options.version_compatible, options.stripped, options.dla_core, built.plugins, built.log_sha256,
    )  # fmt: skip
    about = {"backend": lib.name, **options.plain(), "graph_passes": list(prepared.passes)}
    manifest = dataclasses.replace(
        artifact.manifest,
        format=lib.name,
        producer=Producer("compile", {lib.name: built.version}, about),
        parent=artifact.manifest.parent if artifact.model_path.name == SOURCE else artifact.digest,
        built_for=stamp.plain(),
    )
    # The source ONNX travels along: another GPU needs another engine, and a stripped one its weights, by their names.
    rewritten = prepared.model if options.stripped else None
    source = rewritten.SerializeToString() if rewritten else artifact.model_path
    files: dict[str, bytes | Path] = {"model.engine": built.plan, SOURCE: source, "build.log": built.log}
    if built.timings is not None:
        files[_TIMINGS] = built.timings
    return save(out, manifest, files)
