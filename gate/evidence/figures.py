"""What is derived from records, as plain values: written into a bundle and computed again from it."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np

from ...artifact.certificate import MARGIN
from ...records.classification import top_k
from ...records.comparison import answers_of
from ...records.corruption import blocks
from ...records.latency import median_interval, summarize, tail
from ...records.loss_budget import loss_budget
from ...records.predictions import Predictions
from ...records.record import Record
from ...records.speed import compare_speeds
from ...records.spreadsheet import inert


def figures(record: Record) -> dict[str, Any]:
    """Every statistic of one record, each row against the first that ran: plain values, as JSON gives them back.

    Raises:
        BadInput: rows that answered other photos than the first.
    """
    ran = [subject.name for subject in record.subjects if not subject.reason]
    first = next((name for name in ran if name in record.predictions or name in record.rounds), "")
    speeds = compare_speeds(
        {name: (rounds, record.rounds[first]) for name, rounds in record.rounds.items()}
        if first in record.rounds and all(len(rounds.blocks) for rounds in record.rounds.values()) else {}
    )  # fmt: skip
    found: dict[str, Any] = {"kind": record.kind, "reference": first, "rows": {}}
    for subject in record.subjects:
        row: dict[str, Any] = {"artifact": subject.artifact, "reason": subject.reason, "bytes": subject.size_bytes,
                               "peak_bytes": subject.peak_bytes, "steady_bytes": subject.steady_bytes}  # fmt: skip
        if subject.cold_start_s:
            row["cold_start_s"] = median_interval(np.array(subject.cold_start_s))
        if subject.name in record.rounds:
            rounds = record.rounds[subject.name]
            row |= {"latency": summarize(rounds), "p99": tail(rounds.all_ns(), 0.99), "speed": speeds.get(subject.name)}
        if subject.name in record.predictions and record.kind != "robustness":
            row["answers"] = _answers(record.predictions[subject.name], record.predictions.get(first))
        found["rows"][subject.name] = row
    if record.kind == "robustness":
        found["corruptions"] = {
            str(corruption): {name: _answers(answered, part.get(first)) for name, answered in part.items()}
            for corruption, part in blocks(record)
        }
    if record.kind == "explain":
        found["stages"] = [dataclasses.replace(stage, rows=()) for stage in loss_budget(record)]
    return plain(found)


def _answers(found: Predictions, reference: Predictions | None) -> dict[str, Any]:
    """Accuracy of one row, and against the reference where both answered the same photos."""
    said: dict[str, Any] = {"photos": len(found)}
    if found.kind == "photos" and len(found):
        said |= {"top-1": top_k(found), "top-5": top_k(found, 5)}
    if len(found) and (base := found.beside(reference)) is not None:
        said["against the reference"] = answers_of(found, base, MARGIN)  # a policy's own is in gate.json
    return said


def plain(value: Any) -> Any:
    """As JSON gives it back: dataclasses as mappings, what is not finite as None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def photo_tables(record: Record) -> list[str]:
    """CSV: a line a photo, a column a row of the record with its top-1 label index; one table a list of photos."""
    lists: dict[tuple[str, ...], list[str]] = {}
    for name, found in record.predictions.items():
        lists.setdefault(tuple(found.photos), []).append(name)
    return [_photo_table(record, photos, names) for photos, names in lists.items()]


def _photo_table(record: Record, photos: Sequence[str], names: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["photo", "truth", *map(inert, names)])
    truth = record.predictions[names[0]].truth.tolist()
    answers = [record.predictions[name].top[:, 0].tolist() for name in names]
    writer.writerows([inert(photo), label, *row] for photo, label, *row in zip(photos, truth, *answers, strict=True))
    return text.getvalue()


def differences(told: Any, found: Any, where: str = "") -> Iterator[str]:
    """Paths at which two plain values differ; floats are held to nine digits, since libm's last bit may differ."""
    if isinstance(told, dict) and isinstance(found, dict):
        for key in dict.fromkeys([*told, *found]):
            at = f"{where}.{key}" if where else str(key)
            if key not in told or key not in found:
                yield f"{at}: {'not told' if key not in told else 'told, but nothing gives it'}"
            else:
                yield from differences(told[key], found[key], at)
    elif isinstance(told, list) and isinstance(found, list) and len(told) == len(found):
        for number, (one, other) in enumerate(zip(told, found, strict=True)):
            yield from differences(one, other, f"{where}[{number}]")
    elif not _equal(told, found):
        yield f"{where}: says {_word(told)}, the raw values give {_word(found)}"


def _equal(one: Any, other: Any) -> bool:
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (one, other))
    if numbers and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return type(one) is type(other) and bool(one == other)


def _word(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
