"""What people see: tables of 80 columns, notes below them, progress on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..records import Predictions, Record, Subject
    from ..records.latency import Latency

WIDTH = 80
_NARROWEST_NAME = 16


def say(line: str) -> None:
    """One line to stderr: what is being done."""
    print(line, file=sys.stderr, flush=True)  # noqa: T201


def show(line: str) -> None:
    """One line to stdout: a result."""
    print(line)  # noqa: T201


def echo_options(**options: Any) -> None:
    """The options as applied."""
    say("options: " + ", ".join(f"{name.replace('_', '-')} {value}" for name, value in options.items()))


def next_command(command: str) -> None:
    """What to run next."""
    say(f"next: {command}")


class TerminalProgress:
    """Lines, and one bar at a time where stderr is a terminal and this is no CI."""

    def say(self, line: str) -> None:
        """One line."""
        say(line)

    def bar(self, name: str, total: int) -> Callable[[int], None]:
        """A bar that redraws itself; elsewhere one line."""
        if not sys.stderr.isatty() or os.environ.get("CI"):
            say(name)
            return lambda done: None

        def draw(done: int) -> None:
            filled = round(24 * done / total)
            end = "\n" if done >= total else ""
            sys.stderr.write(f"\r{name:<44} {'█' * filled:<24} {done}/{total}{end}")
            sys.stderr.flush()

        return draw


@dataclass(frozen=True)
class Table:
    """Header and rows of text; columns but the first `left` are aligned right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1

    def text(self, width: int = WIDTH) -> str:
        """For a terminal: names in the first column are wrapped where a row would be wider than `width`."""
        widths = [max(len(row[i]) for row in (self.header, *self.rows)) for i in range(len(self.header))]
        spare = width - sum(widths[1:]) - 2 * (len(widths) - 1)
        widths[0] = min(widths[0], max(_NARROWEST_NAME, spare))
        rows = [line for row in self.rows for line in _wrapped_row(row, widths[0])]

        def line(row: Sequence[str]) -> str:
            cells = (
                c.ljust(w) if i < self.left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
            )
            return "  ".join(cells).rstrip()

        return "\n".join([line(self.header), "  ".join("─" * w for w in widths), *map(line, rows)])

    def markdown(self) -> str:
        """For a page."""
        rule = ["---" if i < self.left else "--:" for i in range(len(self.header))]
        return "\n".join("| " + " | ".join(row) + " |" for row in (self.header, rule, *self.rows))


def _wrapped_row(row: Sequence[str], width: int) -> list[Sequence[str]]:
    """One row as several, its first cell split over them."""
    import textwrap

    name, *cells = row
    first, *rest = textwrap.wrap(name, width, subsequent_indent="  ") or [""]
    return [[first, *cells], *([part] + [""] * len(cells) for part in rest)]


def _timed(record: Record, subject: Subject) -> Latency | None:
    from ..records.latency import summarize

    return summarize(record.rounds[subject.name]) if subject.name in record.rounds else None


def _ms(seconds: float) -> str:
    """Three figures: more would be noise."""
    value = seconds * 1e3
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def main_table(record: Record, reference: str, marks: Mapping[str, str]) -> Table:
    """backend × precision with latency, top-1, flips and size; rows that ran."""
    photos = record.data.get("kind") == "photos"
    header = ["candidate", "p50 ms (min–max)", "top-1 %" if photos else "agree %", "flips", "MB"]
    rows = []
    for subject in record.subjects:
        if not subject.reason:
            mark = " *" if subject.name in marks else ""
            rows.append(
                [subject.name + mark, _latency(record, subject), *_answers(record, subject, reference), _mb(subject)]
            )
    return Table(header, rows)


def _latency(record: Record, subject: Subject) -> str:
    latency = _timed(record, subject)
    return f"{_ms(latency.p50_s)} ({_ms(latency.low_s)}–{_ms(latency.high_s)})" if latency else "not timed"


def _answers(record: Record, subject: Subject, reference: str) -> list[str]:
    from ..records.classification import top_k
    from ..records.paired import agreement, flips

    found, base = record.predictions.get(subject.name), record.predictions.get(reference)
    if found is None:
        return ["not scored", ""]
    changed = flips(found, base) if base else None
    share = top_k(found) if found.kind == "photos" else agreement(found, base) if base else None
    flipped = f"{changed.count} ({changed.rate.value:.2%})" if changed else "no fp32"
    return [f"{share.value * 100:.2f}" if share else "", flipped]


def _mb(subject: Subject) -> str:
    return f"{subject.size_bytes / 1e6:.1f}"


def detail_table(record: Record, reference: str) -> Table:
    """The rest of what was measured."""
    from ..records.classification import top_k
    from ..records.paired import agreement

    header = ["candidate", "p95 ms", "img/s", "top-5 %", "agree %", "RSS MB", "start s"]
    rows = []
    for subject in record.subjects:
        if subject.reason:
            continue
        latency = _timed(record, subject)
        found, base = record.predictions.get(subject.name), record.predictions.get(reference)
        cold = sorted(subject.cold_start_s)
        rows.append(
            [
                subject.name,
                _ms(latency.p95_s) if latency else "",
                f"{latency.throughput:.1f}" if latency else "",
                f"{top_k(found, 5).value * 100:.2f}" if found and found.kind == "photos" else "",
                f"{agreement(found, base).value * 100:.2f}" if found and base else "",
                f"{subject.peak_bytes / 1e6:.0f}" if subject.peak_bytes else "",
                f"{cold[len(cold) // 2]:.1f}" if cold else "",
            ]
        )
    return Table(header, rows)


def record_notes(record: Record, reference: str, marks: Mapping[str, str]) -> list[str]:
    """What the reader must know: the data, the machine, what did not run and why, what is not worth it."""
    data, env = record.data, record.environment
    notes = [_data_note(data, reference)] if data else []
    threads = sorted({str(subject.applied["threads"]) for subject in record.subjects if subject.applied})
    notes.append(
        f"machine: {env['cpu']}, {env['cores']} cores, {', '.join(_words(env)) or 'no vector extensions'}; "
        f"{' or '.join(threads)} threads; p50 and the least and greatest block median; compare rows, not machines"
    )
    if marks:
        ratios = "; ".join(f"{name} {why}" for name, why in marks.items())
        notes.append(f"* not faster than its engine's best float beyond the spread; median time (spread): {ratios}")
    notes += [f"not run: {subject.name}: {subject.reason}" for subject in record.subjects if subject.reason]
    return notes


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


def verdict_lines(record: Record, reference: str, margin: float) -> list[str]:
    """Non-inferiority of every int8 row that was scored on photos."""
    from ..records.paired import non_inferior

    base = record.predictions.get(reference)
    lines = []
    for subject in record.subjects:
        found: Predictions | None = record.predictions.get(subject.name)
        if base and found and found.kind == "photos" and subject.precision == "int8":
            verdict = non_inferior(found, base, margin)
            lines.append(f"{subject.name}: {verdict.decision.value} at {margin * 100:.1f} point ({verdict.reason})")
    return lines


def record_json(record: Record, reference: str) -> dict[str, Any]:
    """Each row's derived values as plain JSON."""
    from ..records.classification import top_k
    from ..records.paired import agreement, flips

    rows = []
    for subject in record.subjects:
        latency = _timed(record, subject)
        found, base = record.predictions.get(subject.name), record.predictions.get(reference)
        rows.append(
            {
                "name": subject.name,
                "artifact": subject.artifact,
                "reason": subject.reason,
                "size_bytes": subject.size_bytes,
                "latency": vars(latency) if latency else None,
                "top1": vars(top_k(found)) if found and found.kind == "photos" else None,
                "top5": vars(top_k(found, 5)) if found and found.kind == "photos" else None,
                "agreement": vars(agreement(found, base)) if found and base else None,
                "flips": flips(found, base).count if found and base else None,
                "applied": dict(subject.applied),
            }
        )
    return {"environment": dict(record.environment), "data": dict(record.data), "rows": rows}


def wrapped(notes: Sequence[str], width: int = WIDTH) -> str:
    """Notes as lines of at most `width` columns."""
    import textwrap

    return "\n".join(textwrap.fill(note, width, subsequent_indent="  ", break_on_hyphens=False) for note in notes)
