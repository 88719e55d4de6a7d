"""A record as tables, for a terminal or a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .render import Table

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..records import Record, Rounds, Subject, Verdict
    from ..records.latency import Latency
    from ..records.speed import Comparison


def ms(seconds: float) -> str:
    """Three figures: more would be noise."""
    value = seconds * 1e3
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def timed(record: Record, subject: Subject) -> Latency | None:
    """What the row's timed calls say; None where it has none."""
    from ..records.latency import summarize

    return summarize(record.rounds[subject.name]) if subject.name in record.rounds else None


def _ran(record: Record) -> list[Subject]:
    return [subject for subject in record.subjects if not subject.reason]


def main_table(record: Record, reference: str, marks: Mapping[str, str]) -> Table:
    """Latency, accuracy, flips and size of a record with predictions; rows that ran."""
    photos = record.data.get("kind") == "photos"
    header = ["candidate", "p50 ms (95 %)", "top-1 %" if photos else "agree %", "flips", "MB"]
    rows = [
        [
            subject.name + (" *" if subject.name in marks else ""),
            _latency(record, subject),
            *_answers(record, subject, reference),
            f"{subject.size_bytes / 1e6:.1f}",
        ]
        for subject in _ran(record)
    ]
    return Table(header, rows)


def verdict_table(record: Record, reference: str, margin: float) -> Table:
    """Non-inferiority of every int8 and fp8 row that was scored on photos; empty where there is none."""
    from ..records.paired import non_inferior

    rows = []
    for subject in _ran(record):
        found, base = record.answers(subject.name, reference)
        if base and found and found.kind == "photos" and subject.precision in ("int8", "fp8"):
            rows.append([subject.name, *verdict_cells(non_inferior(found, base, margin))])
    return Table([f"against {reference}", *VERDICT_HEADER[:2], f"at {margin * 100:.1f} point"], rows)


VERDICT_HEADER = ("top-1, points", "one-sided 95 %", "at its margin")


def verdict_cells(verdict: Verdict) -> tuple[str, str, str]:
    """Of a verdict that stands on a difference: that in points, its two bounds, the decision."""
    seen = verdict.difference
    assert seen is not None
    value, low, high = (f"{100 * each:+.2f}" for each in (seen.value, seen.low, seen.high))
    return value, f"{low} to {high}", verdict.decision.value


def speed_table(record: Record, reference: str, found: Mapping[str, Comparison]) -> Table:
    """Each row's latency, and its ratio to the reference with interval and verdict, as `speeds` found them."""
    header = ["candidate", "p50 ms (95 %)", "× first (95 %)", "verdict", "n"]
    rows = []
    for subject in _ran(record):
        compared, rounds = found.get(subject.name), record.rounds.get(subject.name)
        verdict = compared.speed.value if compared else "" if subject.name != reference else "first"
        launches = str(len(set(rounds.launches))) if rounds else ""
        rows.append(
            [subject.name, _latency(record, subject), _ratio(compared), verdict + _ended(record, subject), launches]
        )
    return Table(header, rows)


def speeds(record: Record, reference: str) -> dict[str, Comparison]:
    """Every timed row against the reference, corrected together."""
    from ..records.speed import compare_speeds

    base = record.rounds.get(reference)
    if base is None:
        return {}
    return compare_speeds({name: (rounds, base) for name, rounds in record.rounds.items() if name != reference})


def _ratio(compared: Comparison | None) -> str:
    if compared is None or compared.ratio.n < 2:
        return ""
    ratio = compared.ratio
    return f"{ratio.value:.3f} ({ratio.low:.3f}–{ratio.high:.3f})"


def _ended(record: Record, subject: Subject) -> str:
    """A mark where the precision asked for was not reached."""
    rounds = record.rounds.get(subject.name)
    words = {"noisy": " NOISY", "time limit": " TIME", "interrupted": " CUT"}
    return words.get(rounds.ended, "") if rounds else ""


def _latency(record: Record, subject: Subject) -> str:
    latency = timed(record, subject)
    if latency is None:
        return "not timed"
    p50 = latency.p50_s
    return f"{ms(p50.value)} ({ms(p50.low)}–{ms(p50.high)})" if p50.n > 1 else ms(p50.value)


def _answers(record: Record, subject: Subject, reference: str) -> list[str]:
    from ..records.classification import top_k
    from ..records.paired import agreement, flips

    found, base = record.answers(subject.name, reference)
    if found is None:
        return ["not scored", ""]
    changed = flips(found, base) if base else None
    share = top_k(found) if found.kind == "photos" else agreement(found, base) if base else None
    missing = "other photos" if reference in record.predictions else "no fp32"
    flipped = f"{changed.count} ({changed.rate.value:.2%})" if changed else missing
    return [f"{share.value * 100:.2f}" if share else "", flipped]


def detail_table(record: Record, reference: str) -> Table:
    """What else was measured of each row."""
    if record.predictions:
        return _scored_details(record, reference)
    from ..records.conditions import cpu_s_per_photo, throughput
    from ..records.latency import tail

    header = ["candidate", "p95 ms", "p99≤ ms", "img/s", "CPU ms", "PSS/peak", "MB", "start s"]
    on_device = any("kernels_ms" in rounds.sensors for rounds in record.rounds.values())
    header += ["kernels ms"] if on_device else []
    header += ["GPU MB"] if (told := any(subject.device_bytes for subject in record.subjects)) else []
    rows = []
    for subject in _ran(record):
        rounds = record.rounds.get(subject.name)
        if rounds is None:
            continue
        ns = rounds.all_ns()
        p95, p99 = tail(ns, 0.95), tail(ns, 0.99)
        cpu, rate = cpu_s_per_photo(rounds), throughput(rounds)
        rows.append(
            [
                subject.name,
                ms(p95.value_s) if p95.value_s is not None else f"n<{p95.needed}",
                ms(p99.bound_s) if p99.bound_s is not None else f"n<{p99.needed}",
                f"{rate:.1f}" if rate else "",
                ms(cpu) if cpu else "",
                f"{_mb(subject.steady_bytes)}/{_mb(subject.peak_bytes)}",
                f"{subject.size_bytes / 1e6:.1f}",
                _median_s(subject.cold_start_s),
                *([_kernels_ms(rounds)] if on_device else []),
                *([_mb(subject.device_bytes)] if told else []),
            ]
        )
    return Table(header, rows)


def _kernels_ms(rounds: Rounds) -> str:
    """What the device itself says of a call, without copies; empty where it does not."""
    told = [value for value in rounds.sensor("kernels_ms") if value == value]
    return ms(sorted(told)[len(told) // 2] / 1e3) if told else ""


def _scored_details(record: Record, reference: str) -> Table:
    from ..records.classification import top_k
    from ..records.conditions import throughput
    from ..records.paired import agreement

    header = ["candidate", "p95 ms", "img/s", "top-5 %", "agree %", "peak MB", "start s"]
    header += ["GPU MB"] if (told := any(subject.device_bytes for subject in record.subjects)) else []
    rows = []
    for subject in _ran(record):
        latency, rounds = timed(record, subject), record.rounds.get(subject.name)
        rate = throughput(rounds) if rounds else None
        found, base = record.answers(subject.name, reference)
        rows.append(
            [
                subject.name,
                ms(latency.p95_s) if latency else "",
                f"{rate:.1f}" if rate else "",
                f"{top_k(found, 5).value * 100:.2f}" if found and found.kind == "photos" else "",
                f"{agreement(found, base).value * 100:.2f}" if found and base else "",
                _mb(subject.peak_bytes),
                _median_s(subject.cold_start_s),
                *([_mb(subject.device_bytes)] if told else []),
            ]
        )
    return Table(header, rows)


def _mb(size: int | None) -> str:
    return f"{size / 1e6:.0f}" if size else ""


def _median_s(seconds: tuple[float, ...]) -> str:
    from statistics import median

    return f"{median(seconds):.2f}" if seconds else ""


def stages_table(record: Record) -> Table:
    """Photo to label, split: medians in ms."""
    import numpy as np

    if not record.stages:
        return Table((), ())
    names = next(iter(record.stages.values())).names
    rows = [
        [name, *(ms(value / 1e9) for value in np.median(found.ns, axis=0)), ms(np.median(found.ns.sum(axis=1)) / 1e9)]
        for name, found in record.stages.items()
    ]
    return Table(("photo to label, ms", *names, "all"), rows)


def cold_start_table(record: Record) -> Table:
    """Process start to first answer, split: medians in seconds."""
    names = ("start", "import", "load", "first")
    rows = [
        [subject.name, *(_median_s(subject.cold_split_s.get(name, ())) for name in names),
         _median_s(subject.cold_start_s)]
        for subject in _ran(record) if subject.cold_split_s
    ]  # fmt: skip
    return Table(("cold start, s", *names, "all"), rows) if rows else Table((), ())


def sustained_table(record: Record) -> Table:
    """A sustained run in ten steps of time: latency, temperature, clock, photos a second."""
    from ..records.conditions import sustained

    rows = []
    for name, rounds in record.rounds.items():
        if rounds.regime != "sustained":
            continue
        moments = sustained(rounds).moments
        for moment in moments[:: max(1, len(moments) // 10)]:
            told = (moment.temperature_c, moment.clock_mhz, moment.throughput)
            start = "" if moment.start_s is None else f"{moment.start_s:.0f}"
            rows.append([name, start, ms(moment.p50_s), *("" if value is None else f"{value:.0f}" for value in told)])
    return Table(("sustained", "at s", "p50 ms", "°C", "MHz", "img/s"), rows)
