"""Commands that read records: show; they measure nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import BadInput
from . import options, output


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(show)


def show(
    record: Annotated[Path, typer.Argument(help="A record's .json.")],
    details: Annotated[bool, typer.Option("--details", help="Photo to label and cold start split, sensors.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables in Markdown.")] = False,
    as_json: options.Json = False,
) -> None:
    """Print a record's tables again; measures nothing."""
    from ..optimize.candidates import REFERENCE
    from ..records.record import load_record

    loaded = load_record(record)
    names = [subject.name for subject in loaded.subjects]
    if not names:
        raise BadInput(f"{record}: a record of nothing", "a record with subjects")
    ran = [subject.name for subject in loaded.subjects if not subject.reason] or names
    output.print_record(loaded, REFERENCE if REFERENCE in names else ran[0], as_json, markdown, details)
