"""What a record lets us say of each row: never a claim beyond the spread."""

from __future__ import annotations

from ..records import Record, Subject
from ..records.latency import paired_ratio

_FLOATS = ("fp32", "fp16", "bf16")


def engine_of(subject: Subject) -> str:
    """Backend word of a subject, from its request or its name."""
    return str(subject.requested.get("backend") or subject.name.split()[0])


def precision_of(subject: Subject) -> str:
    """What it computes in: int8 for a quantized graph, else the execution precision or the graph's own type."""
    if subject.precision in ("fp32", "") and subject.requested:
        return str(subject.requested["execution_precision"])
    return subject.precision


def not_faster(record: Record) -> dict[str, str]:
    """Quantized subjects that are not faster than their engine's best float one beyond the spread, with the ratio."""
    marks = {}
    for subject in record.subjects:
        if subject.precision != "int8" or subject.name not in record.rounds:
            continue
        best = best_float(record, engine_of(subject))
        ratio = paired_ratio(record.rounds[subject.name], record.rounds[best]) if best else None
        if ratio is not None and ratio.high >= 1:
            marks[subject.name] = f"{ratio.value:.2f} ({ratio.low:.2f}–{ratio.high:.2f}) × {best}"
    return marks


def best_float(record: Record, engine: str) -> str | None:
    """The fastest float subject of one engine by the median of its blocks."""
    import numpy as np

    medians = {
        subject.name: float(np.median(record.rounds[subject.name].block_medians_s()))
        for subject in record.subjects
        if engine_of(subject) == engine and precision_of(subject) in _FLOATS and subject.name in record.rounds
    }
    return min(medians, key=lambda name: medians[name], default=None)
