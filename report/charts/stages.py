"""Photo to label: where the time goes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ...records import Stages
from ..cell import Cell, ms
from ..story import Story
from .bars import inner, names, step
from .chart import ACCENT, INK, MOST_ROWS, Chart, Missing, both, data, spoken, undrawn

_PALE = tuple(f"var(--pale-{number})" for number in range(1, 5))  # the page mixes them from its accent


def chart(story: Story) -> Chart | Missing:
    """Median of each stage of a photo's way."""
    found = [
        (row.number, row.name, source.name, row.key, source.record.stages[row.key])
        for row in story.rows
        for source in row.sources[:1]
        if row.key in source.record.stages
    ]
    if not found:
        return Missing("Photo to label", "no record splits a photo's way into stages", "tiffin bench ARTIFACTS")
    found = sorted(found, key=lambda one: _medians(one[4]).sum())
    header = list(dict.fromkeys(name for *_, stages in found for name in stages.names))
    wide, narrow = both("stages", lambda width: _draw(found[:MOST_ROWS], header, width))
    rows = []
    for _, name, source, key, stages in found:
        medians = dict(zip(stages.names, _medians(stages).tolist(), strict=True))
        cells = [
            Cell(
                ms(medians[stage]) if stage in medians else "–",
                source,
                key,
                f"median of {len(stages.ns)} photos",
                medians.get(stage, 0) * 1e3,
                unit="ms",
            )
            for stage in header
        ]
        total = sum(medians.values())
        rows.append((Cell(name), *cells, Cell(ms(total), source, key, "sum of the medians", total * 1e3, unit="ms")))
    said = [
        f"{row[0].text}: {', '.join(f'{stage} {cell.text} ms' for stage, cell in zip(header, row[1:], strict=False))}"
        for row in rows
    ]
    return Chart(
        "stages",
        "Photo to label",
        "Median time of each stage that one photo passes, one after the other; the number is "
        "their sum. The full colour is the "
        "model; what is pale is spent before and after it, and no quantization makes it less.",
        spoken("Median of each stage", said),
        wide,
        narrow,
        ("row", *(f"{stage}, ms" for stage in header), "sum, ms"),
        tuple(rows),
        undrawn(len(found), what="slower row"),
    )


def _medians(stages: Stages) -> np.ndarray:
    """Seconds, one a stage."""
    return np.asarray(np.median(stages.ns, axis=0) / 1e9)


def _draw(found: list[Any], header: list[str], width: int) -> Any:
    import altair as alt

    values: list[dict[str, Any]] = []
    totals: list[dict[str, Any]] = []
    for number, name, _, _, stages in found:
        medians = _medians(stages) * 1e3
        row = f"{number} {name}"
        values += [
            {"row": row, "stage": stage, "x": float(x), "place": header.index(stage)}
            for stage, x in zip(stages.names, medians, strict=True)
        ]
        totals.append({"row": row, "x": float(medians.sum()), "text": f"{ms(medians.sum() / 1e3)} ms"})
    others = itertools.cycle(_PALE)
    shades = [ACCENT if stage == "inference" else next(others) for stage in header]
    y = names(width, [one["row"] for one in totals])
    most = max(one["x"] for one in totals)
    x = alt.X(
        "x:Q",
        title="ms",
        stack="zero",
        scale=alt.Scale(domain=[0, most], nice=False),
        axis=alt.Axis(tickCount=4, grid=False),
    )
    legend = alt.Legend(
        title=None,
        orient="top",
        symbolStrokeWidth=0,
        symbolType="square",
        columns=2 if width < 400 else 0,
    )
    drawn = (
        alt.Chart(data(values))
        .mark_bar(height=12)
        .encode(
            y=y,
            x=x,
            order="place:Q",
            color=alt.Color("stage:N", scale=alt.Scale(domain=header, range=shades), legend=legend),
        )
    )
    said = (
        alt.Chart(data(totals))
        .mark_text(align="left", dx=6, color=INK)
        .encode(y=y, x=alt.X("x:Q", title="ms"), text="text:N")
    )
    return alt.layer(drawn, said).properties(width=inner(width), height=step(width))
