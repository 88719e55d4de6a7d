"""All that a report says, derived from records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..artifact.certificate import MARGIN
from ..errors import BadInput
from ..records import Record, load_record
from ..records.findings import GateResult
from ..records.paired import require_margin
from . import answer
from .answer import Answer
from .rows import Row, rows_of
from .sources import Source


@dataclass(frozen=True)
class Story:
    """The whole.

    Args:
        reference: name of the row that others are compared with; empty without rows.
        focus: name of the row that detailed charts are about: the one to ship, else the nearest to it.
        history: earlier records, oldest first, by file name.
        skipped: files of the history's folder that are no records.
    """

    sources: tuple[Source, ...]
    rows: tuple[Row, ...]
    reference: str
    focus: str
    answer: Answer
    margin: float = MARGIN
    gate: GateResult | None = None
    history: tuple[tuple[str, Record], ...] = ()
    skipped: tuple[str, ...] = field(default=())

    def row(self, name: str) -> Row | None:
        """The row of this name."""
        return next((row for row in self.rows if row.name == name), None)

    def of_kind(self, kind: str) -> Source | None:
        """The first record of a kind."""
        return next((source for source in self.sources if source.record.kind == kind), None)

    @property
    def data(self) -> Mapping[str, Any]:
        """What was scored, by the record that the focus's answers are from, else by the first that says."""
        row = self.row(self.focus)
        if row is not None and row.answered is not None:
            return row.answered.source.record.data
        return next((source.record.data for source in self.sources if source.record.data), {})

    def label(self, index: int) -> str:
        """A class's name, or its number where no record has names."""
        labels: Sequence[str] = self.data.get("labels") or ()
        return labels[index] if index < len(labels) else f"class {index}"


def tell(
    sources: tuple[Source, ...],
    gate: GateResult | None = None,
    reference: str | None = None,
    margin: float = MARGIN,
    history: Path | None = None,
) -> Story:
    """Derive everything.

    Raises:
        BadInput: the reference is no row, a margin outside of 0 to 1, or a gate that judged other records.
    """
    require_margin(margin)
    _require_judged(gate, sources)
    rows, base = rows_of(sources, reference, margin)
    found = answer.by_gate(gate, rows) if gate else answer.by_records(rows, base, margin)
    earlier, skipped = _history(history) if history else ((), ())
    return Story(sources, rows, base, _focus(rows, base, found), found, margin, gate, earlier, skipped)


def _require_judged(gate: GateResult | None, sources: Sequence[Source]) -> None:
    """The gate's records are among these, by their hash."""
    given = {source.sha256 for source in sources}
    other = [one["file"] for one in (gate.records if gate else ()) if one["sha256"] not in given]
    if other:
        raise BadInput(f"gate.json is about {', '.join(other)}: not among these records, or changed since",
                       "the records that the gate judged", "judge these: `tiffin check RECORDS --out DIR`")  # fmt: skip


def _focus(rows: Sequence[Row], base: str, found: Answer) -> str:
    """The row to ship; else of those judged here the one that loses least, the faster first among equals."""
    if any(row.name == found.row for row in rows):
        return found.row
    others = [row for row in rows if row.name != base and not row.is_elsewhere]
    scored = [row for row in others if row.change or row.flips]

    def loss(row: Row) -> tuple[float, float]:
        kept = row.change.value if row.change else -row.flips.rate.value if row.flips else 0.0
        return -kept, row.timed.latency.p50_s.value if row.timed else float("inf")

    timed = [row for row in others if row.timed]
    best = min(scored, key=loss, default=None) or min(timed, key=lambda row: loss(row)[1], default=None)
    return best.name if best else base


def _history(folder: Path) -> tuple[tuple[tuple[str, Record], ...], tuple[str, ...]]:
    if not folder.is_dir():
        raise BadInput(f"{folder}: no folder", "a folder of earlier records", "correct --history")
    found, skipped = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append((path.name, load_record(path)))
        except BadInput:
            skipped.append(path.name)
    return tuple(sorted(found, key=lambda one: one[1].created)), tuple(skipped)
