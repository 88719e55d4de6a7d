"""Horizontal bars with their names and values, as several charts use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .chart import INK, NARROW, data

BESIDE = 230  # CSS pixels for names beside bars; on a narrow screen they stand above


def names(width: int, order: Sequence[str], field: str = "row") -> Any:
    """The y axis: names beside the bars, or above them where there is no room."""
    import altair as alt

    shared: dict[str, Any] = {"domain": False, "ticks": False, "labelColor": INK, "grid": False}
    if width == NARROW:
        axis = alt.Axis(
            labelAlign="left",
            labelBaseline="bottom",
            labelOffset=-8,
            labelPadding=0,
            labelLimit=width - 20,
            zindex=1,
            **shared,
        )
    else:
        axis = alt.Axis(labelLimit=BESIDE, **shared)
    return alt.Y(f"{field}:N", title=None, sort=list(order), axis=axis)


def step(width: int) -> Any:
    """Height of one bar with its name."""
    import altair as alt

    return alt.Step(36 if width == NARROW else 24)


def inner(width: int, after: int = 60) -> int:
    """Width of the bars themselves; `after` is kept for the values at their ends."""
    return width - after - (16 if width == NARROW else BESIDE + 16)


def sides(values: Sequence[Mapping[str, Any]], width: int, title: str, order: Sequence[str], height: int = 12) -> Any:
    """Bars to both sides of 0, losses to the left; values have row, x, text, colour and side (-1 or 1)."""
    import altair as alt

    # Room for the words at the bars' ends, which would run into the names.
    reach = 1.12 * (max((abs(float(value["x"])) for value in values), default=1.0) or 1.0)
    x = alt.X(
        "x:Q",
        title=title,
        scale=alt.Scale(domain=[-reach, reach], nice=False),
        axis=alt.Axis(tickMinStep=1, tickCount=5, format="+d", grid=False),
    )
    base = alt.Chart(data(values)).encode(x=x, y=names(width, order))
    drawn = base.mark_bar(height=height, cornerRadiusEnd=2).encode(color=alt.Color("colour:N", scale=None))
    said = [
        base.transform_filter(f"datum.side == {side}")
        .mark_text(align=align, dx=6 * side)
        .encode(text="text:N", color=alt.value(INK))
        for side, align in ((-1, "right"), (1, "left"))
    ]
    after = 44 if width != NARROW else 24
    return alt.layer(drawn, *said).properties(width=inner(width, after), height=step(width))


def bars(values: Sequence[Mapping[str, Any]], width: int, title: str, across: int | None = None) -> Any:
    """Bars from 0 with the value behind each; values have row, x, text and colour."""
    import altair as alt

    order = [str(value["row"]) for value in values]
    y = names(width, order)
    most = max((float(value["x"]) for value in values), default=1.0) or 1.0
    x = alt.X("x:Q", title=title, scale=alt.Scale(domain=[0, most], nice=False), axis=alt.Axis(tickCount=3, grid=False))
    base = alt.Chart(data(values)).encode(y=y)
    drawn = base.mark_bar(height=10, cornerRadiusEnd=2).encode(x=x, color=alt.Color("colour:N", scale=None))
    said = base.mark_text(align="left", dx=6).encode(x=alt.X("x:Q", title=title), text="text:N", color=alt.value(INK))
    return alt.layer(drawn, said).properties(width=across or inner(width), height=step(width))
