"""One row over earlier records: latency and accuracy, commit by commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...records import Estimate, Record
from ...records.classification import top_k
from ...records.environment import MACHINE, differing
from ...records.latency import summarize
from ...records.ratios import pace
from ..cell import NONE, Cell, of_estimate
from ..sources import APART
from ..story import Story
from .chart import ACCENT, PAPER, RULE, Chart, Missing, both, data, spoken


@dataclass(frozen=True)
class Point:
    """What one record says of the row; timed_as counts the machines and paces seen, photos the sets, both from 1."""

    file: str
    created: str
    commit: str
    timed_as: int | None
    photos: int | None
    p50_s: Estimate | None
    top_1: Estimate | None


def chart(story: Story) -> Chart | Missing:
    """The row in focus in every record of the history's folder that has it."""
    row = story.row(story.focus)
    points = _points(story, row.key) if row else []
    if not story.history or row is None:
        return Missing(
            "Over commits", "no folder of earlier records was given", "tiffin report RECORDS --history FOLDER"
        )
    if len(points) < 2:
        return Missing(
            "Over commits", f"{len(points)} record in the folder has a row {row.name}", "tiffin bench, commit by commit"
        )
    wide, narrow = both("history", lambda width: _draw(points, width))
    cells = tuple(_cells(point, row.key) for point in points)
    said = [f"{line[0].text}: {line[2].text} ms, {line[3].text} %" for line in cells]
    note = (
        f"{len(story.skipped)} files of the folder are no records: {', '.join(story.skipped[:3])}"
        if story.skipped
        else ""
    )
    return Chart(
        "history",
        f"{row.name} over commits",
        "Median latency and top-1 of this row in earlier records, oldest first, with 95 % "
        "intervals. Latencies are joined by a line only where they were measured on one machine at one pace, "
        "top-1 only where it is of the same photos: others are no comparison.",
        spoken("Latency and top-1 over commits", said),
        wide,
        narrow,
        ("created", "commit", "p50, ms (95 %)", "top-1, % (95 %)", "machine and pace", "photos"),
        cells,
        note,
    )


def _points(story: Story, key: str) -> list[Point]:
    settings: list[tuple[Record, dict[str, Any]]] = []
    sets: dict[tuple[str, ...], int] = {}
    found = []
    for file, record in story.history:
        rounds, answers = record.rounds.get(key), record.predictions.get(key)
        latency = summarize(rounds) if rounds is not None else None
        top_1 = top_k(answers) if answers is not None and answers.kind == "photos" and len(answers) else None
        if record.kind in APART or (latency is None and top_1 is None):
            continue
        timed_as = _number(settings, record, pace(rounds, record.options)) if rounds and latency else None
        photos = sets.setdefault(answers.photos, len(sets) + 1) if answers and top_1 else None
        commit = str(record.environment.get("git_commit") or "")
        p50_s = latency.p50_s if latency else None
        found.append(Point(file, record.created, commit, timed_as, photos, p50_s, top_1))
    return found


def _number(known: list[tuple[Record, dict[str, Any]]], record: Record, paced: dict[str, Any]) -> int:
    """Of the machine and pace, from 1; what is new is added."""
    for number, (other, theirs) in enumerate(known, 1):
        if theirs == paced and not differing(other.environment, record.environment, MACHINE):
            return number
    known.append((record, paced))
    return len(known)


def _cells(point: Point, key: str) -> tuple[Cell, ...]:
    def figure(found: Estimate | None, scale: float, unit: str, how: str) -> Cell:
        return of_estimate(found, scale, 2, unit, (point.file, key, how)) if found else Cell(NONE)

    return (
        Cell(point.created or point.file),
        Cell(point.commit[:12] or NONE),
        figure(point.p50_s, 1e3, "ms", "median over launches"),
        figure(point.top_1, 100, "%", "share answered rightly"),
        *(Cell(str(number or NONE)) for number in (point.timed_as, point.photos)),
    )


def _draw(points: list[Point], width: int) -> Any:
    import altair as alt

    panels = []
    for title, scale, key in (("median time, ms", 1e3, "p50_s"), ("top-1, %", 100, "top_1")):
        values = []
        for place, point in enumerate(points):
            found = getattr(point, key)
            if found is not None:
                values.append(
                    {
                        "place": f"{place + 1}",
                        "name": _name(point),
                        "y": found.value * scale,
                        "low": found.low * scale,
                        "high": found.high * scale,
                        "joined": point.timed_as if key == "p50_s" else point.photos,
                    }
                )
        if values:
            panels.append(_panel(values, title, width, [f"{place + 1}" for place in range(len(points))]))
    return alt.vconcat(*panels)


def _name(point: Point) -> str:
    return f"{point.created[:10]} {point.commit[:7]}".strip() or point.file


def _panel(values: list[dict[str, Any]], title: str, width: int, order: list[str]) -> Any:
    import altair as alt

    x = alt.X(
        "place:N",
        title="record, oldest first (the table names each)",
        sort=order,
        scale=alt.Scale(domain=order),
        axis=alt.Axis(labelAngle=0, labelOverlap=True),
    )
    y = alt.Y("y:Q", title=title, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=4, gridColor=RULE))
    base = alt.Chart(data(values))
    line = base.mark_line(color=ACCENT, strokeWidth=1.5).encode(x=x, y=y, detail="joined:N")
    bars = base.mark_rule(color=ACCENT, opacity=0.5).encode(x=x, y=alt.Y("low:Q", title=title), y2="high:Q")
    dots = base.mark_circle(color=ACCENT, size=60, opacity=1, stroke=PAPER).encode(x=x, y=y)
    return alt.layer(line, bars, dots).properties(width=width - 62, height=140)
