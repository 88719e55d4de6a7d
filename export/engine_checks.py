"""What a library, a machine or a graph cannot do, found before anything is built."""

from __future__ import annotations

import contextlib
import dataclasses

import onnx

from ..artifact import Artifact
from ..errors import BadInput, EngineMissing, command
from ..runtime.backends import _cuda
from ..runtime.backends._trt import Library, library
from .engine_options import EngineOptions
from .graph.dialect import check_for_tensorrt, read_dialect
from .graph.layer_checks import layers_of
from .graph.preflight import DIALECT, Target, examine, summary
from .graph.quantizers import QdqGraph
from .onnx_source import read_onnx, require_onnx

_OF_DLA = "int8 or fp16, all that a DLA computes in"
_FOR_DLA = (
    "`tiffin quantize FP32_ARTIFACT --precision int8 --scheme tensorrt`, "
    "or `tiffin quantize FP32_ARTIFACT --precision fp16`"
)


def check_options(lib: Library, options: EngineOptions) -> None:
    """What this library cannot do.

    Raises:
        BadInput: an option that it does not have.
        EngineMissing: it needs a GPU for this, and there is none.
    """
    _check_words(lib, options)
    _check_gpu(lib, options)


def _check_words(lib: Library, options: EngineOptions) -> None:
    """What it has no word for, with or without a GPU."""
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


def check_graph(model: onnx.ModelProto, artifact: Artifact, target: Target, options: EngineOptions) -> None:
    """What `tiffin doctor` calls an error never reaches the builder, nor a profile that the graph does not take.

    Raises:
        BadDialect: an int8 graph that TensorRT would read wrongly.
        BadInput: anything else.
    """
    errors = [finding for finding in examine(model, target) if finding.severity == "error"]
    if any(finding.check in DIALECT for finding in errors):
        check_for_tensorrt(model, str(artifact.folder))
    if errors:
        doctor = command("doctor", artifact.folder, backend=target.backend, capability=list(target.capabilities))
        raise BadInput(
            f"{artifact.folder}: {'; '.join(summary(errors))}",
            f"a graph that {target.backend} builds",
            f"see each node and its fix: `{doctor}`",
        )
    _check_profiles(model, options)


def check_dla(model: onnx.ModelProto, options: EngineOptions, untyped: bool) -> None:
    """What a DLA does not run: the builder would put it on the GPU without an error.

    It takes no dynamic dimensions, and computes in fp16 and int8 alone (NVIDIA, «DLA Supported Layers and
    Restrictions»).

    Args:
        untyped: whether its int8 needs an untyped network, whose weights cannot be left out.

    Raises:
        BadInput: a profile of several batches, a graph in other types, or weights to be left out.
    """
    if untyped and options.stripped:
        raise BadInput("--strip-weights with --dla-core", "one of them", "leave --strip-weights out")
    for low, opt, high in options.profiles:
        if low != high:
            raise BadInput(f"--dla-core with profile {low}:{opt}:{high}", "one batch: a DLA takes no dynamic one",
                           f"pass --batch {opt}:{opt}:{opt}")  # fmt: skip
    others = sorted(set(read_dialect(model).zero_points) - {"int8"})
    if others:
        raise BadInput(f"--dla-core with a graph in {', '.join(others)}", _OF_DLA, _FOR_DLA)
    layers = layers_of(model, QdqGraph(model))
    if not any(layer.eight_bits or layer.kind == onnx.TensorProto.FLOAT16 for layer in layers):
        raise BadInput("--dla-core with a graph whose layers are neither int8 nor fp16", _OF_DLA, _FOR_DLA)


def check_dry_run(artifact: Artifact, backend: str, options: EngineOptions) -> None:
    """What `compile` would refuse, and what no `trtexec` command builds: for a DLA with TensorRT 10.

    Names that a library must know are looked up where it is installed. `--capability` beside TensorRT, which builds for
    the GPU at hand, says whose limits the graph is held against.

    Raises:
        BadInput: that; no ONNX; what `check_graph` and `check_dla` refuse.
    """
    require_onnx(artifact, backend)
    lib = None
    with contextlib.suppress(EngineMissing):  # the command is for another machine
        lib = library(backend)
    if lib is not None:
        _check_words(lib, options if lib.builds_for_others else dataclasses.replace(options, capabilities=()))
    elif backend == "tensorrt_rtx":
        _check_rtx(options)
    model = read_onnx(artifact.model_path)
    check_graph(model, artifact, Target(backend, options.capabilities), options)
    if backend != "tensorrt" or options.dla_core is None:
        return
    untyped = lib is None or lib.implicit_int8  # TensorRT 10, as on JetPack 6
    check_dla(model, options, untyped)
    if untyped:
        raise BadInput(
            "--dry-run with --dla-core: trtexec of TensorRT 10 sets fp16 for a DLA, which it refuses of a typed "
            "network, and int8 is built of a rewritten graph and a calibration cache, which lie in no file",
            "a build, or TensorRT 11",
            "leave --dry-run out",
        )


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


def _check_gpu(lib: Library, options: EngineOptions) -> None:
    """TensorRT times kernels while it builds; TensorRT-RTX needs a GPU for engines without weights alone."""
    needs_gpu = not lib.builds_for_others or options.stripped
    problem = _cuda.driver_problem() if needs_gpu else ""
    if problem:
        what, instead = ("weight-stripped engines", "leave --strip-weights out") if lib.builds_for_others else (
            "engines", "use backend tensorrt_rtx")  # fmt: skip
        raise EngineMissing(f"{lib.name} builds {what} on a GPU only: {problem}", "an NVIDIA GPU and its driver",
                            f"run it on the device, or {instead}")  # fmt: skip
    if options.hardware == "ampere+" and float(capability := _cuda.compute_capability()) < 8:
        raise BadInput(f"--hardware ampere+ on a GPU of compute capability {capability}", "8.0 or above to build on",
                       "leave it out, or build on a newer GPU")  # fmt: skip


def _check_profiles(model: onnx.ModelProto, options: EngineOptions) -> None:
    """A profile must hold the batch that a graph of fixed shape has."""
    constants = {tensor.name for tensor in model.graph.initializer}  # older models list them among the inputs
    for tensor in model.graph.input:
        dimensions = tensor.type.tensor_type.shape.dim
        fixed = dimensions[0].dim_value if dimensions and tensor.name not in constants else 0
        wrong = [profile for profile in options.profiles if fixed and set(profile) != {fixed}]
        if wrong:
            low, opt, high = wrong[0]
            raise BadInput(f"profile {low}:{opt}:{high} for input {tensor.name}, whose batch is always {fixed}",
                           f"{fixed}:{fixed}:{fixed}", f"pass --batch {fixed}:{fixed}:{fixed}")  # fmt: skip
