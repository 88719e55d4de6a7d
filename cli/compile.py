"""The command that makes engines: OpenVINO IR, TensorRT and TensorRT-RTX engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..artifact import Artifact
from ..errors import BadInput
from . import render
from .build import done, need_build, place_of
from .options import only

if TYPE_CHECKING:  # onnx, which `tiffin --help` does without
    from ..export.engine import BuildProgress
    from ..export.engine_options import EngineOptions

_BACKENDS = ("openvino", "tensorrt", "tensorrt_rtx")
_OF_ALL, _OF_REBUILD = ("artifact", "out", "backend"), ("artifact", "out", "rebuild_for_this_device")


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command("compile")(compile_)


def compile_(
    context: typer.Context,
    artifact: Annotated[Path, typer.Argument(help="An ONNX artifact; an engine with --rebuild-for-this-device.")],
    backend: Annotated[str, typer.Option(help="openvino, tensorrt or tensorrt_rtx.")] = "openvino",
    out: Annotated[Path | None, typer.Option(help="Folder to write to. Default: beside the artifact.")] = None,
    rebuild_for_this_device: Annotated[
        bool,
        typer.Option(
            "--rebuild-for-this-device", help="Build an engine again, from the ONNX model that travels in it."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="TensorRT: check the graph, print the same build as a trtexec command.")
    ] = False,
    batch: Annotated[
        list[str] | None,
        typer.Option(help="TensorRT: optimization profile MIN:OPT:MAX, may repeat. Default: 1:1:16."),
    ] = None,
    capability: Annotated[
        list[str] | None,
        typer.Option(
            help="TensorRT: compute capability such as 8.9, may repeat. Default: this GPU; tensorrt_rtx: all from 8.0.",
        ),
    ] = None,
    workspace_mb: Annotated[int, typer.Option(min=1, help="TensorRT: scratch memory, MB.")] = 1024,
    optimization_level: Annotated[
        int, typer.Option(min=0, max=5, help="TensorRT: 0 builds fast, 5 searches longest.")
    ] = 3,
    tf32: Annotated[bool, typer.Option(help="TensorRT: let float32 layers compute in TF32.")] = True,
    strip_weights: Annotated[
        bool,
        typer.Option("--strip-weights", help="TensorRT: leave the weights out; loading refits them."),
    ] = False,
    version_compatible: Annotated[
        bool,
        typer.Option("--version-compatible", help="TensorRT: newer versions may load it too."),
    ] = False,
    hardware: Annotated[str, typer.Option(help="TensorRT: other GPUs: none, same-capability, ampere+.")] = "none",
    dla_core: Annotated[
        int | None, typer.Option(min=0, help="TensorRT: DLA of a Jetson; the GPU runs the rest.")
    ] = None,
    tactic_source: Annotated[
        list[str] | None, typer.Option(help="TensorRT: such as JIT_CONVOLUTIONS, may repeat.")
    ] = None,
    timing_cache: Annotated[
        Path | None,
        typer.Option(help="TensorRT: file of layer timings. Default: kept in the user cache."),
    ] = None,
) -> None:
    """ONNX to OpenVINO IR or a TensorRT engine."""
    need_build(("onnx",))  # engines are built on devices, which have no torch
    source = Artifact.load(artifact)
    if rebuild_for_this_device:
        only(context, _OF_REBUILD, "--rebuild-for-this-device, which takes the options of the first build")
        _rebuild(source, out)
        return
    if backend not in _BACKENDS:
        raise BadInput(f"nothing to compile for backend {backend!r}", ", ".join(_BACKENDS),
                       "onnxruntime and torch open what `tiffin export` writes")  # fmt: skip
    if backend == "openvino":
        only(context, _OF_ALL, "backend openvino")
        made = _openvino(source, place_of(artifact, out, backend))
    else:
        from ..export.engine_options import EngineOptions

        chosen = EngineOptions(
            _profiles(batch), workspace_mb << 20, tuple(capability or ()), optimization_level, tf32, hardware,
            version_compatible, strip_weights, dla_core, tuple(tactic_source or ()),
            str(timing_cache) if timing_cache else None,
        )  # fmt: skip
        if dry_run:
            _show_trtexec(source, backend, chosen)
            return
        made = _tensorrt(source, place_of(artifact, out, backend), backend, chosen)
    done(made)
    render.next_command("bench", made.folder)


def _openvino(source: Artifact, out: Path) -> Artifact:
    from ..export.to_openvino import to_openvino

    render.echo_options(backend="openvino", out=out)
    return to_openvino(source, out)


def _tensorrt(source: Artifact, out: Path, backend: str, chosen: EngineOptions) -> Artifact:
    from ..export.to_tensorrt import to_tensorrt

    words = {name: ", ".join(map(_word, value)) if isinstance(value, list) else value
             for name, value in chosen.plain().items()}  # fmt: skip
    render.echo_options(
        backend=backend, **{name: word for name, word in words.items() if word not in ("", None)}, out=out
    )
    made = to_tensorrt(source, out, backend, chosen, _progress())
    for name in made.manifest.producer.options["graph_passes"]:
        render.say(f"rewritten for this target: {name}")
    _say_fallback(made)
    return made


def _rebuild(engine: Artifact, out: Path | None) -> None:
    from ..export.to_tensorrt import rebuild

    render.echo_options(rebuild=engine.folder, backend=engine.manifest.format, out=out or engine.folder)
    made = rebuild(engine, out or engine.folder, _progress())
    _say_fallback(made)
    done(made)


def _say_fallback(made: Artifact) -> None:
    from ..export.to_tensorrt import layers_on_gpu

    if layers := layers_on_gpu(made):
        more = f" and {len(layers) - 3} more" if len(layers) > 3 else ""
        render.say(f"not on the DLA, but on the GPU: {'; '.join(layers[:3])}{more} (build.log)")


def _progress() -> BuildProgress:
    """A bar that never goes back, where somebody watches."""
    draw = render.TerminalProgress().bar("building the engine", 100)
    furthest = 0

    def step(phase: str, part: float) -> None:
        nonlocal furthest
        if round(100 * part) > furthest:
            furthest = round(100 * part)
            draw(furthest)

    return step


def _profiles(words: list[str] | None) -> tuple[tuple[int, int, int], ...]:
    """`1:4:16` as numbers.

    Raises:
        BadInput: not three numbers.
    """
    found = []
    for word in words or ["1:1:16"]:
        try:
            low, opt, high = (int(part) for part in word.split(":"))
        except ValueError:
            raise BadInput(f"profile {word!r}", "MIN:OPT:MAX, such as 1:4:16") from None
        found.append((low, opt, high))
    return tuple(found)


def _show_trtexec(source: Artifact, backend: str, chosen: EngineOptions) -> None:
    from ..export.engine_checks import check_dry_run
    from ..export.engine_options import trtexec

    check_dry_run(source, backend, chosen)
    rtx = backend == "tensorrt_rtx"
    if rtx and "7.5" in chosen.capabilities:
        render.say("tiffin compile rewrites the graph for this target first (gemm_as_conv); this command does not")
    if rtx and chosen.tactic_sources:
        render.say("tiffin compile sets the tactic sources; this command does not")
    tensor = source.manifest.inputs[0]
    render.show(trtexec(chosen, source.model_path, tensor.name, tensor.shape, backend))


def _word(value: object) -> str:
    return ":".join(map(str, value)) if isinstance(value, list) else str(value)
