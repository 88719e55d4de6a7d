"""Pairs of classes that are confused more often than before."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from ...records import Predictions
from ..cell import Cell
from ..story import Story
from .bars import inner, names, step
from .chart import BAD, INK, NARROW, QUIET, SOFT, Chart, Missing, both, data, spoken, undrawn
from .classes import focus

MOST = 15  # pairs drawn


class Pair(NamedTuple):
    """Photos of one class that were taken for another: by the reference, and now."""

    truth: int
    answer: int
    before: int
    now: int


def grown_pairs(found: Predictions, base: Predictions) -> list[Pair]:
    """Pairs with more photos than the reference has, by how much they grew.

    Counted over photos, not over all pairs of classes: these are a hundred million for 10,000 classes.
    """
    now, before = (
        Counter((int(t), int(a)) for t, a in zip(each.truth, each.top[:, 0], strict=True) if t != a)
        for each in (found, base)
    )
    grown = [Pair(*pair, before[pair], count) for pair, count in now.items() if count > before[pair]]
    return sorted(grown, key=lambda one: (one.before - one.now, -one.now, one.truth, one.answer))


def chart(story: Story) -> Chart | Missing:
    """Of the row in focus."""
    held = focus(story)
    if held is None:
        return Missing(
            "Confusions that grew", "no row was scored on the reference's photos", "tiffin score REFERENCE ARTIFACT"
        )
    row, answered, base = held
    pairs = grown_pairs(answered.found, base)
    if not pairs:
        return Missing("Confusions that grew", f"no pair is confused more often by {row.name}", "nothing to show")
    drawn = pairs[:MOST]
    wide, narrow = both("confusion", lambda width: _draw(story, drawn, width))
    traced = answered.source.name, row.key
    cells = tuple(
        (
            Cell(_words(story, one)),
            Cell(str(one.before), answered.source.name, story.reference, "photos of that truth and answer", one.before),
            Cell(str(one.now), *traced, "photos of that truth and answer", one.now),
        )
        for one in pairs
    )
    said = [f"{line[0].text}: {line[1].text} before, {line[2].text} now" for line in cells]
    return Chart(
        "confusion",
        "Confusions that grew",
        f"Photos of the class before the arrow that were taken for the one behind it: open "
        f"circle by {story.reference}, full "
        f"circle by {row.name}. Pairs that shrank are not drawn.",
        spoken("Confused pairs that grew", said),
        wide,
        narrow,
        ("truth → answer", "before", "now"),
        cells,
        undrawn(len(pairs), MOST, "pair that grew by less", "pairs that grew by less"),
    )


def _words(story: Story, one: Pair) -> str:
    return f"{story.label(one.truth)} → {story.label(one.answer)}"


def _draw(story: Story, drawn: list[Pair], width: int) -> Any:
    import altair as alt

    values = [
        {"row": _words(story, one), "before": one.before, "now": one.now, "text": f"{one.before} → {one.now}"}
        for one in drawn
    ]
    order = [str(value["row"]) for value in values]
    y = names(width, order)
    most = max(one.now for one in drawn)
    scale, axis = alt.Scale(domain=[0, most], nice=False), alt.Axis(tickMinStep=1, tickCount=5, format="d")
    base = alt.Chart(data(values)).encode(y=y)
    lines = base.mark_rule(color=SOFT, strokeWidth=2).encode(
        x=alt.X("before:Q", title="photos", scale=scale, axis=axis), x2="now:Q"
    )
    was = base.mark_point(size=60, color=QUIET, filled=False, opacity=1).encode(x=alt.X("before:Q", title="photos"))
    now = base.mark_circle(size=80, color=BAD, opacity=1).encode(x=alt.X("now:Q", title="photos"))
    said = base.mark_text(align="left", dx=10, color=INK).encode(x=alt.X("now:Q", title="photos"), text="text:N")
    return alt.layer(lines, was, now, said).properties(
        width=inner(width, 66 if width != NARROW else 58), height=step(width)
    )
