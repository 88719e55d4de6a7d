"""Write docs/peers.md's table from the committed records, between its two marks.

python benchmarks/peers/table.py docs/peers.md benchmarks/results/peers-quantizers.json
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tiffin.artifact.certificate import MARGIN
from tiffin.benchmarks.studies.page import fill
from tiffin.benchmarks.workers.place import WITHOUT_VNNI
from tiffin.cli.notes import counted
from tiffin.cli.render import Table
from tiffin.cli.tables import ms
from tiffin.optimize.proof import vnni_notes
from tiffin.records import Record, Subject
from tiffin.records.classification import top_k
from tiffin.records.estimate import Decision, Estimate
from tiffin.records.latency import summarize
from tiffin.records.paired import flips, non_inferior
from tiffin.records.record import load_record
from tiffin.records.speed import Comparison, compare_speeds

LIMITED = f", {WITHOUT_VNNI.name}"


def page(hot: Record, paced: Record) -> str:
    """The table and its notes, in Markdown."""
    reference = next(subject.name for subject in hot.subjects if not subject.reason)
    ours = next((name for name in hot.rounds if name.startswith("Tiffin")), reference)
    regimes = [(record, relative(record, ours)) for record in (hot, paced)]
    rows = [subject for subject in hot.subjects if not subject.reason and not subject.name.endswith(LIMITED)]
    timed = [pair for pair in regimes if reference in pair[0].rounds]
    names = [record.rounds[reference].regime for record, _ in timed]
    head = [*("quantizer, engine", "top-1 %", "flips % (95 %)", f"at {MARGIN * 100:.0f} point", "without VNNI"),
            *(f"{name}, ms" for name in names), *(f"{name}, × ours" for name in names), "MB",
            "made in s (CPU)"]  # fmt: skip
    body = [
        [row.name, *answers(hot, row, reference), *(milliseconds(record, row.name) for record, _ in timed),
         *(times(found, row.name, ours) for _, found in timed), f"{row.size_bytes / 1e6:.1f}", made(hot, row.name)]
        for row in rows
    ]  # fmt: skip
    said = [*(best_peer(hot, reference, record, found, ours) for record, found in timed), *notes(hot, ours)]
    return "\n\n".join([Table(head, body).compact().markdown(), "\n".join(f"- {line}" for line in said)])


def relative(record: Record, ours: str) -> dict[str, Comparison]:
    """Each row's time as a multiple of ours, launch by launch."""
    base = record.rounds.get(ours)
    pairs = {name: (rounds, base) for name, rounds in record.rounds.items() if base and name != ours}
    return compare_speeds(pairs) if pairs else {}


def best_peer(hot: Record, reference: str, record: Record, found: Mapping[str, Comparison], ours: str) -> str:
    """The fastest peer that is non-inferior natively, and how much longer it takes than ours."""
    base, regime = hot.predictions[reference], next(iter(record.rounds.values())).regime
    held = [
        row.name for row in hot.subjects
        if str(row.producer.get("verb", "")).startswith("peer") and row.name in found and row.name in hot.predictions
        and non_inferior(hot.predictions[row.name], base, MARGIN).decision is Decision.PASS
    ]  # fmt: skip
    if not held:
        return f"{regime}: no peer is proven non-inferior to {reference} at {MARGIN * 100:.0f} point"
    best = min(held, key=lambda name: found[name].ratio.value)
    time = times(found, best, ours)
    return f"{regime}: the fastest peer proven non-inferior, {best}, takes {time} × the time of {ours}"


def answers(record: Record, row: Subject, reference: str) -> list[str]:
    """Top-1, flips, the verdict of non-inferiority, and top-1 with flips as a CPU without VNNI answers."""
    found, base = record.predictions.get(row.name), record.predictions.get(reference)
    if found is None or base is None:
        return ["not scored", "", "", ""]
    limited = record.predictions.get(row.name + LIMITED)
    verdict = "" if row.precision != "int8" else non_inferior(found, base, MARGIN).decision.value
    without = f"{top_k(limited).value * 100:.2f}; {percent(flips(limited, base).rate)}" if limited else ""
    return [f"{top_k(found).value * 100:.2f}", percent(flips(found, base).rate), verdict, without]


def percent(found: Estimate) -> str:
    """Such as `1.65 (1.2–2.2)`."""
    return f"{found.value * 100:.2f} ({found.low * 100:.1f}–{found.high * 100:.1f})"


def milliseconds(record: Record, name: str) -> str:
    """p50 over launches."""
    latency = summarize(record.rounds[name]) if name in record.rounds else None
    return ms(latency.p50_s.value) if latency else "not timed"


def times(found: Mapping[str, Comparison], name: str, ours: str) -> str:
    """Time as a multiple of ours with its 95 % interval; above 1 it is slower than ours."""
    if name == ours:
        return "1"
    if name not in found:
        return ""
    ratio = found[name].ratio
    return f"{ratio.value:.2f}" + (f" ({ratio.low:.2f}–{ratio.high:.2f})" if ratio.n > 1 else "")


def made(record: Record, name: str) -> str:
    """Seconds from start to end of the process that quantized, and its processor seconds."""
    told = record.options["made"].get(name, {})
    if told.get("seconds") is None:
        return ""
    return f"{told['seconds']:.0f}" + (f" ({told['cpu_s']:.0f})" if "cpu_s" in told else "")


def notes(record: Record, ours: str) -> list[str]:
    """The machine, the photos, and what could not run."""
    data, environment = record.data, record.environment
    photos = f"{data['count']} photos ({data['role']}) of {data['name']}, {data['calibration']} others to calibrate on"
    return [
        f"{environment['cpu']}, {counted(environment['cores'], 'core')}; {photos}; «× ours» is relative to {ours}",
        *vnni_notes(environment),
        *(f"could not run: {row.name}: {row.reason}" for row in record.subjects if row.reason),
    ]


def main() -> None:
    """Replace what stands between the marks."""
    doc, first = Path(sys.argv[1]), Path(sys.argv[2])
    hot, paced = load_record(first), load_record(first.with_name(f"{first.stem}-paced.json"))
    fill(doc, "peers", page(hot, paced))


if __name__ == "__main__":
    main()
