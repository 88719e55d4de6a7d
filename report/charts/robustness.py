"""Top-1 on photos that were corrupted on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...records import Estimate, Predictions
from ...records.classification import top_k
from ...records.corruption import blocks
from ..cell import Cell, of_estimate
from ..sources import Source
from ..story import Story
from .chart import ACCENT, INK, NARROW, SOFT, Chart, Missing, both, data, spoken

_DASHES = ([1, 0], [5, 3], [2, 2], [8, 3, 2, 3])


def chart(story: Story) -> Chart | Missing:
    """One small picture a corruption, one line a subject."""
    source = story.of_kind("robustness")
    if source is None:
        return Missing("Corrupted photos", "no record answers corrupted photos", "tiffin robustness ARTIFACTS")
    points = _points(source)
    names = list(dict.fromkeys(name for _, _, name, _ in points))
    if not names:
        return Missing("Corrupted photos", f"{source.name} holds no answers to photos", "tiffin robustness ARTIFACTS")
    wide, narrow = both("robustness", lambda width: _draw(story, points, names, width))
    cells = tuple(
        (
            Cell(corruption),
            Cell(str(strength)),
            Cell(name),
            of_estimate(found, 100, 2, "%", (source.name, name, f"top-1 under {corruption} {strength}")),
        )
        for corruption, strength, name, found in points
    )
    said = [
        f"{name} under {corruption} {strength}: {100 * found.value:.1f} %"
        for corruption, strength, name, found in points
        if strength == 3 or strength == 0
    ]
    return Chart(
        "robustness",
        "Corrupted photos",
        f"Top-1 by strength of each corruption; strength 0 is the clean photo. Bars are 95 % "
        f"intervals of each by itself. A line that "
        f"falls faster than that of {names[0]} belongs to an artifact with less room for bad photos.",
        spoken("Top-1 under corruption", said),
        wide,
        narrow,
        ("corruption", "strength", "row", "top-1, % (95 %)"),
        cells,
    )


def _points(source: Source) -> list[tuple[str, int, str, Estimate]]:
    """Corruption, strength, subject and its top-1; the clean photos begin each corruption's line."""
    (_, clean), *corrupted = blocks(source.record)
    kinds = list(dict.fromkeys(corruption.name for corruption, _ in corrupted))
    found = []
    for kind in kinds:
        levels: list[tuple[int, dict[str, Predictions]]] = [(0, clean)]
        levels += [(corruption.strength, answers) for corruption, answers in corrupted if corruption.name == kind]
        found += [
            (kind, strength, name, top_k(answers[name]))
            for strength, answers in levels
            for name in answers
            if answers[name].kind == "photos"
        ]
    return found


def _draw(story: Story, points: Sequence[tuple[str, int, str, Estimate]], names: Sequence[str], width: int) -> Any:
    import altair as alt

    values: list[dict[str, Any]] = [
        {
            "corruption": kind,
            "strength": strength,
            "row": name,
            "y": 100 * found.value,
            "low": 100 * found.low,
            "high": 100 * found.high,
        }
        for kind, strength, name, found in points
    ]
    held, kinds = data(values), list(dict.fromkeys(kind for kind, *_ in points))
    columns = 2 if width == NARROW else 4
    low, high = min(value["low"] for value in values), max(value["high"] for value in values)
    accented = story.focus if story.focus in names[1:] else names[min(1, len(names) - 1)]
    colours = [INK if name == names[0] else ACCENT if name == accented else SOFT for name in names]
    dashes = [_DASHES[place % len(_DASHES)] for place in range(len(names))]
    legend = alt.Legend(
        title=None, orient="top", columns=1 if width == NARROW else 2, labelLimit=300, symbolStrokeWidth=2
    )
    colour = alt.Color("row:N", scale=alt.Scale(domain=list(names), range=colours), legend=legend)
    dash = alt.StrokeDash("row:N", scale=alt.Scale(domain=list(names), range=dashes), legend=legend)
    x = alt.X(
        "strength:Q",
        title=None,
        scale=alt.Scale(domain=[0, 3.15], nice=False),
        axis=alt.Axis(values=[0, 1, 2, 3], format="d", grid=False),
    )
    y = alt.Y(
        "y:Q",
        title="top-1, %",
        scale=alt.Scale(domain=[max(0, low - 2), min(100, high + 2)], nice=False, zero=False),
        axis=alt.Axis(tickCount=4),
    )
    across = (width - 60 - 18 * (columns - 1)) // columns
    panels = []
    for place, kind in enumerate(kinds):
        base = alt.Chart(held).transform_filter(alt.datum.corruption == kind)
        lines = base.mark_line(strokeWidth=1.8).encode(x=x, y=y, color=colour, strokeDash=dash)
        bars = base.mark_rule(opacity=0.4).encode(x=x, y=alt.Y("low:Q", title="top-1, %"), y2="high:Q", color=colour)
        panel = alt.layer(bars, lines).properties(width=across, height=110, title=kind)
        panels.append(panel if place % columns == 0 else _bare(panel))
    return alt.concat(*panels, columns=columns, spacing=18)


def _bare(panel: Any) -> Any:
    """Only the first of a line of pictures says its scale."""
    import altair as alt

    for layer in panel.layer:
        layer.encoding.y.axis = alt.Axis(labels=False, ticks=False, title=None, tickCount=4)
        layer.encoding.y.title = None
    return panel
