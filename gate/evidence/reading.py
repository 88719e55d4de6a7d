"""A bundle's records: read, held to themselves, and where one cannot be read, what of it is damaged."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...records import Predictions, Record
from ...records.record import load_record
from ...words import counted
from .bundle import Bundle
from .check import UNREADABLE, Check, brief, check
from .layout import shown

_MOST_ARRAY = 64_000_000  # bytes; a larger one is not looked into


def read_records(bundle: Bundle, folder: Path) -> tuple[dict[str, Record], Check]:
    """Those that can be read, by member, and what is wrong with any."""
    records: dict[str, Record] = {}
    wrong: list[str] = []
    for member in (entry["member"] for entry in bundle.index["records"]):
        path = folder / member
        try:
            record = load_record(path)
            wrong += [f"{member}: {line}" for line in inconsistent(record)]
            records[member] = record
        except UNREADABLE as error:
            wrong.append(f"{member}: cannot be read ({brief(error, folder)})")
            wrong += [f"{path.with_suffix('.npz').name}: {line}" for line in _broken_arrays(path)]
    rows = sum(len(record.subjects) for record in records.values())
    photos = max((len(row) for record in records.values() for row in record.predictions.values()), default=0)
    holds = f"{counted(len(records), 'record')}, {counted(rows, 'row')}, up to {counted(photos, 'photo')} a row"
    return records, check("records", wrong, holds)


def inconsistent(record: Record) -> Iterator[str]:
    """What of a record's predictions contradicts the rest of it, by row and photo."""
    truths: dict[tuple[str, ...], np.ndarray] = {}
    for name, found in record.predictions.items():
        told = truths.setdefault(tuple(found.photos), found.truth)
        if {found.truth.shape, told.shape} != {(len(found),)} or not _is_table(found.top, found) \
                or found.scores.shape != found.top.shape:  # fmt: skip
            held = f"{found.truth.shape}, {found.top.shape}"
            yield f"row {shown(name)}: {counted(len(found), 'photo')} in arrays of {held}"
            continue
        for row in np.flatnonzero(told != found.truth).tolist():
            yield f"{_at(name, found, row)}: truth {found.truth[row]}, {told[row]} in the rows before"
        if found.logits is not None:
            yield from _beside_the_logits(name, found, found.logits)


def _is_table(values: np.ndarray, found: Predictions) -> bool:
    return values.ndim == 2 and len(values) == len(found) and values.shape[1] > 0


def _at(name: str, found: Predictions, row: int) -> str:
    return f"row {shown(name)}, photo {shown(found.photos[row][:16])[1:-1]}"


def _beside_the_logits(name: str, found: Predictions, logits: np.ndarray) -> Iterator[str]:
    """The likeliest labels follow from the logits."""
    if not _is_table(logits, found):
        yield f"row {shown(name)}: {counted(len(found), 'photo')}, logits {logits.shape}"
        return
    again = Predictions.from_logits(found.photos, found.truth, logits, found.kind)
    if again.top.shape != found.top.shape:
        yield f"row {shown(name)}: top {found.top.shape}, its logits give {again.top.shape}"
        return
    wrong = (found.top != again.top) | ((found.scores != again.scores) & ~np.isnan(again.scores))
    for row in np.flatnonzero(wrong.any(axis=1)).tolist():
        yield f"{_at(name, found, row)}: top {_few(found, row)}, its logits give {_few(again, row)}"


def _few(found: Predictions, row: int) -> str:
    return ", ".join(
        f"{label} ({score:.4g})" for label, score in zip(found.top[row][:3], found.scores[row], strict=False)
    )


def _broken_arrays(path: Path) -> Iterator[str]:
    """Which arrays of a damaged record have another checksum than the .npz says, with the row that they are of."""
    try:
        keys = _rows_by_key(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError, TypeError, KeyError, RecursionError):
        keys = {}
    try:
        with zipfile.ZipFile(path.with_suffix(".npz")) as arrays:
            broken = [entry.filename for entry in arrays.infolist() if not _is_whole(arrays, entry)]
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return
    for name in broken:
        row = next((row for key, row in keys.items() if name.startswith(f"{key}/")), None)
        yield f"array {shown(name)}" + (f" of row {shown(row)}" if row is not None else "") + " is damaged"


def _rows_by_key(head: Mapping[str, Any]) -> dict[str, str]:
    kinds = (head.get(kind, {}) for kind in ("rounds", "predictions", "stages"))
    return {str(entry["key"]): str(row) for entries in kinds for row, entry in entries.items()}


def _is_whole(arrays: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    try:
        if entry.file_size <= _MOST_ARRAY:
            arrays.read(entry)
        return True
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError):
        return False
