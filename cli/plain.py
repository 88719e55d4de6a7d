"""A record's derived values as plain JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .answers import classes_of, confidence_json, flips_of, label
from .tables import speeds, timed

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..records import Record, Subject


def as_json(value: Any) -> str:
    """JSON text; null for infinity and NaN, which JSON does not know."""
    return json.dumps(json.loads(json.dumps(value), parse_constant=lambda word: None), indent=1)


def record_json(record: Record, reference: str) -> dict[str, Any]:
    """Each row's derived values as plain JSON."""
    from dataclasses import asdict

    from ..records.classification import top_k
    from ..records.conditions import flags
    from ..records.latency import TAILS, tail
    from ..records.paired import agreement, flips

    compared, rows = speeds(record, reference), []
    for subject in record.subjects:
        latency, rounds = timed(record, subject), record.rounds.get(subject.name)
        found, base = record.answers(subject.name, reference)
        rows.append(
            {
                "name": subject.name,
                "artifact": subject.artifact,
                "reason": subject.reason,
                "size_bytes": subject.size_bytes,
                "latency": asdict(latency) if latency else None,
                "tails": [asdict(tail(rounds.all_ns(), share)) for share in TAILS] if rounds else [],
                "ratio": asdict(compared[subject.name]) if subject.name in compared else None,
                **_measured(record, subject),
                "ended": rounds.ended if rounds else None,
                "flags": list(flags(rounds)) if rounds else [],
                "top1": vars(top_k(found)) if found and found.kind == "photos" else None,
                "top5": vars(top_k(found, 5)) if found and found.kind == "photos" else None,
                "confidence": confidence_json(record, subject.name),
                "per_class": _per_class(record, subject.name),
                "agreement": vars(agreement(found, base)) if found and base else None,
                "flips": flips(found, base).count if found and base else None,
                "flipped": flips_of(record, subject.name, reference),
                "applied": dict(subject.applied),
            }
        )
    return {
        "environment": dict(record.environment),
        "data": dict(record.data),
        "complete": record.complete,
        "reference": reference,
        "rows": rows,
    }


def _measured(record: Record, subject: Subject) -> dict[str, Any]:
    """What the tables tell besides latency: costs, memory, cold start, photo to label."""
    import numpy as np

    from ..records.conditions import cpu_s_per_photo, energy_j_per_photo, throughput

    rounds, stages = record.rounds.get(subject.name), record.stages.get(subject.name)
    return {
        "throughput": throughput(rounds) if rounds else None,
        "cpu_s_per_photo": cpu_s_per_photo(rounds) if rounds else None,
        "energy_j_per_photo": energy_j_per_photo(rounds) if rounds else {},
        "steady_bytes": subject.steady_bytes,
        "rss_bytes": subject.rss_bytes,
        "peak_bytes": subject.peak_bytes,
        "cold_start_s": list(subject.cold_start_s),
        "cold_split_s": {name: list(values) for name, values in subject.cold_split_s.items()},
        "stages_p50_s": dict(zip(stages.names, (np.median(stages.ns, axis=0) / 1e9).tolist(), strict=True))
        if stages
        else {},
    }


def _per_class(record: Record, name: str) -> dict[str, Any] | None:
    """Label → top-1 with its interval, of the classes that have photos."""
    from ..records.classification import per_class

    found = record.predictions.get(name)
    if found is None or found.kind != "photos":
        return None
    estimates = per_class(found, classes_of(record, found))
    return {label(record, index): vars(top1) for index, top1 in enumerate(estimates) if top1}
