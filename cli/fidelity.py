"""The command that compares artifacts of networks that are no classifiers: fidelity."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import BadInput
from . import fed, options, output, plain, render

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..records import Record
    from ..records.fidelity import Fidelity

_HEADER = ("artifact", "output", "measure", "found", "worst", "SQNR dB", "max diff")


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(fidelity)


def fidelity(
    artifacts: options.Scored,
    feeds: Annotated[Path | None, typer.Option(help="An .npz of inputs by name, (N, …) each.")] = None,
    photos: Annotated[
        str | None, typer.Option(help="A folder of photos, or how many of --role, for artifacts that take photos.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="An .npz of what the outputs should be, by name. Default: the first artifact's.")
    ] = None,
    peak: Annotated[
        float | None,
        typer.Option(help="Of PSNR: 1 of a sigmoid's, 2 of a tanh's. Default: the wanted values' span."),
    ] = None,
    backend: options.Backend = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    data: options.Data = None,
    role: Annotated[str | None, typer.Option(help="Role of the photos. Default: select, else calibrate.")] = None,
    seed: options.Seed = 0,
    out: Annotated[Path, typer.Option(help="Record to write.")] = Path("out/fidelity.json"),
    as_json: options.Json = False,
) -> None:
    """PSNR, IoU of networks that are no classifiers. How near artifacts stay to the first, or to --truth."""
    from dataclasses import replace

    from ..benchmarks.fidelity import compare_outputs
    from ..quantize.named_feeds import read_arrays

    if (feeds is None) == (photos is None):
        raise BadInput(f"{'both' if feeds else 'neither'} of --feeds and --photos", "one of them")
    if peak is not None and not peak > 0:
        raise BadInput(f"--peak {peak}", "more than 0")
    rows = options.candidates(artifacts, backend, threads, precision, only_scored=True)
    given, about = fed.from_file(rows, feeds) if feeds else fed.from_photos(rows, str(photos), data, role, seed)
    wanted = read_arrays(truth) if truth else None
    output.prepare_record(out)
    render.echo_options(data=about["name"], count=about["count"], against=truth or rows[0].name, peak=peak, out=out)
    found = compare_outputs(rows, given, wanted, render.TerminalProgress().bar("rows", about["count"]))
    record = replace(found, data=about, options={**found.options, "peak": peak})
    show_result(record, as_json)
    output.save(record, out)
    output.say_record(out)
    others = record.subjects[1:]
    if others and all(subject.reason for subject in others):
        render.say("nothing was compared; the reasons stand above")
        raise typer.Exit(1)


def show_result(record: Record, as_json: bool, markdown: bool = False) -> None:
    """Print a record of kind "fidelity"."""
    if as_json:
        render.show(plain.as_json(fidelity_json(record)))
        return
    table = render.Table(_HEADER, list(_rows(record)), left=3)
    said = list(_said(record))
    if markdown:
        render.show(table.markdown() + "\n\n" + "\n".join(f"- {line}" for line in said))
    else:
        render.show(f"{table.compact().text()}\n\n{render.wrapped(said)}")


def _held(record: Record) -> Iterator[tuple[str, str, Fidelity]]:
    from ..records.fidelity import from_plain

    for name, outputs in record.options["outputs"].items():
        for output_, raw in outputs.items():
            yield name, output_, from_plain(raw)


def _measure(held: Fidelity, peak: float | None) -> tuple[str, str, str]:
    """Its name, the middle and the worst: over rows of pictures, over classes of maps."""
    import numpy as np

    if held.counts:
        found = held.iou()
        return "mean IoU", f"{np.nanmean(found):.4f}", f"{np.nanmin(found):.4f}"
    found = held.psnr(peak)
    return ("median PSNR", f"{np.median(found):.1f}", f"{found.min():.1f}") if len(found) else ("–", "–", "–")


def _rows(record: Record) -> Iterator[tuple[str, ...]]:
    for name, output_, held in _held(record):
        near = (f"{held.close.sqnr_db:.1f}", f"{held.close.largest:.2g}") if held.close.n else ("–", "–")
        yield name, output_, *_measure(held, record.options["peak"]), *near


def _said(record: Record) -> Iterator[str]:
    count, against = record.data["count"], record.options["against"]
    yield f"{count} rows of {record.data['name']}, compared with {'the truth' if against == 'truth' else against}"
    everything = [held for _, _, held in _held(record)]
    if any(held.counts for held in everything):
        yield "IoU: mean and worst over classes that occur, pixels of all rows together"
    for name, output_, held in _held(record):
        if held.counts:
            yield f"{name}, {output_}: {100 * held.alike:.2f} % of the pixels have the same class"
    if any(held.errors for held in everything):
        peak = record.options["peak"]
        yield f"PSNR in dB: median and worst of rows, peak {peak if peak else 'the span of what is wanted'}"
    for subject in record.subjects:
        if subject.reason:
            yield f"{subject.name}: {subject.reason}"


def fidelity_json(record: Record) -> dict[str, Any]:
    """Everything derived, as plain values."""
    return {
        "environment": dict(record.environment),
        "data": dict(record.data),
        "task": record.options["task"],
        "against": record.options["against"],
        "artifacts": {subject.name: subject.reason or None for subject in record.subjects},
        "outputs": [
            {"artifact": name, "output": output_, "iou": held.iou().tolist(), "alike": held.alike,
             "psnr_db": held.psnr(record.options["peak"]).tolist(), "sqnr_db": held.close.sqnr_db,
             "max_difference": held.close.largest}
            for name, output_, held in _held(record)
        ],
    }  # fmt: skip
