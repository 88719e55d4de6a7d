"""Commands that read records: show, compare; they measure nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import BadInput
from . import certificates, changes, explain, fidelity, load, options, output, parting, render, selftest


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(show)
    app.command()(compare)


def show(
    record: Annotated[Path, typer.Argument(help="A record's .json.")],
    details: Annotated[
        bool, typer.Option("--details", help="Photo to label and cold start split, sensors, answers by class.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables in Markdown.")] = False,
    as_json: options.Json = False,
) -> None:
    """Print a record's tables again; measures nothing."""
    from ..optimize.proof import reference_of
    from ..records.record import load_record

    loaded = load_record(record)
    if loaded.kind == "loadgen":
        load.show_result(loaded, as_json)
        return
    if loaded.kind == "explain":
        explain.show_result(loaded, as_json, markdown)
        return
    if loaded.kind == "debug":
        parting.show_result(loaded, as_json, markdown)
        return
    if loaded.kind == "fidelity":
        fidelity.show_result(loaded, as_json, markdown)
        return
    if loaded.kind == "certify":
        render.show(certificates.as_json(loaded) if as_json else certificates.as_text(loaded, markdown))
        return
    if not loaded.subjects:
        raise BadInput(f"{record}: a record of nothing", "a record with subjects")
    output.print_record(loaded, reference_of(loaded), as_json, markdown, details)
    if loaded.kind == "selftest" and not as_json:
        render.show("\n" + selftest.checks_text(loaded))


def compare(
    before: Annotated[Path, typer.Argument(help="A record's .json.", show_default=False)],
    after: Annotated[Path, typer.Argument(help="Another's, with rows of the same names.", show_default=False)],
    threshold: Annotated[float, typer.Option(help="Smaller effects are the same: 0.01 is one per cent.")] = 0.01,
    margin: Annotated[float, typer.Option(help="Non-inferiority margin of top-1: 0.01 is one point.")] = 0.01,
    across_machines: Annotated[
        bool, typer.Option("--across-machines", help="Compare records of two machines all the same.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """What changed from one record to another. Latency, answers, accuracy; ~ where nothing is proven."""
    from ..records.comparison import compare_records
    from ..records.environment import require_same_machine
    from ..records.record import load_record

    if threshold <= 0 or not 0 < margin < 1:
        raise BadInput(f"threshold {threshold}, margin {margin}", "both above 0, the margin below 1; 0.01 is one point")
    records = load_record(before), load_record(after)
    if not across_machines:
        require_same_machine(records, (str(before), str(after)))
    found = compare_records(*records, threshold=threshold, margin=margin)
    render.show(changes.as_json(found, records) if as_json else changes.as_text(found, records, margin))
