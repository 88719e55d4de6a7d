"""The command that looks at an ONNX artifact before TensorRT's builder does, and rewrites what can be rewritten.

With `--for int8` it foretells what quantization will cost (`forecast`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..artifact import Artifact
from ..errors import BadInput, EngineFailed, EngineMissing, command
from ..words import counted
from . import forecast, options, render
from .build import done, need_build, place_of

if TYPE_CHECKING:  # onnx, which `tiffin --help` does without
    import onnx

    from ..export.graph.preflight import Applied, Finding, Target

_SHOWN = 5
_COST = {
    "same": "the answers stay the same",
    "float rounding": "the answers differ by float rounding",
    "changed": "the answers change",
}


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(doctor)


def doctor(
    context: typer.Context,
    artifact: Annotated[
        Path,
        typer.Argument(
            help="An ONNX artifact, or an engine, of which its source is looked at; --for: a checkpoint too."
        ),
    ],
    for_: Annotated[
        str | None, typer.Option("--for", help="int8: will it quantize? Foretells each layer's loss.")
    ] = None,
    scheme: Annotated[str, typer.Option(help="Of --for int8: cpu, cpu-vnni, cpu-u8 or tensorrt.")] = "cpu",
    data: options.Data = None,
    photos: Annotated[int, typer.Option(min=2, help="Of --for int8: photos of the select role to look at.")] = 16,
    rows: Annotated[int, typer.Option(min=1, help="Of --for int8: layers to print.")] = 12,
    seed: options.Seed = 0,
    backend: Annotated[str, typer.Option(help="tensorrt or tensorrt_rtx.")] = "tensorrt_rtx",
    capability: Annotated[
        list[str] | None, typer.Option(help="Compute capability such as 8.9, may repeat: what that GPU lacks.")
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Write an artifact with what a graph pass can fix.")] = False,
    out: Annotated[Path | None, typer.Option(help="With --fix: folder to write to. Default: beside it.")] = None,
    json: options.Json = False,
) -> None:
    """What TensorRT refuses, or int8 will hurt, by node.

    What TensorRT would refuse, read wrongly or run slowly in an ONNX artifact; with --for int8, which layers rounding
    will hurt, how much, and what helps.
    """
    if for_ is not None:
        forecast.require_known(for_)
        options.refuse(context, ("backend", "capability", "fix", "out"), "--for int8", "options of the forecast alone")
        need_build(("onnx", "onnxruntime"))
        forecast.tell(forecast.Asked(str(artifact), scheme, data, photos, rows, seed), json)
        return
    options.refuse(context, ("scheme", "data", "photos", "rows", "seed"), "no --for int8",
                   "--for int8, whose options they are")  # fmt: skip
    need_build(("onnx",))
    from ..export.graph.preflight import Target
    from ..export.onnx_source import read_onnx

    if out is not None and not fix:
        raise BadInput("--out without --fix", "--fix, which writes an artifact", "add it, or leave --out out")
    target = Target(backend, tuple(capability or ()))
    source = _source(Artifact.load(artifact))
    model = read_onnx(source.model_path)
    found, unchecked = _look(model, target)
    told: dict[str, Any] = {"artifact": str(artifact), "backend": backend, "capabilities": list(target.capabilities),
                            "unchecked": unchecked, "findings": _plain(found)}  # fmt: skip
    if not json:
        _show(found, unchecked, artifact, target, fix)
    if fix and any(each.fixed_by for each in found):
        place = place_of(artifact, out, "tensorrt")
        found, about = _fix(source, model, target, found, place, json)
        told |= about
    elif fix and not json:
        render.show("nothing here that --fix can change")
    if json:
        from .plain import as_json

        render.show(as_json(told))
    raise typer.Exit(1 if _errors(found) else 0)


def _source(artifact: Artifact) -> Artifact:
    """The ONNX artifact itself, or what travels in an engine."""
    from ..artifact.lineage import source_of

    form = artifact.manifest.format
    if form.startswith("tensorrt"):
        return source_of(artifact)
    if form != "onnx":
        raise BadInput(f"{artifact.folder}: format {form}", "an ONNX artifact, or an engine that was built from one",
                       "start from what `tiffin export` or `tiffin quantize` wrote")  # fmt: skip
    return artifact


def _look(model: onnx.ModelProto, target: Target) -> tuple[tuple[Finding, ...], list[str]]:
    """Findings, those of the library's own parser among them, and what was not checked."""
    from ..export.engine import ParserProblem, parser_problems
    from ..export.graph.preflight import Finding, examine, ordered

    found, unchecked = list(examine(model, target)), []
    if not target.capabilities:
        unchecked.append("what a GPU does not have: name one with --capability")
    problems: list[ParserProblem] = []
    try:
        if not any(each.check == "too-large" for each in found):  # no message of protobuf holds such a model
            problems = parser_problems(model.SerializeToString(), target.backend)
    except EngineMissing as missing:
        unchecked.append(f"operators, by {target.backend}'s own parser: {missing.what}; {missing.fix}".rstrip("; "))
    except EngineFailed as crash:
        problems = [ParserProblem("", "", crash.what)]
    known = {each.node for each in found if each.severity == "error"}
    for problem in problems:
        node = f"{problem.node or 'unnamed'} ({problem.operator})" if problem.operator else "the model"
        if node not in known:
            line = " ".join(problem.message.split())
            found.append(Finding("unsupported-operator", "error", node, line,
                                 "another operator in its place, or a plugin of TensorRT"))  # fmt: skip
    return ordered(found), unchecked


def _fix(
    source: Artifact, model: onnx.ModelProto, target: Target, found: Sequence[Finding], out: Path, quiet: bool
) -> tuple[tuple[Finding, ...], dict[str, Any]]:
    """Apply the passes, save, look again."""
    from ..export.graph.preflight import apply_fixes

    changed, applied = apply_fixes(model, found)
    remaining, unchecked = _look(changed, target)
    made = _save(source, changed, applied, remaining, target, out)
    about = {"applied": [_words(each) for each in applied], "wrote": str(out), "remaining": _plain(remaining)}
    if quiet:
        return remaining, about
    render.show("")
    for each in applied:
        render.show(f"{each.fix}: {counted(len(each.nodes), 'node')}; {_COST[each.answers]}")
    done(made)
    render.show("")
    _show(remaining, unchecked, out, target, fix=False)
    if any(each.answers == "changed" for each in applied):
        scored = command("score", source.folder, f"{out}@simulated", reference=source.folder)
        render.show(render.wrapped([f"the answers change: `{scored}` says by how much"]))
    if not _errors(remaining):
        render.next_command("compile", out, backend=target.backend, capability=list(target.capabilities))
    return remaining, about


def _save(
    source: Artifact,
    model: onnx.ModelProto,
    applied: Sequence[Applied],
    remaining: Sequence[Finding],
    target: Target,
    out: Path,
) -> Artifact:
    """The rewritten graph; its scheme is TensorRT's where nothing of another dialect is left."""
    import dataclasses

    from ..artifact import Producer
    from ..artifact.lineage import is_source
    from ..artifact.store import save
    from ..export.graph.preflight import DIALECT
    from ..machine import versions

    left = any(each.check in DIALECT and each.severity == "error" for each in remaining)
    scheme = "tensorrt" if source.manifest.scheme and not left else source.manifest.scheme
    about = {"passes": [_words(each) for each in applied], "backend": target.backend,
             "capabilities": list(target.capabilities)}  # fmt: skip
    manifest = dataclasses.replace(
        source.manifest,
        scheme=scheme,
        producer=Producer("doctor", versions(("onnx",)), about),
        parent=source.manifest.parent if is_source(source) else source.digest,
    )
    return save(out, manifest, {"model.onnx": model.SerializeToString(deterministic=True)})


def _show(found: Sequence[Finding], unchecked: Sequence[str], artifact: Path, target: Target, fix: bool) -> None:
    """One block a check, what was not checked, and the verdict last."""
    blocks: dict[tuple[str, str], list[Finding]] = {}
    for each in found:
        blocks.setdefault((each.severity, each.check), []).append(each)
    for (severity, check), members in blocks.items():
        render.show("\n".join(_block(severity, check, members)) + "\n")
    lines = [f"not checked: {what}" for what in unchecked]
    partly = "; but not all was checked" if len(unchecked) > (not target.capabilities) else ""
    render.show(render.wrapped([*lines, _verdict(found, artifact, target, fix) + partly]))


def _block(severity: str, check: str, members: Sequence[Finding]) -> list[str]:
    """Its heading, its first nodes, its fixes; what all of its nodes have in common is said once."""
    from ..export.graph.preflight import HEADINGS

    said = list(dict.fromkeys(each.what for each in members))
    more = f"and {len(members) - _SHOWN} more"
    if len(said) == 1:
        names = [each.node for each in members[:_SHOWN]] + ([more] if len(members) > _SHOWN else [])
        rows = [said[0], "at " + ", ".join(names)]
    else:
        rows = [f"{each.node}: {each.what}" for each in members[:_SHOWN]] + ([more] if len(members) > _SHOWN else [])
    rows += [f"fix: {each}" for each in dict.fromkeys(each.fix for each in members)]
    return [render.wrapped([f"{severity}: {HEADINGS[check]}"]), render.wrapped(rows, "  ", "    ")]


def _verdict(found: Sequence[Finding], artifact: Path, target: Target, fix: bool) -> str:
    """What stops the compile, and what it costs."""
    errors, warnings = _errors(found), [each for each in found if each.severity == "warning"]
    cost = f"{counted(len(warnings), 'warning')}: right, but slower or larger than it could be" if warnings else ""
    if not errors:
        return f"{artifact}: nothing stops the compile for {target.backend}" + (f"; {cost}" if cost else "")
    fixable = [each for each in errors if each.fixed_by]
    stops = f"{artifact}: {counted(len(errors), 'error')} for {target.backend}; --fix mends {len(fixable) or 'none'}"
    mend = command("doctor", artifact, backend=target.backend, fix=True)
    return stops + (f": `{mend}`" if fixable and not fix else "") + (f"; {cost}" if cost else "")


def _errors(found: Sequence[Finding]) -> list[Finding]:
    return [each for each in found if each.severity == "error"]


def _plain(found: Sequence[Finding]) -> list[dict[str, Any]]:
    from dataclasses import asdict

    return [asdict(each) for each in found]


def _words(applied: Applied) -> dict[str, Any]:
    """As a manifest keeps it."""
    return {"pass": applied.fix, "nodes": len(applied.nodes), "answers": applied.answers}
