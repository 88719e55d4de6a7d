"""What an artifact weighs: file size, memory, cold start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...records import Subject
from ..cell import Cell, mb
from ..rows import Row
from ..sources import Source
from ..story import Story
from .bars import bars, inner
from .chart import MOST_ROWS, NARROW, Chart, Missing, both, short, spoken, tone, undrawn
from .machine import one_machine


class Measure(NamedTuple):
    """One column: its name with the unit, the value of a subject, how it is derived, and its form."""

    title: str
    value: Callable[[Subject], float | None]
    how: str
    form: Callable[[float], str]


MEASURES = (
    Measure(
        "size, MB", lambda one: one.size_bytes / 1e6 or None, "bytes of the artifact's files", lambda x: mb(x * 1e6)
    ),
    Measure(
        "peak memory, MB",
        lambda one: one.peak_bytes / 1e6 if one.peak_bytes else None,
        "peak resident memory of the worker",
        lambda x: mb(x * 1e6),
    ),
    Measure(
        "cold start, s",
        lambda one: float(np.median(one.cold_start_s)) if one.cold_start_s else None,
        "median over launches, process start to first answer",
        lambda x: f"{x:.2f}",
    ),
)


def told(row: Row, measure: Measure) -> tuple[float, Source] | None:
    """The value of the first of its records that tells it, and that record."""
    for source in row.sources:
        if (value := measure.value(source.record.subject(row.key))) is not None:
            return value, source
    return None


def cell(row: Row, measure: Measure) -> Cell:
    """One figure of a row."""
    found = told(row, measure)
    if found is None:
        return Cell("–")
    value, source = found
    unit = measure.title.rpartition(", ")[2]
    return Cell(measure.form(value), source.name, row.key, measure.how, value, unit=unit)


def chart(story: Story) -> Chart | Missing:
    """Bars, one panel a measure."""
    rows = [row for row in story.rows if not row.is_elsewhere and any(told(row, one) for one in MEASURES[1:])]
    if not rows:
        return Missing("Size, memory and cold start", "no row was run by itself", "tiffin bench ARTIFACTS")
    rows, elsewhere = one_machine(story, rows)
    rows = sorted(rows, key=lambda row: row.subject.size_bytes)
    wide, narrow = both("footprint", lambda width: _draw(story, rows[:MOST_ROWS], width))
    cells = tuple((Cell(row.name), *(cell(row, one) for one in MEASURES)) for row in rows)
    said = [
        f"{row[0].text}: {row[1].text} MB, {row[2].text} MB of memory, {row[3].text} s to the first answer"
        for row in cells
    ]
    return Chart(
        "footprint",
        "Size, memory and cold start",
        "Shorter is better. Size is that of the artifact's files; memory is the greatest that "
        "the worker process held, the "
        "interpreter and the engine included; cold start runs from the start of the process to its first answer.",
        spoken("Size, peak memory and cold start", said),
        wide,
        narrow,
        ("row", *(one.title for one in MEASURES)),
        cells,
        " ".join(part for part in (undrawn(len(rows), what="larger row"), elsewhere) if part),
    )


def _draw(story: Story, rows: list[Row], width: int) -> Any:
    import altair as alt

    narrow = width == NARROW
    across = inner(width, 56) if narrow else (width - 250 - 3 * 56) // 3
    panels = []
    for place, measure in enumerate(MEASURES):
        values = [
            {
                "row": f"{row.number} {short(row.name, 38)}",
                "x": found[0],
                "text": measure.form(found[0]),
                "colour": tone(row.name, story.focus, story.reference),
            }
            for row in rows
            if (found := told(row, measure)) is not None
        ]
        panel = bars(values, width, measure.title, across).properties(
            title=alt.TitleParams(measure.title, frame="group")
        )
        panels.append(panel if narrow or not place else _unnamed(panel))
    return alt.vconcat(*panels) if narrow else alt.hconcat(*panels, spacing=44)


def _unnamed(panel: Any) -> Any:
    """Beside the first panel names need not be said again."""
    for layer in panel.layer:
        layer.encoding.y.axis = None
    return panel
