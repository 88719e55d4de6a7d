"""A record of kind "side-by-side": each artifact as it was and as it is, measured in turns; and its two halves."""

from __future__ import annotations

from dataclasses import replace

from ..errors import BadInput
from .record import Record

EARLIER = " (earlier)"  # behind the name of a row that is measured as it was


def split(record: Record) -> tuple[Record, Record]:
    """The record's two halves under the same names: now, and earlier.

    Launches keep their numbers, so that ratios between the halves are still taken launch by launch.

    Raises:
        BadInput: no record of kind "side-by-side".
    """
    if record.kind != "side-by-side":
        raise BadInput(f"a record of kind {record.kind}", "one that `tiffin check ARTIFACT --against OLD` wrote")
    return _half(record, False), _half(record, True)


def looks(record: Record) -> int:
    """How often it may have been judged while it grew; 1 of any other kind.

    Raises:
        BadInput: the record tells no such number.
    """
    told = record.options.get("looks", 1) if record.kind == "side-by-side" else 1
    if type(told) is not int or told < 1:
        raise BadInput(f"a record of {told!r} looks", "a whole number from 1")
    return told


def _half(record: Record, earlier: bool) -> Record:
    names = {row.name: row.name.removesuffix(EARLIER) for row in record.subjects
             if row.name.endswith(EARLIER) is earlier}  # fmt: skip
    return replace(
        record,
        kind="bench",
        subjects=tuple(replace(row, name=names[row.name]) for row in record.subjects if row.name in names),
        rounds={names[name]: found for name, found in record.rounds.items() if name in names},
        predictions={names[name]: found for name, found in record.predictions.items() if name in names},
    )
