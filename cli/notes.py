"""What stands below a record's tables: the data, the machine, what did not run, what a reader must know of a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..words import counted

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..records import Record, Verdict
    from ..records.speed import Comparison


def record_notes(record: Record, reference: str, marks: Mapping[str, str]) -> list[str]:
    """What the reader must know: the data, the machine, what did not run and why, what is not worth it."""
    notes = [_data_note(record.data, reference)] if record.data else []
    notes += setting_notes(record) + simulation_notes(record)
    if marks:
        ratios = "; ".join(f"{name} {why}" for name, why in marks.items())
        notes.append(f"* not proven faster than its engine's best float; time (95 %): {ratios}")
    notes += [f"not run: {subject.name}: {subject.reason}" for subject in record.subjects if subject.reason]
    return notes + cut_notes(record)


def setting_notes(record: Record) -> list[str]:
    """The machine, and how it was timed there."""
    env = record.environment
    threads = sorted({str(subject.applied["threads"]) for subject in record.subjects if subject.applied})
    machine = (
        f"machine: {env['cpu']}, {counted(env['cores'], 'core')}, {', '.join(_words(env)) or 'no vector extensions'}"
    )
    ran_on = f"; {' or '.join(threads)} {'thread' if threads == ['1'] else 'threads'}" if threads else ""
    return [machine + ran_on, *_regime_notes(record)]


def data_notes(record: Record) -> list[str]:
    """On what photos, and on what machine, a record that times nothing was made."""
    data, env = record.data, record.environment
    what = "photos" if data["kind"] == "photos" else "synthesized images"
    return [
        f"{data['count']} {what} ({data['role']}) of {data['name']}",
        f"machine: {env['cpu']}, {', '.join(_words(env)) or 'no vector extensions'}",
    ]


def simulation_notes(record: Record) -> list[str]:
    """Which rows are no answers of an engine."""
    from ..benchmarks.simulation import SIMULATED, is_simulated

    names = [subject.name for subject in record.subjects if is_simulated(subject) and not subject.reason]
    return [f"{', '.join(names)}: {SIMULATED.name}"] if names else []


def cut_notes(record: Record) -> list[str]:
    """That a record was interrupted, where it was."""
    return [] if record.complete else ["interrupted: this is what had been measured by then"]


def _regime_notes(record: Record) -> list[str]:
    """How it was timed, what its intervals are, and each row's flags."""
    from ..records.conditions import flags, sustained

    if not record.rounds:
        return []
    first = next(iter(record.rounds.values()))
    what = "wall time a photo" if first.regime == "throughput" else "p50"
    where = f"{first.regime}, batch {first.batch}" + (f", {first.lanes} lanes" if first.lanes > 1 else "")
    launches = sorted({len(set(rounds.launches)) for rounds in record.rounds.values()})
    number = f"{launches[0]}" if len(launches) == 1 else f"{launches[0]} to {launches[-1]}"
    number += " launch" if number == "1" else " launches"
    few = " (p50's: least to greatest launch)" if launches[0] < 6 else ""
    intervals = f", intervals over launches{few}" if launches[-1] > 1 else ", so no interval"
    notes = [f"{where}; {what} over {number}{intervals}; compare rows, not machines"]
    notes += [f"{name}: {flag}" for name, rounds in record.rounds.items() for flag in flags(rounds)]
    slower = {name: sustained(rounds).slowdown for name, rounds in record.rounds.items() if first.regime == "sustained"}
    return notes + [f"{name}: last quarter {ratio:.3f} × the first" for name, ratio in slower.items() if ratio]


def precision_notes(record: Record, found: Mapping[str, Comparison]) -> list[str]:
    """Rows whose precision was not reached, and why each verdict of `tables.speeds` is what it is."""
    said = {
        "noisy": "NOISY: the noise has settled above the precision asked for",
        "time limit": "TIME: the time limit came before the precision asked for",
        "interrupted": "CUT: interrupted",
    }
    notes = [f"{name}: {said[rounds.ended]}" for name, rounds in record.rounds.items() if rounds.ended in said]
    return notes + [f"{name}: {compared.speed.value} ({compared.reason})" for name, compared in found.items()]


def sensor_notes(record: Record) -> list[str]:
    """Energy where the machine told it, and what it does not tell."""
    from ..records.conditions import energy_j_per_photo

    notes = [
        f"{name}: {joules * 1e3:.1f} mJ a photo ({source})"
        for name, rounds in record.rounds.items()
        for source, joules in energy_j_per_photo(rounds).items()
    ]
    missing = record.options.get("not_told") or {}
    return notes + [f"not told here: {name}: {why}" for name, why in missing.items()]


def _words(env: Mapping[str, Any]) -> list[str]:
    from ..machine import feature_words

    return feature_words(env["cpu_features"])


def _data_note(data: Mapping[str, Any], reference: str) -> str:
    calibration = f"; int8 calibrated on {data['calibration']} others" if data.get("calibration") else ""
    if data["kind"] == "photos":
        scored = f"top-1 on {data['count']} photos ({data['role']}) of {data['name']}"
        return f"{scored}; flips against {reference}{calibration}"
    return f"synthesized images have no accuracy: their labels are the network's own; fp32 is {reference}{calibration}"


def legend(record: Record) -> str:
    """The accuracy column's whole name, where its header is short for it; empty where it is not."""
    if record.data.get("kind") == "synthesized":
        return f"agree %: agreement with fp32 on {record.data['count']} synthesized images"
    return ""


def verdict_line(name: str, verdict: Verdict, margin: float, more: str = "") -> str:
    """Such as `int8: PASS at 1.0 point (difference …)`."""
    points = f"{margin * 100:.1f} {'point' if margin <= 0.01 else 'points'}"
    return f"{name}: {verdict.decision.value} at {points} ({verdict.reason}{more})"
