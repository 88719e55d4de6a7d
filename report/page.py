"""The page: one HTML file that needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .cell import Cell
from .charts import Chart, Missing
from .gallery import Gallery
from .provenance import provenance
from .story import Story
from .tables import HEADER, KEYS, gate_table, not_run, table

TEMPLATES = Path(__file__).with_name("templates")


def render(template: str, **values: Any) -> str:
    """Fill a template of this folder; every value is escaped, in HTML."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(("html", "css", "js")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def page(
    story: Story, charts: Sequence[Chart], missing: Sequence[Missing], gallery: Gallery, title: str = "Tiffin report"
) -> str:
    """The whole page as HTML."""
    import markupsafe

    from .. import __version__

    drawn = [
        {"chart": chart, "wide": markupsafe.Markup(chart.wide), "narrow": markupsafe.Markup(chart.narrow)}
        for chart in charts
    ]
    return render(
        "page.html",
        story=story,
        answer=story.answer,
        title=title,
        header=HEADER,
        table=table(story),
        not_run=not_run(story),
        gate=gate_table(story),
        charts=drawn,
        missing=missing,
        gallery=gallery,
        filters=filters(story, gallery),
        provenance=provenance(story),
        classes_of=classes_of,
        version=__version__,
        key_figures=key_figures(story),
        css=markupsafe.Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        js=markupsafe.Markup((TEMPLATES / "page.js").read_text(encoding="utf-8")),
    )


def key_figures(story: Story) -> list[tuple[str, Cell]]:
    """Four figures of the row in focus, for a glance."""
    line = next((line for line in table(story) if line[1].text == story.focus), None)
    if line is None:
        return []
    wanted = {
        "top-1, %": "top_1",
        "against the reference, points": "difference",
        "median time, ms": "p50",
        "size, MB": "size",
    }
    found = [(title, line[KEYS.index(key)]) for title, key in wanted.items()]
    return [(title, figure) for title, figure in found if figure.value is not None]


def filters(story: Story, gallery: Gallery) -> dict[str, list[tuple[str, str, int]]]:
    """Choices of each filter with value, words and photos, most photos first."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("class", "artifact", "kind", "stage")}
    for item in gallery.items:
        counts["class"].update(classes_of(item))
        counts["artifact"].update({flip.row for flip in item.flips if not flip.stage})
        counts["kind"].update({flip.kind for flip in item.flips})
        counts["stage"].update({flip.stage for flip in item.flips if flip.stage})
    found = {name: [(value, value, count) for value, count in held.most_common()] for name, held in counts.items()}
    found["class"] = [(value, story.label(int(value)), count) for value, _, count in found["class"]]
    return found


def classes_of(item: Any) -> set[str]:
    """Indices of the classes that a photo has to do with: its truth, and what was answered first."""
    labels = {flip.before[0].label for flip in item.flips} | {flip.now[0].label for flip in item.flips}
    return {str(label) for label in labels | ({item.truth} if item.truth is not None else set())}
