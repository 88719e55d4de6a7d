"""One row as the gate knows it, whether it comes from records or from a committed baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..artifact.cpu_class import class_of
from ..errors import BadInput
from ..records import Predictions, Record, Rounds, Subject
from ..records.corruption import Corruption, blocks
from ..records.environment import MACHINE, describe, differing
from ..records.latency import launch_medians_s
from ..records.ratios import pace, unlike
from ..records.record import CONFIRM, Identity
from ..records.side_by_side import split
from ..records.slow_calls import SlowCalls

PHOTO = 16  # hex digits of a photo's pixel hash that are compared: 64 bits


@dataclass(frozen=True)
class Timing:
    """Latencies by launch.

    Args:
        p50_s: one value a launch, float64 seconds, by the launch's number.
        slow: the slowest calls; all of them, from a baseline a tenth, and None from one of schema 1.
        pace: regime, batch, lanes, what the regime is made of, threads (`records.ratios.unlike`).
        rounds: every call; None from a baseline.
    """

    p50_s: Mapping[int, float]
    slow: SlowCalls | None
    pace: Mapping[str, Any]
    rounds: Rounds | None = None

    @classmethod
    def of(cls, rounds: Rounds, subject: Subject, options: Mapping[str, Any]) -> Timing:
        """From raw latencies, and the options of their record."""
        calls = rounds.calls_by_launch()
        medians = dict(zip(calls, launch_medians_s(rounds).tolist(), strict=True))
        told = {**pace(rounds, options), "threads": subject.applied.get("threads")}
        return cls(medians, SlowCalls.of(calls), told, rounds)


@dataclass(frozen=True)
class Measured:
    """All that is known of one row.

    Args:
        name, artifact, checkpoint, place, run: as the record's subject has them; run is what was requested.
        source: the file that told it, for messages.
        session: which run its latencies are of: rows of one session were measured side by side.
        reason: why it did not run; empty where it did, in one of its records at least.
        failed: what its other records say of why it did not run; empty where it did in each.
        answers: photos by the first 16 digits of their hash; top 3 at least.
        labels, coarse: names by label index; empty where nothing tells.
        memory_bytes: peak of the worker.
        role: of the photos that were answered; empty where nothing tells.
        corrupted: answers under each corruption, the clean photos first.
        environment: of the machine.
    """

    name: str
    artifact: str = ""
    checkpoint: str = ""
    place: str = "native"
    run: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    session: str = ""
    reason: str = ""
    answers: Predictions | None = None
    labels: tuple[str, ...] = ()
    coarse: tuple[str, ...] = ()
    timing: Timing | None = None
    size_bytes: int = 0
    memory_bytes: int | None = None
    cold_start_s: tuple[float, ...] = ()
    corrupted: tuple[tuple[Corruption, Predictions], ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    role: str = ""
    failed: str = ""

    @property
    def identity(self) -> Identity:
        """What it is, its name aside."""
        return Identity.of(self.artifact, self.run, self.place)

    def label(self, index: int) -> str:
        """A class's name; its number where nothing names it."""
        return self.labels[index] if index < len(self.labels) else f"class {index}"


def cpu_class(environment: Mapping[str, Any]) -> str:
    """The class of the CPU that a record was made on; "" where it does not tell."""
    architecture = str(environment.get("system", "")).rpartition(" ")[2]
    found = class_of(frozenset(environment.get("cpu_features") or ()), architecture)
    return found.name if found else ""


def same_class(now: Measured, before: Measured) -> str:
    """Why the answers of two rows are not compared: their CPUs are of two classes; "" where they are of one."""
    one, other = cpu_class(before.environment), cpu_class(now.environment)
    if one == other:
        return ""
    return f"answers of CPU class {other or 'unknown'} against {one or 'unknown'}: int8 answers belong to a class; " \
           "make a baseline on this class, or compare with --against"  # fmt: skip


def same_machine(now: Measured, before: Measured) -> str:
    """Why the latencies of two rows are not compared: two machines; "" where they are of one."""
    found = differing(before.environment, now.environment, MACHINE)
    if not found and before.environment:
        return ""
    return f"latencies of two machines ({describe(found)}): compare old and new here with --against"


def unlike_pace(now: Timing | None, before: Timing | None, single_calls: bool = False) -> str:
    """Why two rows are not compared: they were measured at two paces; "" where they were not, or one tells no pace.

    Args:
        single_calls: judged is what batches and lanes make slower or larger under throughput as well: calls, memory.
    """
    if now is None or before is None:
        return ""
    differ = now.pace != before.pace if single_calls else unlike(now.pace, before.pace)
    one, other = (", ".join(f"{name} {value}" for name, value in timing.pace.items()) for timing in (before, now))
    return f"measured at {one}, now at {other}" if differ else ""


def rows_of(records: Mapping[str, Record]) -> tuple[dict[str, Measured], dict[str, Measured]]:
    """Rows of several records by name, merged: now, and earlier where a record holds both side by side.

    Args:
        records: file name → record.

    Raises:
        BadInput: a row of two artifacts or measured twice, or records with different labels.
    """
    now: dict[str, Measured] = {}
    earlier: dict[str, Measured] = {}
    for source, record in records.items():
        halves = split(record) if record.kind == "side-by-side" else (record,)
        for half, found in zip(halves, (now, earlier), strict=False):
            for row in _rows(half, source):
                found[row.name] = _merged(found[row.name], row) if row.name in found else row
    _require_one_set([*now.values(), *earlier.values()])
    return now, earlier


def _rows(record: Record, source: str) -> list[Measured]:
    labels, coarse = (tuple(record.data.get(key) or ()) for key in ("labels", "coarse"))
    parts = list(blocks(record)) if record.kind == "robustness" else []
    rows = []
    for row in record.subjects:
        answers = _short(record.predictions.get(row.name)) if not parts else None
        corrupted = tuple((corruption, found[row.name]) for corruption, found in parts if row.name in found)
        role = str(record.data.get("role") or "") if answers is not None or corrupted else ""
        rows.append(
            Measured(
                row.name, row.artifact, row.checkpoint, row.place, row.requested, source, source, row.reason, answers,
                labels, coarse, _timing(record, row), row.size_bytes, row.peak_bytes, row.cold_start_s, corrupted,
                record.environment, role,
            )
        )  # fmt: skip
    return rows


def _timing(record: Record, row: Subject) -> Timing | None:
    rounds = record.rounds.get(row.name)
    return Timing.of(rounds, row, record.options) if rounds is not None and rounds.blocks else None


def _short(found: Predictions | None) -> Predictions | None:
    return None if found is None else replace(found, photos=tuple(photo[:PHOTO] for photo in found.photos))


def _merged(one: Measured, other: Measured) -> Measured:
    """What two records tell of one row; nothing is told twice."""
    for what, mine, theirs in zip(Identity._fields, one.identity, other.identity, strict=True):
        if mine != theirs:
            raise BadInput(
                f"{one.name} is of {what} {mine[:12]} in {one.source} and of {theirs[:12]} in {other.source}",
                "records of one artifact, run in one way, by that name",
            )
    classes = [cpu_class(row.environment) or "unknown" for row in (one, other)]
    if classes[0] != classes[1] and (one.answers or other.answers):
        raise BadInput(
            f"{one.name} is of CPU class {classes[0]} in {one.source} and of {classes[1]} in {other.source}",
            "answers and latencies of one class of CPU: int8 answers belong to it",
            "judge the records of each machine on their own",
        )
    for what in ("answers", "timing", "corrupted"):
        if getattr(one, what) and getattr(other, what):
            raise BadInput(f"{one.name}: {what} in {one.source} and in {other.source}", "each measured once",
                           "leave one of the records out")  # fmt: skip
    reason = one.reason and other.reason
    told = [row.failed or (row.reason and f"{row.source}: {row.reason}") for row in (one, other) if not reason]
    timed, rest = (one, other) if one.timing or not other.timing else (other, one)
    return replace(
        timed,
        source=f"{one.source}, {other.source}",
        reason=reason,
        failed="; ".join(filter(None, told)),
        answers=one.answers or other.answers,
        corrupted=one.corrupted or other.corrupted,
        role=next((row.role for row in (one, other) if row.role not in ("", CONFIRM)), one.role or other.role),
        labels=one.labels or other.labels,
        coarse=one.coarse or other.coarse,
        cold_start_s=timed.cold_start_s or rest.cold_start_s,
        memory_bytes=timed.memory_bytes if timed.memory_bytes is not None else rest.memory_bytes,
    )


def _require_one_set(rows: Sequence[Measured]) -> None:
    """All that name labels name the same.

    Raises:
        BadInput: they do not.
    """
    named = [row for row in rows if row.labels]
    for row in named[1:]:
        if row.labels != named[0].labels:
            odd = [f"{a!r} / {b!r}" for a, b in zip(named[0].labels, row.labels, strict=False) if a != b]
            counts = f"{len(named[0].labels)} / {len(row.labels)}"
            raise BadInput(
                f"{named[0].source} and {row.source} have different labels ({odd[0] if odd else counts})",
                "records of one set of labels",
            )
