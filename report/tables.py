"""The table of candidates: its columns, and the same as CSV, LaTeX and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..records.estimate import Decision
from ..records.findings import Outcome
from ..records.spreadsheet import inert
from .cell import NONE, Cell, of_estimate
from .charts.footprint import MEASURES, cell
from .rows import Row
from .story import Story
from .times import p50_cell, p99_cell

if TYPE_CHECKING:
    from .charts import Chart
    from .gallery import Gallery

HEADER = (
    "#",
    "row",
    "accuracy",
    "speed",
    "top-1, % (95 %)",
    "difference, points (95 %)",
    "flips, %",
    "lost / won",
    "p50, ms (95 %)",
    "p99, ms (95 % bound)",
    "× reference in time (95 %)",
    *(measure.title for measure in MEASURES),
)
KEYS = (
    "number",
    "row",
    "accuracy",
    "speed",
    "top_1",
    "difference",
    "flips",
    "lost_won",
    "p50",
    "p99",
    "ratio",
    "size",
    "memory",
    "cold_start",
)


def table(story: Story) -> tuple[tuple[Cell, ...], ...]:
    """One line a row that was measured, each cell traced to its record."""
    return tuple(_line(row, story) for row in story.rows if row.answered or row.timed or not row.subject.reason)


def not_run(story: Story) -> tuple[tuple[str, str], ...]:
    """Rows that were not timed or did not run at all, with the record's reason."""
    return tuple((row.name, row.subject.reason) for row in story.rows if row.subject.reason)


def _line(row: Row, story: Story) -> tuple[Cell, ...]:
    return (
        Cell(str(row.number)),
        Cell(row.name),
        *_verdicts(row, story),  # what most readers came for: in sight before anything is scrolled
        *_answers(row, story),
        *_times(row, story),
        *(cell(row, measure) for measure in MEASURES),
    )


def _answers(row: Row, story: Story) -> tuple[Cell, ...]:
    if row.answered is None:
        return (Cell("not scored"), Cell(NONE), Cell(NONE), Cell(NONE))
    traced = row.answered.source.name, row.key
    top = (
        of_estimate(row.top_1, 100, 2, "%", (*traced, "share answered rightly"))
        if row.top_1
        else Cell("no true labels")
    )
    change = (
        of_estimate(row.change, 100, 2, "points", (*traced, f"paired with {story.reference}"), sign=True)
        if row.change
        else Cell(_base(row, story))
    )
    if row.flips is None:
        return top, change, Cell(NONE), Cell(NONE)
    flips = of_estimate(
        row.flips.rate, 100, 2, "%", (*traced, f"{row.flips.count} photos with another top-1 than {story.reference}")
    )
    sides = (
        Cell(f"{row.flips.lost} / {row.flips.won}", *traced, "right and now wrong / the other way round")
        if row.top_1
        else Cell(NONE)
    )
    return top, change, flips, sides


def _base(row: Row, story: Story) -> str:
    return "reference" if row.name == story.reference else NONE


def _times(row: Row, story: Story) -> tuple[Cell, ...]:
    if row.timed is None:
        return Cell("not timed"), Cell(NONE), Cell(NONE)
    traced, p50 = (row.timed.source.name, row.key), p50_cell(row)
    if row.speed is None or row.speed.ratio.n < 2:
        return p50, p99_cell(row), Cell(_base(row, story))
    return (
        p50,
        p99_cell(row),
        of_estimate(row.speed.ratio, 1, 3, "×", (*traced, f"time over that of {story.reference}, side by side")),
    )


_WORDS = {Decision.PASS: "good", Decision.FAIL: "bad", Decision.INCONCLUSIVE: ""}


def _verdicts(row: Row, story: Story) -> tuple[Cell, Cell]:
    accuracy, speed = Cell(_base(row, story)), Cell(_base(row, story))
    if row.accuracy and row.answered:
        how = f"non-inferior at {100 * story.margin:g} points: {row.accuracy.reason}"
        accuracy = Cell(
            row.accuracy.decision.value, row.answered.source.name, row.key, how, tone=_WORDS[row.accuracy.decision]
        )
    if row.speed and row.timed:
        tone = {"faster": "good", "slower": "bad"}.get(row.speed.speed.value, "")
        speed = Cell(row.speed.speed.value, row.timed.source.name, row.key, row.speed.reason, tone=tone)
    return accuracy, speed


def gate_table(story: Story) -> tuple[tuple[Cell, ...], ...]:
    """The gate's findings: artifact, check, outcome, against, reason."""
    tones = {Outcome.PASS: "good", Outcome.FAIL: "bad"}
    found = story.gate.findings if story.gate else ()
    return tuple(
        (
            Cell(one.artifact),
            Cell(one.check),
            Cell(
                one.outcome.value,
                "gate.json",
                one.artifact,
                f"{one.check}, line {one.line} of the policy",
                tone=tones.get(one.outcome, ""),
            ),
            Cell(one.against or "absolute"),
            Cell(
                one.reason
                + (f"; expected until {one.expected['until']}: {one.expected['reason']}" if one.expected else "")
            ),
        )
        for one in found
    )


def as_csv(story: Story) -> str:
    """Numbers without units or intervals in words: value, low and high of each figure, and its source."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    parts = ("value", "low", "high")
    figures = KEYS[2:]
    writer.writerow(
        [
            "number",
            "row",
            *(f"{key}{'' if part == 'value' else '_' + part}" for key in figures for part in parts),
            "records",
        ]
    )
    for line in table(story):
        values = [_number(one, part) for one in line[2:] for part in parts]
        records = dict.fromkeys(one.record for one in line if one.record)
        writer.writerow([line[0].text, inert(line[1].text), *values, inert(" ".join(records))])
    return out.getvalue()


def _number(one: Cell, part: str) -> str:
    value = getattr(one, part)
    if value is not None:
        return f"{value:.6g}"
    return one.text if part == "value" and one.value is None and one.text != NONE else ""


_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "×": r"$\times$",
    "–": "--",
    "≤": r"$\le$",
    "→": r"$\to$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def tex(text: str) -> str:
    """Escaped for LaTeX."""
    return "".join(_TEX.get(letter, letter) for letter in text)


def as_latex(story: Story) -> str:
    """A booktabs table of what a paper reports."""
    kept = [KEYS.index(key) for key in ("row", "top_1", "difference", "flips", "p50", "ratio", "size", "accuracy")]
    lines = [" & ".join(tex(line[place].text) for place in kept) + r" \\" for line in table(story)]
    head = " & ".join(tex(HEADER[place]) for place in kept) + r" \\"
    caption = tex(f"{story.answer.line} Intervals are 95 %; reference: {story.reference}.")
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(kept) - 2)}l}}",
            r"\toprule",
            head,
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def as_json(story: Story, charts: Sequence[Chart], gallery: Gallery | None) -> str:
    """All that was derived, each figure with its source."""
    body: dict[str, Any] = {
        "answer": asdict(story.answer),
        "reference": story.reference,
        "focus": story.focus,
        "margin": story.margin,
        "records": [
            {"file": one.name, "sha256": one.sha256, "kind": one.record.kind, "created": one.record.created}
            for one in story.sources
        ],
        "rows": [dict(zip(KEYS, (one.plain() for one in line), strict=True)) for line in table(story)],
        "not_measured": [{"row": name, "reason": reason} for name, reason in not_run(story)],
        "charts": {
            one.key: {"title": one.title, "header": one.header, "rows": [[c.plain() for c in row] for row in one.rows]}
            for one in charts
        },
        "gate": json.loads(story.gate.to_json()) if story.gate else None,
        "flips": gallery.plain() if gallery else [],
    }
    return json.dumps(body, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
