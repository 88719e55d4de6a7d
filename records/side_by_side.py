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
