"""Latencies of two machines are never drawn side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...records.environment import MACHINE, differing
from ...words import counted
from ..rows import Row
from ..story import Story


def one_machine(story: Story, rows: Sequence[Row]) -> tuple[list[Row], str]:
    """Of rows that were run, those of the machine of the row in focus (else of the first), and what is left out."""
    base = next((row for row in rows if row.name == story.focus), rows[0] if rows else None)
    if base is None:
        return [], ""
    there = _environment(base)
    kept = [row for row in rows if not differing(there, _environment(row), MACHINE)]
    gone = sorted({row.sources[0].name for row in rows if row not in kept})
    said = (
        f"{counted(len(rows) - len(kept), 'row')} of another machine ({', '.join(gone)}) left out: no comparison."
        if gone
        else ""
    )
    return kept, said


def _environment(row: Row) -> Mapping[str, Any]:
    return (row.timed.source if row.timed else row.sources[0]).record.environment
