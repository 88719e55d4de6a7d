"""The report in Markdown: for a README, or a comment on a pull request, which GitHub takes up to 65,536 characters."""

from __future__ import annotations

from collections.abc import Sequence

from ..records.markdown import escaped
from .cell import Cell
from .charts import Chart
from .gallery import Gallery
from .provenance import provenance
from .story import Story
from .tables import HEADER, gate_table, not_run, table

MOST_BYTES = 60_000
_FLIPS = 20  # photos listed
_GATE = ("artifact", "check", "outcome", "against", "reason")


def as_markdown(story: Story, charts: Sequence[Chart], gallery: Gallery, most_bytes: int = MOST_BYTES) -> str:
    """Answer, table, gate, then what explains them; the last sections go where it would exceed `most_bytes`."""
    head = f"**{escaped(story.answer.line)}**\n"
    sections = [part for part in _sections(story, charts, gallery) if part[1]]
    kept: list[str] = []
    left = most_bytes - len(head.encode()) - 300
    dropped: list[str] = []
    for title, body in sections:
        text = f"\n## {title}\n\n{body}\n"
        if dropped or len(text.encode()) > left:
            dropped.append(title)
            continue
        kept.append(text)
        left -= len(text.encode())
    if dropped:
        kept.append(f"\nLeft out for room: {', '.join(dropped)}; the page of `tiffin report RECORD` has them.\n")
    return head + "".join(kept)


def _sections(story: Story, charts: Sequence[Chart], gallery: Gallery) -> list[tuple[str, str]]:
    """Title and text, the most important first."""
    gate = gate_table(story)
    missing = "\n".join(f"- {escaped(name)}: {escaped(reason)}" for name, reason in not_run(story))
    return [
        ("Candidates", cells(HEADER, table(story))),
        ("Gate", cells(_GATE, gate) if gate else ""),
        ("Records", _records(story)),
        ("Not measured", missing),
        ("Photos whose answer changed", _flips(story, gallery)),
        *((chart.title, f"{escaped(chart.caption)}\n\n{cells(chart.header, chart.rows)}") for chart in charts),
    ]


def cells(header: Sequence[str], lines: Sequence[Sequence[Cell]]) -> str:
    """A table; its first two columns are words."""
    rule = ["---" if place < 2 else "--:" for place in range(len(header))]
    rows = [[escaped(cell.text) for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in ([escaped(name) for name in header], rule, *rows))


def _records(story: Story) -> str:
    rows = [
        f"- {escaped(one['file'])} ({one['kind']}, {one['created']}), sha256 `{one['sha256'][:16]}…`"
        for one in provenance(story).records
    ]
    return "\n".join(rows)


def _flips(story: Story, gallery: Gallery) -> str:
    mine = [(item, flip) for item in gallery.items for flip in item.flips if flip.row == story.focus and not flip.stage]
    if not mine:
        return ""
    lines = ["| photo | truth | was | is | |", "| --- | --- | --- | --- | --- |"]
    for item, flip in mine[:_FLIPS]:
        truth = story.label(item.truth) if item.truth is not None else ""
        cells = (
            item.name or item.photo[:16],
            truth,
            story.label(flip.before[0].label),
            story.label(flip.now[0].label),
            flip.kind,
        )
        lines.append("| " + " | ".join(escaped(cell) for cell in cells) + " |")
    if len(mine) > _FLIPS:
        lines.append(f"\n{len(mine) - _FLIPS} more of {escaped(story.focus)}.")
    return "\n".join(lines)
