"""The loss budget: where on its way the answers were lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...records.loss_budget import Stage, adds_up, loss_budget
from ..cell import Cell, minus
from ..story import Story
from .bars import sides
from .chart import ACCENT, BAD, Chart, Missing, both, spoken


def chart(story: Story) -> Chart | Missing:
    """Photos harmed and healed in each stage of a record of kind "explain"."""
    source = story.of_kind("explain")
    if source is None:
        return Missing("Loss budget", "no record follows an artifact stage by stage", "tiffin explain ARTIFACT")
    stages = loss_budget(source.record)
    wide, narrow = both("budget", lambda width: _draw(stages, width))
    cells = tuple(_cells(stage, source.name) for stage in stages)
    said = [f"{line[0].text}: top-1 {line[1].text} %, {line[2].text} harmed, {line[3].text} healed" for line in cells]
    sums = (
        "The stages add up to the whole." if adds_up(stages) else "The stages do NOT add up: the record is not sound."
    )
    return Chart(
        "budget",
        "Loss budget",
        "From the checkpoint to the device, each stage against the one before it: photos that "
        "were right and are wrong now "
        "(left), and the other way round (right). The stage with the longest bar to the left is where to look.",
        spoken("Photos harmed and healed by stage", said),
        wide,
        narrow,
        (
            "stage",
            "top-1, %",
            "harmed",
            "healed",
            "still wrong",
            "flips from the first",
            "newly",
            "recovered",
            "photos",
        ),
        cells,
        sums,
    )


def _cells(stage: Stage, source: str) -> tuple[Cell, ...]:
    after = f"against {stage.after}" if stage.after else "the first stage"
    top = Cell(
        f"{100 * stage.right / stage.n:.2f}",
        source,
        stage.name,
        f"{stage.right} of {stage.n} photos right",
        100 * stage.right / stage.n,
        unit="%",
    )
    counts = (stage.harmed, stage.healed, stage.still_wrong, stage.flipped, stage.newly, stage.recovered, stage.n)
    return (
        Cell(stage.name),
        top,
        *(Cell(f"{count:,}", source, stage.name, after, count, unit="photos") for count in counts),
    )


def _draw(stages: Sequence[Stage], width: int) -> Any:
    values: list[dict[str, Any]] = []
    for stage in stages:
        for count, sign, colour in ((stage.harmed, -1, BAD), (stage.healed, 1, ACCENT)):
            text = minus(f"{sign * count:+d}") if count else ""
            values.append({"row": stage.name, "x": sign * count, "text": text, "colour": colour, "side": sign})
    return sides(values, width, "photos harmed (−) and healed (+)", [stage.name for stage in stages], height=14)
