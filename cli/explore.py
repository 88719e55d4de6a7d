"""Commands that look into a model layer by layer: sensitivity, roofline."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..words import counted
from . import chart, options, output, plain, render
from .build import dataset_of, need_build

if TYPE_CHECKING:  # onnx, which `tiffin --help` does without
    from ..benchmarks.roofline import LayerTime, Roofline
    from ..quantize.sensitivity import LayerSensitivity

# Of both records; docs/sensitivity.md publishes their fields.
RECORD_VERSION = 1


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(sensitivity)
    app.command()(roofline)


def sensitivity(
    parent: Annotated[Path, typer.Argument(help="The fp32 ONNX artifact.")],
    quantized: Annotated[Path, typer.Argument(help="An int8 ONNX artifact made from it.")],
    data: options.Data = None,
    role: Annotated[str, typer.Option(help="Role of the photos: select, or calibrate.")] = "select",
    photos: Annotated[int, typer.Option(min=1, help="How many.")] = 48,
    rows: Annotated[int, typer.Option(min=1, help="Layers to print.")] = 20,
    plot: Annotated[Path | None, typer.Option(help="Picture of all layers to write, .svg.")] = None,
    seed: options.Seed = 0,
    out: Annotated[Path, typer.Option(help="Record to write.")] = Path("out/sensitivity.json"),
    as_json: options.Json = False,
) -> None:
    """What each layer's quantization costs, on photos."""

    need_build()
    from ..artifact import Artifact
    from ..data import sample
    from ..data.prepared import prepare_photos
    from ..errors import BadInput
    from ..quantize.sensitivity import divergence, most_sensitive
    from ..quantize.sensitivity import sensitivity as find

    given, made = Artifact.load(parent), Artifact.load(quantized)
    options.require_classifier(given)
    options.require_classifier(made)
    if role not in ("select", "calibrate"):
        raise BadInput(f"role {role!r}", "select or calibrate: what decides never looks at confirm")
    output.require_ending("--plot", plot, ".svg")
    host = given.preprocess
    output.make_parent(out)
    if plot:
        output.make_parent(plot, "--plot")
    dataset = dataset_of(data)
    drawn = sample(dataset.role(role), photos, seed)
    render.echo_options(data=dataset.name, role=role, photos=len(drawn), seed=seed, out=out)
    with tempfile.TemporaryDirectory() as scratch:
        prepared = prepare_photos(drawn, host, Path(scratch), dataset.kind)
        pixels = prepared.array()
        progress = (lambda done, total: None) if as_json else render.TerminalProgress().counted("layers")
        found = find(given, made, pixels, progress)
        whole = divergence(given, made, pixels)
    about = {"name": dataset.name, "kind": dataset.kind, "role": role, "count": len(drawn), "photos": prepared.digest()}
    body = _record("sensitivity", {"parent": given.digest, "quantized": made.digest}, data=about, kl_whole=whole,
                   layers=[vars(row) for row in found])  # fmt: skip
    render.show(plain.as_json(body) if as_json else sensitivity_text(found, whole, len(drawn), rows))
    output.save_text(plain.as_json(body) + "\n", out)
    if plot:
        output.save_text(sensitivity_chart(found, Path(quantized).name), plot, "--plot")
    render.say(f"record: {out}" + (f", picture: {plot}" if plot else ""))
    told = made.manifest.producer.options
    asked = {name: told[name] for name in ("scheme", "quantizer") if told.get(name)}
    render.next_command("quantize", parent, **asked, float_node=most_sensitive(found, 1)[0])


def sensitivity_text(found: Sequence[LayerSensitivity], whole: float, photos: int, rows: int) -> str:
    """The worst layers as a table of at most 80 columns, with a bar each."""
    worst = sorted(found, key=lambda row: -row.kl)
    total = sum(row.kl for row in found)
    largest = max(worst[0].kl, 0.0) or 1.0
    cells = [
        [row.node, row.op, f"{row.kl * 1e3:.4f}", f"{row.kl / total:.0%}" if total > 0 else "", f"{row.sqnr_db:.1f}",
         ("█" * max(0, round(16 * row.kl / largest))).ljust(16)]
        for row in worst[:rows]
    ]  # fmt: skip
    table = render.Table(("layer", "op", "KL mnat", "of sum", "SQNR dB", "KL"), cells, left=2)
    said = [
        f"KL: divergence from fp32 where this layer alone is quantized, mean of {photos} photos; SQNR: at its output",
        f"all {len(found)} quantized layers together {whole * 1e3:.4f} mnat; the sum of each alone {total * 1e3:.4f}",
    ]
    return f"\n{table.text()}\n\n{render.wrapped(said)}"


def sensitivity_chart(found: Sequence[LayerSensitivity], name: str) -> str:
    """All layers in the graph's order."""
    bars = [chart.Bar(row.node, row.kl * 1e3, f"{row.sqnr_db:.0f} dB") for row in found]
    return chart.bar_chart(f"{name}: what each layer's quantization costs", "KL from fp32, mnat a photo", bars)


def roofline(
    artifact: Annotated[Path, typer.Argument(help="An artifact for ONNX Runtime or OpenVINO.")],
    backend: options.Backend = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    batch: Annotated[int, typer.Option(min=1, help="Photos a call.")] = 1,
    calls: Annotated[int, typer.Option(min=3, help="Profiled calls; the median of each layer counts.")] = 50,
    rows: Annotated[int, typer.Option(min=1, help="Layers to print.")] = 20,
    out: Annotated[Path, typer.Option(help="Record to write.")] = Path("out/roofline.json"),
    as_json: options.Json = False,
) -> None:
    """Each layer's time beside the least this CPU allows. The time is by the engine's own profile."""
    from dataclasses import asdict

    need_build(("onnx",))  # in which the matrix products are written
    from ..benchmarks.roofline import measure_roofline

    (candidate,) = options.candidates([str(artifact)], backend, threads, precision)
    assert candidate.artifact is not None and candidate.run is not None
    output.make_parent(out)
    render.echo_options(backend=candidate.run.backend, batch=batch, calls=calls, out=out)
    found = measure_roofline(candidate.artifact, candidate.run, calls, batch, render.say)
    body = _record("roofline", {"name": candidate.name, "artifact": candidate.artifact.digest}, batch=batch,
                   requested=asdict(candidate.run), **found.to_json())  # fmt: skip
    render.show(plain.as_json(body) if as_json else roofline_text(found, rows))
    output.save_text(plain.as_json(body) + "\n", out)
    render.say(f"record: {out}")


def roofline_text(found: Roofline, rows: int) -> str:
    """Layers by the time that is left in them, operators in sum, and what the limits are."""
    total = sum(row.seconds for row in found.layers)
    worst = sorted(found.layers, key=lambda row: -row.left_s)
    shown = [[row.name, _short(row.op), *_cells([row], total)] for row in worst[:rows]]
    if worst[rows:]:
        shown.append([f"{len(worst[rows:])} others", "", *_cells(worst[rows:], total)])
    header = ("ms", "%", "GOP", "MB", "bound", "by", "reach")
    kinds = {op: [row for row in found.layers if row.op == op] for op in dict.fromkeys(row.op for row in found.layers)}
    ordered = sorted(kinds.items(), key=lambda item: -sum(row.left_s for row in item[1]))
    sums = [[op, str(len(held)), *_cells(held, total)] for op, held in (*ordered, ("all", found.layers))]
    tables = [render.Table(("layer", "op", *header), shown, left=2), render.Table(("op", "layers", *header), sums)]
    return "\n" + "\n\n".join([*(table.text() for table in tables), render.wrapped(_roofline_notes(found, total))])


def _cells(held: Sequence[LayerTime], total: float) -> list[str]:
    seconds, bound = sum(row.seconds for row in held), sum(row.bound_s for row in held)
    by = {row.bound_by for row in held}
    return [
        f"{seconds * 1e3:.3f}", f"{seconds / total * 100:.0f}", f"{sum(row.ops for row in held) / 1e9:.3f}",
        f"{sum(row.bytes for row in held) / 1e6:.2f}", f"{bound * 1e3:.3f}",
        {"compute": "ops", "memory": "bytes"}[by.pop()] if len(by) == 1 else "both",
        f"{bound / seconds:.0%}" if seconds else "",
    ]  # fmt: skip


def _short(op: str) -> str:
    short = op.replace("Convolution", "Conv").replace("Linear", "Lin")
    return short if len(short) <= 11 else f"{short[:10]}…"


def _roofline_notes(found: Roofline, total: float) -> list[str]:
    applied, limits = found.applied, found.limits
    bound, left = (sum(getattr(row, name) for row in found.layers) * 1e3 for name in ("bound_s", "left_s"))
    gives = "; ".join(f"{kind} {rate / 1e9:.1f} Gop/s ({limits.by[kind]})" for kind, rate in limits.ops_per_s.items())
    copies = ", ".join(f"{rate / 1e9:.1f} at {size / 2**20:g} MB" for size, rate in limits.bytes_per_s.items())
    threads = counted(applied["threads"], "thread")
    return [
        f"layers {total * 1e3:.2f} ms while profiled, a whole call {found.call_s * 1e3:.2f} ms without (medians); "
        f"bound {bound:.2f} ms; left, over the layers above their bound, {left:.2f} ms",
        f"{applied['backend']} {applied['version']}, {threads}; this CPU gives {gives}; GB/s of copies: {copies}",
        "bound: the greater of operations at that rate and bytes (inputs, weights, outputs) at a copy's of that size, "
        "ms; reach: bound / ms, above 100 % where a kernel beats the product or the copy",
    ]


def _record(kind: str, subject: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    from .. import machine

    return {"kind": kind, "version": RECORD_VERSION, "created": machine.utc_now(),
            "environment": machine.environment(), "subject": dict(subject), **fields}  # fmt: skip
