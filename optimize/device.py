"""Records that a device measured, as one record to decide from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import BadInput
from ..records import Record
from ..records.environment import require_same_machine


def merged(records: Sequence[Record], names: Sequence[str], reference: str | None) -> tuple[Record, str]:
    """Latencies of one record and answers of another, by the artifacts' digests.

    Args:
        names: what to call the records in an error.
        reference: the subject that is the given model in fp32; None takes the first that is fp32.

    Raises:
        BadInput: records of different machines, two that timed, two that scored, none that did either, or no such
            reference.
    """
    timed, scored = ([record for record in records if getattr(record, what)] for what in ("rounds", "predictions"))
    for found, what in ((timed, "latencies"), (scored, "answers")):
        if len(found) != 1:
            raise BadInput(f"{len(found)} of {', '.join(names)} hold {what}", "one record with latencies (bench) and "
                           "one with answers (score), or one with both")  # fmt: skip
    if len(records) > 1:
        require_same_machine((records[0], records[1]), (names[0], names[1]))
    both = _joined(timed[0], scored[0])
    first = reference or next((row.name for row in both.subjects if row.precision == "fp32" and not row.reason), "")
    if first not in both.rounds or first not in both.predictions:
        known = ", ".join(name for name in both.rounds if name in both.predictions) or "none"
        raise BadInput(f"reference {first!r} was not both timed and scored", f"one of: {known}", "pass --reference")
    return both, first


def _joined(timed: Record, scored: Record) -> Record:
    """The timed record's subjects, each with the answers of the same artifact on the same engine."""
    if timed is scored:
        return timed
    answers = {row.identity: scored.predictions[row.name] for row in scored.subjects if row.name in scored.predictions}
    known = {row.identity for row in timed.subjects}
    limited = [row for row in scored.subjects if row.place != "native" and row.identity not in known]
    found = {row.name: answers[row.identity] for row in (*timed.subjects, *limited) if row.identity in answers}
    return replace(timed, subjects=(*timed.subjects, *limited), predictions=found, data=scored.data)
