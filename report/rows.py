"""Candidates: each row of the records with what can be said of it against the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..artifact.certificate import MARGIN
from ..errors import BadInput
from ..records import Estimate, Predictions, Rounds, Subject, Verdict
from ..records.classification import top_k
from ..records.environment import MACHINE, differing
from ..records.latency import Latency, summarize
from ..records.paired import Flips, difference, flips, non_inferior
from ..records.ratios import pace, unlike
from ..records.record import CONFIRM
from ..records.speed import Comparison, compare_speeds
from .sources import Source


@dataclass(frozen=True)
class Answered:
    """A row's predictions, and the reference's to the same photos in the same record, if it has any."""

    source: Source
    found: Predictions
    base: Predictions | None = None

    @property
    def role(self) -> str:
        """Of the photos; empty where the record does not tell."""
        return str(self.source.record.data.get("role") or "")

    @property
    def chosen_by(self) -> bool:
        """True if choices are made by these photos: what was chosen on them looks better there than it is."""
        return self.role not in ("", CONFIRM)


@dataclass(frozen=True)
class Timed:
    """A row's raw latencies."""

    source: Source
    rounds: Rounds
    latency: Latency

    @property
    def pace(self) -> dict[str, Any]:
        """Regime, batch, lanes, and what the regime is made of."""
        return pace(self.rounds, self.source.record.options)

    @property
    def per(self) -> str:
        """What its median is of, where that is no call with one photo."""
        if self.rounds.regime == "throughput":
            return " a photo"
        return f" for {self.rounds.batch} photos" if self.rounds.batch > 1 else ""


@dataclass(frozen=True)
class Row:
    """One candidate.

    Args:
        number: from 1, as the charts call it.
        name: unique in the report; with the file where two records mean different things by one name.
        key: its name in its records.
        sources: records that have it, in the order given.
        top_1: share of photos answered rightly; None on synthesized images.
        change: top-1 less the reference's, Newcombe's paired interval.
        accuracy: non-inferiority at the margin asked for.
        speed: against the reference, measured side by side.
    """

    number: int
    name: str
    key: str
    subject: Subject
    sources: tuple[Source, ...]
    answered: Answered | None = None
    timed: Timed | None = None
    top_1: Estimate | None = None
    change: Estimate | None = None
    flips: Flips | None = None
    accuracy: Verdict | None = None
    speed: Comparison | None = None

    @property
    def is_elsewhere(self) -> bool:
        """True if it ran with the machine limited or emulated: what it says is of another CPU."""
        return self.subject.place != "native" and not self.subject.place.startswith("cores ")


def rows_of(sources: Sequence[Source], reference: str | None, margin: float = MARGIN) -> tuple[tuple[Row, ...], str]:
    """All rows, and the name of the reference among them (empty where there are no rows).

    Raises:
        BadInput: no row is called so.
    """
    rows = _gathered(sources)
    if reference is not None and reference not in [row.name for row in rows]:
        raise BadInput(
            f"no row {reference!r}", f"one of {', '.join(row.name for row in rows)}", "name it by --reference"
        )
    base = reference if reference is not None else _reference(rows)
    first = next((row for row in rows if row.name == base), None)
    judged = [_judged(row, first, margin) for row in rows]
    speeds = _speeds(judged, first)
    return tuple(replace(row, speed=speeds.get(row.name)) for row in judged), base


def _gathered(sources: Sequence[Source]) -> list[Row]:
    """Subjects of one name, identity and machine are one row."""
    held: dict[str, list[tuple[Subject, Source]]] = {}
    for source in sources:
        if source.has_rows:
            for subject in source.record.subjects:
                held.setdefault(subject.name, []).append((subject, source))
    rows: list[Row] = []
    for name, found in held.items():
        for number, group in enumerate(_alike(found)):
            shown = name if not number else f"{name} ({group[0][1].name})"
            subject = next((one for one, _ in group if not one.reason), group[0][0])
            rows.append(Row(len(rows) + 1, shown, name, subject, tuple(source for _, source in group)))
    return rows


def _alike(found: list[tuple[Subject, Source]]) -> list[list[tuple[Subject, Source]]]:
    groups: list[list[tuple[Subject, Source]]] = []
    for subject, source in found:
        for group in groups:
            same = group[0][0].identity == subject.identity
            if same and not differing(group[0][1].record.environment, source.record.environment, MACHINE):
                group.append((subject, source))
                break
        else:
            groups.append([(subject, source)])
    return groups


def _reference(rows: list[Row]) -> str:
    """The first fp32 row that was measured here; else the first that was, else the first."""
    ran = [row for row in rows if not row.subject.reason and not row.is_elsewhere]
    floats = [row for row in ran if row.subject.precision == "fp32"]
    return next((row.name for row in (*floats, *ran, *rows)), "")


def _judged(row: Row, base: Row | None, margin: float) -> Row:
    answered, timed = _answered(row, base), _timed(row)
    row = replace(row, answered=answered, timed=timed)
    if answered is None:
        return row
    on_photos = answered.found.kind == "photos"
    row = replace(row, top_1=top_k(answered.found) if on_photos else None)
    if answered.base is None or base is None or row.name == base.name:
        return row
    row = replace(row, flips=flips(answered.found, answered.base))
    if not on_photos:
        return row
    pair = answered.found, answered.base
    return replace(row, change=difference(*pair), accuracy=non_inferior(*pair, margin))


def _is_in(source: Source, base: Row | None) -> bool:
    """True if what a record calls as the reference is called is the reference, wherever it ran."""
    found = {subject.name: subject for subject in source.record.subjects}
    other = found.get(base.key) if base is not None else None
    return base is not None and other is not None and (
        other.identity._replace(place="") == base.subject.identity._replace(place="")
    )  # fmt: skip


def _answered(row: Row, base: Row | None) -> Answered | None:
    """Of its records those where the reference answered the same photos, of these those whose photos no choice was made
    by, of these the one with most photos."""
    found = []
    for source in row.sources:
        mine = source.record.predictions.get(row.key)
        other = source.record.predictions.get(base.key) if base is not None and _is_in(source, base) else None
        if mine is not None and len(mine):
            found.append(Answered(source, mine, mine.beside(other)))
    return max(found, key=lambda one: (one.base is not None, not one.chosen_by, len(one.found)), default=None)


def _timed(row: Row) -> Timed | None:
    for source in row.sources:
        rounds = source.record.rounds.get(row.key)
        if rounds is not None and (latency := summarize(rounds)):
            return Timed(source, rounds, latency)
    return None


def _speeds(rows: list[Row], base: Row | None) -> dict[str, Comparison]:
    """Each row against the reference of its own record, corrected together."""
    pairs = {}
    for row in rows:
        if row.timed is None or base is None or row.name == base.name or not _is_in(row.timed.source, base):
            continue
        other = row.timed.source.record.rounds.get(base.key)
        if other is not None and not unlike(pace(row.timed.rounds, {}), pace(other, {})):
            pairs[row.name] = row.timed.rounds, other
    return compare_speeds(pairs)
