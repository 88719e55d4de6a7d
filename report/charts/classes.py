"""Photos lost and won in each class against the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...records import Predictions
from ...records.paired import paired_counts
from ..cell import Cell, minus
from ..rows import Answered, Row
from ..story import Story
from .bars import sides
from .chart import ACCENT, BAD, Chart, Missing, both, spoken, undrawn

MOST = 20  # classes drawn


@dataclass(frozen=True)
class ClassChange:
    """Photos of one class: lost (right before, wrong now), won, and in all."""

    label: int
    lost: int
    won: int
    n: int


def class_changes(found: Predictions, base: Predictions) -> list[ClassChange]:
    """Classes with any photo lost or won, most changed first.

    Raises:
        BadInput: not the same photos and truths, or synthesized images.
    """
    paired_counts(found, base)
    now, before = found.top[:, 0] == found.truth, base.top[:, 0] == base.truth
    labels, places, n = np.unique(found.truth, return_inverse=True, return_counts=True)
    lost, won = (np.bincount(places, mask, len(labels)).astype(int) for mask in (before & ~now, now & ~before))
    changed = [ClassChange(int(labels[i]), int(lost[i]), int(won[i]), int(n[i])) for i in np.flatnonzero(lost + won)]
    return sorted(changed, key=lambda one: (-(one.lost + one.won), one.won - one.lost, one.label))


def focus(story: Story) -> tuple[Row, Answered, Predictions] | None:
    """The row in focus with both answers to photos, if there are such."""
    row = story.row(story.focus)
    if row is None or row.answered is None or row.answered.base is None or row.change is None:
        return None
    return row, row.answered, row.answered.base


def chart(story: Story) -> Chart | Missing:
    """Of the row in focus, the classes that changed most."""
    found = focus(story)
    if found is None:
        return Missing(
            "Class by class", "no row was scored on the reference's photos", "tiffin score REFERENCE ARTIFACT"
        )
    row, answered, base = found
    changed = class_changes(answered.found, base)
    if not changed:
        return Missing(
            "Class by class", f"no photo changed sides between {row.name} and {story.reference}", "nothing to show"
        )
    drawn = changed[:MOST]
    wide, narrow = both("classes", lambda width: _draw(story, drawn, width))
    traced = answered.source.name, row.key
    cells = tuple(
        (
            Cell(story.label(one.label)),
            *(
                Cell(str(count), *traced, how, count, unit="photos")
                for count, how in (
                    (one.lost, "right by the reference, wrong now"),
                    (one.won, "wrong by the reference, right now"),
                    (one.n, "photos of the class"),
                )
            ),
        )
        for one in changed
    )
    said = [f"{line[0].text}: {line[1].text} lost, {line[2].text} won of {line[3].text}" for line in cells]
    return Chart(
        "classes",
        "Class by class",
        f"Photos of each class whose answer {row.name} got wrong though {story.reference} got "
        f"it right (left), and the other way "
        "round (right). A few photos to both sides are what rounding does to photos near a "
        "boundary; a bar to the left alone is "
        "a class that lost.",
        spoken("Photos lost and won by class", said),
        wide,
        narrow,
        ("class", "lost", "won", "photos"),
        cells,
        undrawn(len(changed), MOST, "class that changed less", "classes that changed less"),
    )


def _draw(story: Story, drawn: list[ClassChange], width: int) -> Any:
    # Names of two classes may be equal: the number keeps them apart.
    titles = [story.label(one.label) for one in drawn]
    titles = [
        f"{title} (class {one.label})" if titles.count(title) > 1 else title
        for title, one in zip(titles, drawn, strict=True)
    ]
    values: list[dict[str, Any]] = []
    for title, one in zip(titles, drawn, strict=True):
        for count, sign, colour in ((one.lost, -1, BAD), (one.won, 1, ACCENT)):
            if count:
                text = minus(f"{sign * count:+d}")
                values.append({"row": title, "x": sign * count, "text": text, "colour": colour, "side": sign})
    return sides(values, width, "photos lost (−) and won (+)", titles)
