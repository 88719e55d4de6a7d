"""Latencies of two machines or paces are never drawn side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...records.environment import MACHINE, differing
from ...records.ratios import unlike
from ...words import counted
from ..rows import Row
from ..sources import Source
from ..story import Story


def one_machine(story: Story, rows: Sequence[Row]) -> tuple[list[Row], str]:
    """Of rows that were run, those of the machine of the row in focus (else of the first), and what is left out."""
    there = _environment(_base(story, rows)) if rows else {}
    kept = [row for row in rows if not differing(there, _environment(row), MACHINE)]
    return kept, _left_out(rows, kept, "machine")


def comparable(story: Story, rows: Sequence[Row], single_calls: bool = False) -> tuple[list[Row], str]:
    """The same of rows that were timed, and of these the ones of one pace.

    Args:
        single_calls: their calls are shown one by one; else throughput, which is by photo, compares over batches.
    """
    here, elsewhere = one_machine(story, rows)
    first = _base(story, here).timed if here else None
    kept = [row for row in here if row.timed and first and _alike(row.timed.pace, first.pace, single_calls)]
    words = (elsewhere, _left_out(here, kept, "regime, batch or number of lanes"))
    return kept, " ".join(part for part in words if part)


def per(rows: Sequence[Row]) -> str:
    """What the medians of comparable rows are of."""
    return rows[0].timed.per if rows and rows[0].timed else ""


def _base(story: Story, rows: Sequence[Row]) -> Row:
    return next((row for row in rows if row.name == story.focus), rows[0])


def _alike(one: Mapping[str, Any], other: Mapping[str, Any], single_calls: bool) -> bool:
    return one == other if single_calls else not unlike(one, other)


def _left_out(rows: Sequence[Row], kept: Sequence[Row], what: str) -> str:
    gone = [row for row in rows if row not in kept]
    files = ", ".join(sorted({_source(row).name for row in gone}))
    return f"{counted(len(gone), 'row')} of another {what} ({files}) left out: no comparison." if gone else ""


def _source(row: Row) -> Source:
    return row.timed.source if row.timed else row.sources[0]


def _environment(row: Row) -> Mapping[str, Any]:
    return _source(row).record.environment
