"""Latency distributions: the cumulative share of calls, and the medians launch by launch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...records.latency import launch_medians_s
from ..cell import Cell, ms
from ..rows import Row
from ..story import Story
from ..times import p50_cell, p99_cell, p99_s
from .chart import INK, MOST_ROWS, NARROW, PAPER, SOFT, Chart, Missing, both, data, short, spoken, tone, undrawn
from .front import ticks
from .machine import comparable, per

_LEVELS = np.concatenate([np.linspace(0, 0.9, 46), np.linspace(0.91, 0.99, 17), [0.995, 0.999, 1]])


def _timed(story: Story, single_calls: bool) -> tuple[list[Row], str]:
    """Rows of one machine and pace, fastest first, and what is left out."""
    rows, elsewhere = comparable(story, [row for row in story.rows if row.timed], single_calls)
    rows.sort(key=lambda row: row.timed.latency.p50_s.value if row.timed else 0.0)
    return rows, " ".join(part for part in (undrawn(len(rows), what="slower row"), elsewhere) if part)


def _missing(title: str) -> Missing:
    return Missing(title, "no row was timed", "tiffin bench ARTIFACTS")


def ecdf(story: Story) -> Chart | Missing:
    """Share of calls that took at most so long."""
    rows, note = _timed(story, single_calls=True)
    if not rows:
        return _missing("Calls by latency")
    wide, narrow = both("ecdf", lambda width: _draw_ecdf(story, rows[:MOST_ROWS], width))
    said = [
        f"{row.name}: half of the calls within {ms(_at(row, 0.5))} ms, 95 % within {ms(_at(row, 0.95))} ms"
        for row in rows
    ]
    return Chart(
        "ecdf",
        "Calls by latency",
        "For each time, the share of all timed calls that took at most so long (no smoothing, "
        "outliers included). A steep "
        "line is a steady latency; a long shoulder at the top is a tail. Full line: the row "
        "to ship; dashed: the reference; "
        "pale lines: all others.",
        spoken("Cumulative share of calls", said),
        wide,
        narrow,
        ("row", "calls", "p50, ms", "p95, ms", "p99, ms (95 % bound)"),
        tuple(_calls(row) for row in rows),
        note,
    )


def _at(row: Row, share: float) -> float:
    assert row.timed is not None
    return float(np.quantile(row.timed.rounds.all_ns(), share)) / 1e9


def _calls(row: Row) -> tuple[Cell, ...]:
    assert row.timed is not None
    source, ns = row.timed.source.name, row.timed.rounds.all_ns()
    shares = [
        Cell(
            ms(_at(row, share)),
            source,
            row.key,
            f"quantile {share} of {len(ns)} calls",
            _at(row, share) * 1e3,
            unit="ms",
        )
        for share in (0.5, 0.95)
    ]
    return Cell(row.name), Cell(f"{len(ns):,}", source, row.key, "timed calls", len(ns)), *shares, p99_cell(row)


def _draw_ecdf(story: Story, rows: Sequence[Row], width: int) -> Any:
    import altair as alt

    values: list[dict[str, Any]] = []
    for row in rows:
        assert row.timed is not None
        quantiles = np.quantile(row.timed.rounds.all_ns(), _LEVELS) / 1e6
        values += [
            {
                "row": row.name,
                "x": round(float(x), 4),
                "y": round(float(level) * 100, 2),
                "colour": tone(row.name, story.focus, story.reference),
                "rank": _rank(row, story),
            }
            for x, level in zip(quantiles, _LEVELS, strict=True)
        ]
    low, high = min(v["x"] for v in values), max(v["x"] for v in values)
    held = data(values)
    layers = [
        alt.Chart(held)
        .transform_filter(f"datum.rank == {rank}")
        .mark_line(strokeWidth=line, strokeDash=dash, opacity=opacity)
        .encode(
            x=alt.X(
                "x:Q",
                title="latency of a call, ms (log scale)",
                scale=alt.Scale(type="log", domain=[low, high], nice=False),
                axis=alt.Axis(values=ticks(low, high), format="~g", grid=False),
            ),
            y=alt.Y(
                "y:Q",
                title="calls within that time, %",
                scale=alt.Scale(domain=[0, 100]),
                axis=alt.Axis(values=[0, 25, 50, 75, 90, 100]),
            ),
            detail="row:N",
            order="y:Q",
            color=alt.Color("colour:N", scale=None),
        )
        for rank, line, dash, opacity in ((0, 1, [1, 0], 0.55), (1, 2, [5, 3], 1), (2, 2.5, [1, 0], 1))
    ]
    return alt.layer(*layers).properties(width=width - 58, height=230 if width == NARROW else 280)


def _rank(row: Row, story: Story) -> int:
    return 2 if row.name == story.focus else 1 if row.name == story.reference else 0


def strip(story: Story) -> Chart | Missing:
    """One mark a launch, with the median of them and the 99th percentile of calls."""
    rows, note = _timed(story, single_calls=False)
    if not rows:
        return _missing("Launch by launch")
    wide, narrow = both("strip", lambda width: _draw_strip(story, rows[:MOST_ROWS], width))
    said = [f"{row.name}: {_launches(row)} launches, {p50_cell(row).text} ms" for row in rows if row.timed]
    return Chart(
        "strip",
        "Launch by launch",
        "Each tick is one launch of the process: the median of its calls, or under "
        "throughput of its time a photo. The dot is the "
        "median over launches, with its 95 % "
        "interval; the open circle is the 99th percentile of all calls, where there are "
        "enough of them (not under throughput). Ticks far apart mean that a "
        "process has a speed of its own, and that one launch proves nothing.",
        spoken("Medians by launch", said),
        wide,
        narrow,
        ("row", "launches", "p50, ms (95 %)", "least to greatest launch, ms", "p99, ms (95 % bound)"),
        tuple(_launch_cells(row) for row in rows),
        note,
    )


def _launches(row: Row) -> int:
    return len(set(row.timed.rounds.launches)) if row.timed else 0


def _launch_cells(row: Row) -> tuple[Cell, ...]:
    assert row.timed is not None
    source, medians = row.timed.source.name, launch_medians_s(row.timed.rounds)
    span = Cell(
        f"{ms(medians.min())} to {ms(medians.max())}",
        source,
        row.key,
        "medians of launches",
        low=float(medians.min()) * 1e3,
        high=float(medians.max()) * 1e3,
        unit="ms",
    )
    return (
        Cell(row.name),
        Cell(str(len(medians)), source, row.key, "launches", len(medians)),
        p50_cell(row),
        span,
        p99_cell(row),
    )


def _draw_strip(story: Story, rows: Sequence[Row], width: int) -> Any:
    import altair as alt

    room = 34 if width == NARROW else 36
    marks: list[dict[str, Any]] = []
    middles: list[dict[str, Any]] = []
    for row in rows:
        assert row.timed is not None
        p50, by_photo = row.timed.latency.p50_s, row.timed.rounds.regime == "throughput"
        p99 = None if by_photo else p99_s(row)
        name, colour = short(row.name, room), tone(row.name, story.focus, story.reference)
        name = f"{row.number} {name}"
        marks += [{"row": name, "x": float(x) * 1e3} for x in launch_medians_s(row.timed.rounds)]
        middles.append(
            {
                "row": name,
                "x": p50.value * 1e3,
                "low": p50.low * 1e3,
                "high": p50.high * 1e3,
                "colour": colour,
                "tail": p99 * 1e3 if p99 else None,
            }
        )
    low = min(mark["x"] for mark in marks)
    high = max([mark["x"] for mark in marks] + [one["tail"] or 0 for one in middles])
    axis = {
        "title": f"time, ms{per(rows)} (log scale)",
        "scale": alt.Scale(type="log", domain=[low / 1.03, high * 1.03], nice=False),
        "axis": alt.Axis(values=ticks(low / 1.03, high * 1.03), format="~g"),
    }
    beside = width != NARROW
    labels = alt.Axis(domain=False, ticks=False, labelColor=INK, labelLimit=250, grid=False)
    above = alt.Axis(
        domain=False,
        ticks=False,
        labelColor=INK,
        labelAlign="left",
        labelBaseline="bottom",
        labelOffset=-9,
        labelPadding=0,
        labelLimit=300,
        grid=False,
        zindex=1,
    )
    y = alt.Y("row:N", title=None, sort=[one["row"] for one in middles], axis=labels if beside else above)
    ticks_ = (
        alt.Chart(data(marks))
        .mark_tick(color=SOFT, thickness=1, size=13, opacity=0.8)
        .encode(x=alt.X("x:Q", **axis), y=y)
    )
    base = alt.Chart(data(middles)).encode(color=alt.Color("colour:N", scale=None))
    interval = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", **axis), x2="high:Q", y=y)
    dots = base.mark_circle(size=70, opacity=1, stroke=PAPER, strokeWidth=1).encode(x=alt.X("x:Q", **axis), y=y)
    tails = (
        base.transform_filter("isValid(datum.tail)")
        .mark_point(size=40, filled=False, opacity=0.9)
        .encode(x=alt.X("tail:Q", **axis), y=y)
    )
    inner = width - 262 if beside else width - 16
    return alt.layer(ticks_, interval, dots, tails).properties(width=inner, height=alt.Step(24 if beside else 38))
