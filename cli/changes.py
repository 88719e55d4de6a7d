"""What changed between two records, in the manner of Go's benchstat: `~` where nothing is proven, and what it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import plain
from .notes import verdict_line
from .render import Table, wrapped
from .tables import ms

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..records import Record
    from ..records.comparison import Answers, Change, RecordChange
    from ..records.speed import Comparison


def as_text(found: RecordChange, records: tuple[Record, Record], margin: float) -> str:
    """Tables of latency and of answers, and notes."""
    shown = [_latency_table(found, records[1]), _answers_table(found)]
    parts = [*(table.text() for table in shown if table.rows), wrapped(_notes(found, records, margin))]
    return "\n" + "\n\n".join(part for part in parts if part)


def _latency_table(found: RecordChange, after: Record) -> Table:
    rows = [
        [
            row.name,
            ms(row.before_s.value),
            ms(row.after_s.value),
            delta(row.speed) if row.speed else "the others' measure",
            _because(row.speed) if row.speed else "",
        ]
        for row in found.rows
        if row.before_s and row.after_s
    ]
    by_photo = any(rounds.regime == "throughput" for rounds in after.rounds.values())
    return Table(("ms a photo" if by_photo else "p50, ms", "before", "after", "delta (95 %)", "because"), rows)


def delta(speed: Comparison) -> str:
    """Such as `-7.2 % (-8.1 to -6.4)`, or `~, need ≥ 40` where neither faster nor slower is proven."""
    from ..records.speed import Speed

    if speed.speed is Speed.AMBIGUOUS:
        return f"~, need ≥ {speed.needed}" if speed.needed and speed.needed > speed.ratio.n else "~"
    if speed.speed not in (Speed.FASTER, Speed.SLOWER):
        return "= same" if speed.speed is Speed.SAME else "?"
    value, low, high = ((number - 1) * 100 for number in (speed.ratio.value, speed.ratio.low, speed.ratio.high))
    return f"{value:+.1f} % ({low:+.1f} to {high:+.1f})"


def _because(speed: Comparison) -> str:
    return f"p={speed.p:.2g} n={speed.ratio.n}"


def _answers_table(found: RecordChange) -> Table:
    rows = [_answers_row(row, row.answers) for row in found.rows if row.answers]
    return Table(("answers", "flips", "top-1 points (95 %)", "lost/won", "p"), rows)


def _answers_row(row: Change, answers: Answers) -> list[str]:
    flips = f"{answers.flips.count} ({answers.flips.rate.value:.2%})"
    if answers.top_1 is None or answers.mcnemar is None:
        return [row.name, flips, "no truth", "", ""]
    value, low, high = (number * 100 for number in (answers.top_1.value, answers.top_1.low, answers.top_1.high))
    counts = f"{answers.mcnemar.lost}/{answers.mcnemar.won}"
    return [row.name, flips, f"{value:+.2f} ({low:+.2f} to {high:+.2f})", counts, f"{answers.mcnemar.p_value:.2g}"]


def _notes(found: RecordChange, records: tuple[Record, Record], margin: float) -> list[str]:
    from ..records.environment import describe, differing

    notes = []
    if any(row.speed for row in found.rows):
        notes.append(
            f"each row relative to {found.anchor}, which is in both: drift between the two records cancels"
            if found.anchor
            else "no row is the same thing in both: drift between the two records is not covered by the intervals"
        )
    notes += _moved(found)
    for row in found.rows:
        if row.answers and row.answers.non_inferior:
            visible = row.answers.visible
            sees = f"; sees drops from {visible * 100:.2f} points" if visible else ""
            notes.append(verdict_line(row.name, row.answers.non_inferior, margin, sees))
    for row in found.rows:
        if bool(row.before_s) != bool(row.after_s):
            notes.append(f"{row.name}: timed only {'before' if row.before_s else 'after'}")
    notes += [f"{name}: ran with other {', '.join(words)}" for name, words in _other_runs(records).items()]
    notes += [f"only before: {name}" for name in found.gone] + [f"only after: {name}" for name in found.new]
    changed = differing(records[0].environment, records[1].environment)
    notes += [f"differs: {describe({name: pair})}" for name, pair in changed.items()]
    notes += [f"interrupted: {word}" for word, record in zip(("before", "after"), records, strict=True)
              if not record.complete]  # fmt: skip
    return notes


def _other_runs(records: tuple[Record, Record]) -> dict[str, list[str]]:
    """Rows of both whose engine applied something else: threads, lanes, version."""
    ours, theirs = ({row.name: row.applied for row in record.subjects if row.applied} for record in records)
    found = {
        name: sorted(f"{key} ({ours[name].get(key)} / {theirs[name].get(key)})" for key in {*ours[name], *theirs[name]}
                     if ours[name].get(key) != theirs[name].get(key))
        for name in ours if name in theirs
    }  # fmt: skip
    return {name: words for name, words in found.items() if words}


def _moved(found: RecordChange) -> list[str]:
    """What hits every row alike cancels with the drift: say how far the common measure itself has moved."""
    anchor = next((row for row in found.rows if row.name == found.anchor), None)
    if anchor is None or anchor.before_s is None or anchor.after_s is None:
        return []
    ratio = anchor.after_s.value / anchor.before_s.value
    return [
        f"{anchor.name} itself: {(ratio - 1) * 100:+.1f} %: the machine's drift, or a change that hits every row; "
        "these records cannot tell them apart, a bench side by side can"
    ]


def as_json(found: RecordChange, records: tuple[Record, Record]) -> str:
    """All that was derived, and the fields of the environment that differ."""
    from dataclasses import asdict

    from ..records.environment import differing

    changed = differing(records[0].environment, records[1].environment)
    return plain.as_json({**asdict(found), "differs": {name: list(pair) for name, pair in changed.items()}})
