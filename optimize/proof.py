"""What a record lets us say of each row: never a claim beyond the noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import machine
from ..records import Record, Subject
from ..records.speed import Speed, compare_speeds

_REFERENCES = ("torch fp32", "onnxruntime fp32")  # of the main job; the second for a source without torch code
_FLOATS = ("fp32", "fp16", "bf16")


def reference_of(record: Record) -> str:
    """The row that others are held against: the main job's fp32 if it ran, else the first that did, else the first."""
    names = [subject.name for subject in record.subjects]
    ran = [subject.name for subject in record.subjects if not subject.reason]
    return next((name for name in _REFERENCES if name in ran), (ran or names)[0])


def engine_of(subject: Subject) -> str:
    """Backend word of a subject, from its request or its name."""
    return str(subject.requested.get("backend") or subject.name.split()[0])


def precision_of(subject: Subject) -> str:
    """What it computes in: int8 for a quantized graph, else the execution precision or the graph's own type."""
    if subject.precision in ("fp32", "") and subject.requested:
        return str(subject.requested["execution_precision"])
    return subject.precision


def not_faster(record: Record) -> dict[str, str]:
    """Quantized subjects that are not proven faster than their engine's best float one, with the ratio and verdict."""
    best = {
        subject.name: reference
        for subject in record.subjects
        if subject.precision == "int8" and subject.name in record.rounds
        and (reference := best_float(record, engine_of(subject)))
    }  # fmt: skip
    found = compare_speeds({name: (record.rounds[name], record.rounds[other]) for name, other in best.items()})
    return {
        name: f"{row.ratio.value:.2f} ({row.ratio.low:.2f}–{row.ratio.high:.2f}) × {best[name]}, {row.speed.value}"
        for name, row in found.items()
        if row.speed is not Speed.FASTER
    }


def best_float(record: Record, engine: str) -> str | None:
    """The fastest float subject of one engine."""
    costs = {
        subject.name: record.rounds[subject.name].cost_s()
        for subject in record.subjects
        if engine_of(subject) == engine and precision_of(subject) in _FLOATS and subject.name in record.rounds
    }
    return min(costs, key=lambda name: costs[name], default=None)


def vnni_notes(environment: Mapping[str, Any]) -> list[str]:
    """What a record's machine cannot tell about int8 answers on other CPUs."""
    if str(environment.get("system", "")).endswith((" aarch64", " arm64")):  # `platform.machine`: Linux, macOS
        return ["ARM saturates no sum of int8 products: answers on x86 without VNNI are not measured here"]
    if not machine.VNNI_FEATURES & set(environment["cpu_features"]):
        return ["this CPU has no VNNI: its int8 answers are those of CPUs without it; with VNNI: not measured here"]
    return ["onnxruntime has no switch for the instruction set: its int8 answers without VNNI are not measured here"]
