"""Where everything came from: records, artifacts and their producers, machines, policy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .story import Story

_LONG = 400  # characters of one option's value; the record holds the whole


@dataclass(frozen=True)
class Provenance:
    """As the page shows it.

    Args:
        records: one line each: file, kind, created, commit, sha256, data, options.
        artifacts: lines of row, artifact, checkpoint, format, precision, engine, producer.
        machines: title and fields of each machine that differs.
        looks: each look at the confirm photos that a record logs.
    """

    records: tuple[Mapping[str, str], ...]
    artifacts: tuple[Mapping[str, str], ...]
    machines: tuple[tuple[str, Mapping[str, str]], ...]
    policy: str = ""
    baseline: str = ""
    looks: tuple[str, ...] = ()


def provenance(story: Story) -> Provenance:
    """All of it, from the records alone."""
    gate = story.gate
    return Provenance(
        tuple(_record(source) for source in story.sources),
        tuple(_artifact(row) for row in story.rows),
        _machines(story),
        str(gate.policy.get("text") or json.dumps(dict(gate.policy), indent=1, ensure_ascii=False)) if gate else "",
        _words(gate.baseline) if gate and gate.baseline else "",
        tuple(
            f"{source.name}: {_words(look)}"
            for source in story.sources
            for look in source.record.options.get("looks") or ()
        ),
    )


def _record(source: Any) -> Mapping[str, str]:
    record = source.record
    about = {
        key: value for key, value in record.data.items() if key not in ("labels", "coarse", "files", "corruptions")
    }
    options = {
        key: value
        for key, value in record.options.items()
        if key not in ("looks", "certificates", "took_s", "hypotheses")
    }
    whole = "" if record.complete else " (interrupted)"
    commit = str(record.environment.get("git_commit") or "not told")
    return {
        "file": source.name,
        "kind": record.kind + whole,
        "created": record.created,
        "commit": commit,
        "sha256": source.sha256,
        "data": _words(about) or "none",
        "options": _words(options) or "none",
    }


def _artifact(row: Any) -> Mapping[str, str]:
    subject = row.subject
    engine = " ".join(str(subject.applied.get(key) or "") for key in ("backend", "version")).strip()
    precision = str(subject.applied.get("execution_precision") or subject.requested.get("execution_precision") or "")
    return {
        "row": row.name,
        "artifact": subject.artifact or "not told",
        "checkpoint": subject.checkpoint or "not told",
        "format": " ".join(part for part in (subject.format, subject.precision, subject.scheme or "") if part),
        "ran": ", ".join(
            part for part in (engine, f"computes in {precision}" if precision else "", subject.place) if part
        ),
        "producer": _words(subject.producer) or "not told",
    }


def _machines(story: Story) -> tuple[tuple[str, Mapping[str, str]], ...]:
    found: list[tuple[list[str], Mapping[str, Any]]] = []
    for source in story.sources:
        kept = {key: value for key, value in source.record.environment.items() if key != "load_1min"}
        for names, other in found:
            if other == kept:
                names.append(source.name)
                break
        else:
            found.append(([source.name], kept))
    return tuple((", ".join(names), {key: _word(value) for key, value in kept.items()}) for names, kept in found)


def _words(values: Mapping[str, Any]) -> str:
    return "; ".join(f"{key}: {_word(value)}" for key, value in values.items() if value not in (None, "", {}, []))


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        text = ", ".join(f"{key} {_word(item)}" for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        text = ", ".join(map(_word, value))
    else:
        text = "none" if value is None else str(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"
