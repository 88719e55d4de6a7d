"""What is certified on which class of CPU."""

from __future__ import annotations

from typing import Any

from ...errors import command
from ...words import counted
from ..cell import Cell
from ..sources import Source
from ..story import Story
from .bars import inner, names, step
from .chart import ACCENT, BAD, INK, QUIET, Chart, Missing, both, data, spoken

_COLOURS = {"PASS": ACCENT, "FAIL": BAD}


def chart(story: Story) -> Chart | Missing:
    """Flips of each certificate of a record of kind "certify"."""
    source = story.of_kind("certify")
    if source is None or not source.record.options.get("certificates"):
        return Missing("Classes of CPU", "no record certifies an artifact on other CPUs", "tiffin certify ARTIFACT")
    held = dict(source.record.options["certificates"])
    lost = [subject for subject in source.record.subjects if subject.reason]
    wide, narrow = both("cpus", lambda width: _draw(held, width))
    cells = tuple(_cells(name, body, source) for name, body in held.items())
    said = [f"{line[0].text}: flips {line[2].text} %, {line[4].text}" for line in cells]
    note = (
        f"{counted(len(lost), 'row')} could not be certified here; `{command('show', source.name)}` says why."
        if lost
        else ""
    )
    return Chart(
        "cpus",
        "Classes of CPU",
        "Share of photos whose answer differs from the reference's on that class of CPU, with "
        "its 95 % interval. Accuracy belongs to "
        "a CPU: int8 sums overflow on some and not on others. Full circle: passes; cross: "
        "fails; open circle: not proven.",
        spoken("Flips by artifact and class of CPU", said),
        wide,
        narrow,
        ("artifact on class", "photos", "flips, % (95 %)", "lost / won", "verdict", "basis"),
        cells,
        note,
    )


def _cells(name: str, body: dict[str, Any], source: Source) -> tuple[Cell, ...]:
    rate = [100 * share for share in body["flip_rate"]]
    flips = Cell(
        f"{rate[0]:.2f} ({rate[1]:.2f} to {rate[2]:.2f})",
        source.name,
        name,
        f"{body['flips']} of {body['n']} photos, 95 % Wilson",
        rate[0],
        rate[1],
        rate[2],
        "%",
    )
    verdict = Cell(
        body["verdict"],
        source.name,
        name,
        body["reason"],
        tone={"PASS": "good", "FAIL": "bad"}.get(body["verdict"], ""),
    )
    return (
        Cell(name),
        Cell(f"{body['n']:,}", source.name, name, "photos that the figures are over", body["n"]),
        flips,
        Cell(f"{body['lost']} / {body['won']}", source.name, name, "right and now wrong / the other way round"),
        verdict,
        Cell(f"{body['basis']}, {body['place']}", source.name, name, "basis and place of the certificate"),
    )


def _draw(held: dict[str, dict[str, Any]], width: int) -> Any:
    import altair as alt

    values = []
    for name, body in held.items():
        rate = [100 * share for share in body["flip_rate"]]
        values.append(
            {
                "row": name,
                "x": rate[0],
                "low": rate[1],
                "high": rate[2],
                "verdict": body["verdict"],
                "colour": _COLOURS.get(body["verdict"], QUIET),
                "text": f"{rate[0]:.2f} % {body['verdict']}",
            }
        )
    y, most = names(width, list(held)), max(value["high"] for value in values)
    x = alt.X(
        "x:Q",
        title="photos with another answer, %",
        scale=alt.Scale(domain=[0, most], nice=False),
        axis=alt.Axis(tickCount=5),
    )
    base = alt.Chart(data(values)).encode(y=y, color=alt.Color("colour:N", scale=None))
    lines = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title="photos with another answer, %"), x2="high:Q")
    marks = []
    for verdict, shape, filled in (
        ("PASS", "circle", True),
        ("FAIL", "cross", True),
        ("INCONCLUSIVE", "circle", False),
    ):
        marks.append(
            base.transform_filter(f"datum.verdict == '{verdict}'")
            .mark_point(shape=shape, filled=filled, size=80, opacity=1)
            .encode(x=x)
        )
    said = (
        alt.Chart(data(values))
        .mark_text(align="left", dx=10, color=INK)
        .encode(y=y, x=alt.X("high:Q", title="photos with another answer, %"), text="text:N")
    )
    return alt.layer(lines, *marks, said).properties(width=inner(width, 130), height=step(width))
