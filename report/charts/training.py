"""Pictures of a training, as files of their own: learning curves, and which class was taken for which."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .chart import ACCENT, INK, RULE, data, svg

MOST_NAMES = 100  # classes that are drawn: names of more cannot be read
_COLOURS = {
    "ink": "#1b1f24", "quiet": "#59636e", "rule": "#d8dee4", "accent": "#3b6ea5", "bad": "#b3261e", "soft": "#9aa4af",
    "paper": "#ffffff",
}  # fmt: skip


def learning_curves(history: Sequence[Mapping[str, Any]]) -> str:
    """SVG: loss and share of right answers by epoch, fitted and held out.

    Args:
        history: epochs of a training record.
    """
    import altair as alt

    loss = _panel(history, "loss, nats", (("fitted", "loss", 1), ("held out", "held_out_loss", 1)))
    right = _panel(history, "right, %", (("fitted", "agreement", 100), ("held out", "held_out_top_1", 100)))
    return _standalone(svg(alt.vconcat(loss, right), "curves"))


def _panel(history: Sequence[Mapping[str, Any]], title: str, lines: Sequence[tuple[str, str, float]]) -> Any:
    import altair as alt

    values = [
        {"epoch": epoch["epoch"], "value": epoch[key] * scale, "of": name}
        for name, key, scale in lines
        for epoch in history
        if epoch.get(key) is not None
    ]
    names = [name for name, key, _ in lines if any(epoch.get(key) is not None for epoch in history)]
    x = alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1, grid=False), scale=alt.Scale(nice=False))
    y = alt.Y("value:Q", title=title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5, gridColor=RULE))
    colour = alt.Color("of:N", title=None, scale=alt.Scale(domain=names, range=[INK, ACCENT][: len(names)]))
    drawn = alt.Chart(data(values)).mark_line(point=len(history) < 2, strokeWidth=1.8)
    return drawn.encode(x=x, y=y, color=colour).properties(width=560, height=180)


def confusion_matrix(counts: Mapping[str, Mapping[str, int]], labels: Sequence[str]) -> str:
    """SVG: a square a pair of classes, darker for more of its row's photos; of many classes those most confused.

    Args:
        counts: class → answer → photos, as a training record has them.
        labels: names by class.
    """
    import altair as alt

    cells = [(int(truth), int(answer), n) for truth, row in counts.items() for answer, n in row.items()]
    shown = _most_confused(cells, MOST_NAMES)
    totals: dict[int, int] = {}
    for truth, _, count in cells:
        totals[truth] = totals.get(truth, 0) + count
    names = {index: f"{labels[index]} ({index})" for index in shown}
    values = [
        {"truth": names[truth], "answer": names[answer], "share": count / totals[truth], "text": str(count)}
        for truth, answer, count in cells
        if truth in names and answer in names
    ]
    order, side = [names[index] for index in shown], max(9, min(40, 900 // max(1, len(shown))))
    axis = alt.Axis(labelFontSize=min(12, side), labelLimit=150, grid=False, domain=False, ticks=False)
    base = alt.Chart(data(values)).encode(
        x=alt.X("answer:N", title="answer", sort=order, scale=alt.Scale(domain=order), axis=axis),
        y=alt.Y("truth:N", title="truth", sort=order, scale=alt.Scale(domain=order), axis=axis),
    )
    scale = alt.Scale(domain=[0, 1], range=["#e8eff6", _COLOURS["accent"]])
    drawn = base.mark_rect().encode(color=alt.Color("share:Q", title="share of the truth's photos", scale=scale))
    said = base.mark_text(fontSize=max(6, min(11, side - 3))).encode(text="text:N")
    return _standalone(svg(alt.layer(drawn, said).properties(width=alt.Step(side), height=alt.Step(side)), "confusion"))


def _most_confused(cells: Sequence[Sequence[int]], most: int) -> list[int]:
    """Classes with most wrong photos, as truth or as answer, in the order of their labels; those without come last."""
    wrong: dict[int, int] = {}
    for truth, answer, count in cells:
        for index in (truth, answer):
            wrong[index] = wrong.get(index, 0) + (count if truth != answer else 0)
    return sorted(sorted(wrong, key=lambda index: (-wrong[index], index))[:most])


def _standalone(text: str) -> str:
    """With colours of its own: a file has no page that sets them."""
    text = re.sub(r"var\(--(\w+)\)", lambda found: _COLOURS[found[1]], text)
    return re.sub(r"(<svg[^>]*>)", r'\1<rect width="100%" height="100%" fill="#ffffff"/>', text, count=1) + "\n"
