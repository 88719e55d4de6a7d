"""`tiffin baseline`: what `tiffin check` compares with, committed beside the code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BadInput
from . import output, render

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from collections.abc import Collection, Mapping

    from ..gate.measured import Measured


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    group = typer.Typer(no_args_is_help=True, help="The committed baseline of `tiffin check`.", rich_markup_mode=None)
    group.command()(update)
    group.command()(show)
    app.add_typer(group, name="baseline")


def update(
    records: Annotated[list[Path], typer.Argument(help="Records: bench, score or demo.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Baseline to write or renew.")] = Path("baseline.json"),
    only: Annotated[list[str] | None, typer.Option(help="Globs of the rows to keep. Default: all.")] = None,
    new: Annotated[bool, typer.Option("--new", help="Begin anew: other checkpoint, labels or photos.")] = False,
) -> None:
    """Write a baseline from records, and show what it changes. Entries of other machines stay."""
    from .. import machine
    from ..gate.baseline import SMALL_BYTES, Baseline, load_baseline, lost, require_comparable, to_json, updated
    from ..gate.measured import rows_of, same_machine
    from ..gate.policy import matches
    from ..records.record import load_record

    rows, _ = rows_of({str(path): load_record(path) for path in records})
    kept = [row for name, row in rows.items() if not only or matches(only, name)]
    if not any(not row.reason for row in kept):
        raise BadInput("no row to keep", f"globs that match one of: {', '.join(rows) or 'none'}")
    old = load_baseline(out) if out.exists() and not new else Baseline()
    named = {row.name: row for row in kept}
    known = old.rows(named)
    require_comparable(named, known, other_checkpoint=False)
    made = updated(old, kept, machine.utc_now(), machine.git_commit() or "")
    text = to_json(made)
    output.save_text(text, out)
    now = {name: row for name, row in made.rows(named).items() if name in named and not named[name].reason}
    render.show(changes(known, now, set(made.rows({}))))
    for name in now:
        if failed := named[name].failed:
            render.say(f"{name} did not run in {failed}")
    for name, row in now.items():
        if name in known and same_machine(row, known[name]) == "" and (gone := lost(row, known[name])):
            render.say(f"{name}: {', '.join(gone)} gone: of other versions or another artifact")
    size = len(text.encode())
    large = f", above {SMALL_BYTES // 1000} kB: keep fewer rows with --only" if size > SMALL_BYTES else ""
    render.say(f"wrote {out} ({size / 1000:.0f} kB{large})")
    render.next_command("check", "RECORD", baseline=out)


def changes(old: Mapping[str, Measured], new: Mapping[str, Measured], held: Collection[str]) -> str:
    """Rows of the old baseline and of the new side by side.

    Args:
        held: rows that the new baseline has, told anew or not.
    """
    rows = []
    for name in {**old, **new}:
        one, other = old.get(name), new.get(name)
        if one is None:
            word = "new"
        elif other is None:
            word = "kept" if name in held else "gone"
        else:
            word = "kept" if one.artifact == other.artifact else "changed"
        rows.append([name, word, _top_1(one), _top_1(other), _p50(one), _p50(other)])
    header = ("row", "", "top-1 was", "is", "p50 was", "is")
    return "\n" + render.Table(header, rows, left=2).text()


def _top_1(row: Measured | None) -> str:
    found = row.answers if row is not None else None
    return f"{100 * float((found.top[:, 0] == found.truth).mean()):.2f} %" if found is not None else ""


def _p50(row: Measured | None) -> str:
    import statistics

    timing = row.timing if row is not None else None
    return f"{1e3 * statistics.median(timing.p50_s.values()):.3g} ms" if timing is not None else ""


def show(path: Annotated[Path, typer.Argument(help="A baseline.")] = Path("baseline.json")) -> None:
    """What a baseline holds."""
    from ..gate.baseline import fingerprint, load_baseline
    from ..gate.measured import cpu_class

    found = load_baseline(path)
    rows = [
        [
            row.name,
            row.artifact[:12],
            fingerprint(row.environment)[:8],
            cpu_class(row.environment),
            _top_1(row),
            _p50(row),
        ]
        for row in found.entries
    ]
    header = ("row", "artifact", "machine", "class", "top-1", "p50")
    commit = f", commit {found.commit[:12]}" if found.commit else ""
    render.show("\n" + render.Table(header, rows, left=4).text() + f"\n\nmade {found.created}{commit}")
