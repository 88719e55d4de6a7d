"""Accuracy against latency, with intervals and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..cell import Cell, ms, of_estimate
from ..rows import Row
from ..story import Story
from ..times import p50_cell
from .chart import INK, NARROW, PAPER, QUIET, Chart, Missing, both, data, spoken, tone
from .machine import comparable, per
from .places import places


def chart(story: Story) -> Chart | Missing:
    """Rows that are both timed and scored."""
    held = [row for row in story.rows if row.timed and row.top_1 and not row.is_elsewhere]
    rows, elsewhere = comparable(story, held)
    if len(rows) < 2:
        return Missing(
            "Accuracy against latency",
            "no two rows are both timed and scored on photos",
            "tiffin demo",
        )
    front = pareto(rows)
    wide, narrow = both("front", lambda width: _draw(story, rows, front, width))
    left_out = len([row for row in story.rows if row.subject.reason or row.is_elsewhere or not row.timed])
    note = f"{left_out} rows that were not timed or not scored here are not in the picture." if left_out else ""
    note = " ".join(part for part in (note, elsewhere) if part)
    said = [f"{row.number} {row.name}: {ms(_x(row))} ms{per(rows)}, top-1 {100 * _y(row):.2f} %" for row in rows]
    return Chart(
        "front",
        "Accuracy against latency",
        "Each mark is a row of the table, by its number: further left is faster, higher is "
        "more accurate. Lines through a "
        "mark are 95 % intervals: of top-1 over photos, of the median over launches. The stepped line is the Pareto "
        "front: no row is both faster and more accurate than one on it. Intervals of top-1 "
        "overlap widely because they are of "
        "each row by itself; the table's paired difference is what decides.",
        spoken("Top-1 against median time", said),
        wide,
        narrow,
        ("row", "p50, ms (95 %)", "top-1, % (95 %)", "on the front"),
        tuple(_cells(row, row in front) for row in rows),
        note,
    )


def _x(row: Row) -> float:
    return row.timed.latency.p50_s.value if row.timed else 0.0


def _y(row: Row) -> float:
    return row.top_1.value if row.top_1 else 0.0


def pareto(rows: Sequence[Row]) -> list[Row]:
    """Rows than which none is both faster and at least as accurate, by their point values, fastest first."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (_x(row), -_y(row))):
        if not front or _y(row) > _y(front[-1]):
            front.append(row)
    return front


def _cells(row: Row, on_front: bool) -> tuple[Cell, ...]:
    assert row.timed is not None and row.top_1 is not None and row.answered is not None
    top_1 = of_estimate(row.top_1, 100, 2, "%", (row.answered.source.name, row.key, "share answered rightly"))
    return Cell(f"{row.number} {row.name}"), p50_cell(row), top_1, Cell("yes" if on_front else "no")


def _draw(story: Story, rows: Sequence[Row], front: Sequence[Row], width: int) -> Any:
    import altair as alt

    inner, height = width - 62, 300 if width == NARROW else 360
    values = [_value(row, story) for row in rows]
    spans = (
        _domain(values, "x_low", "x_high", 1.06),
        (min(v["y_low"] for v in values) - 0.3, max(v["y_high"] for v in values) + 0.3),
    )
    placed = places([(v["x"], v["y"], str(v["number"])) for v in values], spans, (inner, height))
    values = [{**value, "lx": place[0], "ly": place[1]} for value, place in zip(values, placed, strict=True)]
    times = f"median time, ms{per(rows)} (log scale)"
    x = alt.X(
        "x:Q",
        title=times,
        scale=alt.Scale(type="log", domain=spans[0], nice=False),
        axis=alt.Axis(values=ticks(*spans[0]), format="~g", grid=False),
    )
    y = alt.Y(
        "y:Q", title="top-1, %", scale=alt.Scale(domain=spans[1], nice=False, zero=False), axis=alt.Axis(tickCount=6)
    )
    base = alt.Chart(data(values)).encode(color=alt.Color("colour:N", scale=None))
    steps = [{"x": _x(row) * 1e3, "y": _y(row) * 100} for row in front]
    line = (
        alt.Chart(data(steps))
        .mark_line(interpolate="step-after", color=QUIET, strokeDash=[4, 3], strokeWidth=1)
        .encode(x=x, y=y)
    )
    bars = base.mark_rule(opacity=0.45).encode(x=x, y=alt.Y("y_low:Q", title="top-1, %"), y2="y_high:Q")
    across = base.mark_rule(opacity=0.45).encode(x=alt.X("x_low:Q", title=times), x2="x_high:Q", y=y)
    dots = base.mark_circle(size=80, opacity=1, stroke=PAPER, strokeWidth=1.5).encode(x=x, y=y)
    words = (
        alt.Chart(data(values))
        .mark_text(fontSize=12)
        .encode(
            x=alt.XValue(0),
            y=alt.YValue(0),
            text="number:N",
            xOffset=alt.XOffset("lx:Q", scale=None),
            yOffset=alt.YOffset("ly:Q", scale=None),
            color=alt.value(INK),
        )
    )
    return alt.layer(line, bars, across, dots, words).properties(width=inner, height=height)


def _value(row: Row, story: Story) -> dict[str, Any]:
    assert row.timed is not None and row.top_1 is not None
    p50, top = row.timed.latency.p50_s, row.top_1
    return {
        "number": row.number,
        "x": p50.value * 1e3,
        "x_low": p50.low * 1e3,
        "x_high": p50.high * 1e3,
        "y": top.value * 100,
        "y_low": top.low * 100,
        "y_high": top.high * 100,
        "colour": tone(row.name, story.focus, story.reference),
    }


def _domain(values: Sequence[dict[str, Any]], low: str, high: str, factor: float) -> tuple[float, float]:
    return min(v[low] for v in values) / factor, max(v[high] for v in values) * factor


def ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 and their tenfolds within a span; the ends too if there would be fewer than two."""
    found = [step * 10.0**power for power in range(-4, 8) for step in (1, 2, 5) if low <= step * 10.0**power <= high]
    if len(found) > 1:
        return found
    return [float(f"{value:.2g}") for value in (low, (low * high) ** 0.5, high)]
