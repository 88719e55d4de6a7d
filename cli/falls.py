"""A record of corrupted photos as tables: top-1 under each corruption, and who falls faster than the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..words import counted
from . import notes, plain
from .render import WIDTH, Table, wrapped

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..records import Estimate, Record
    from ..records.corruption import Corruption, FasterFall

ALPHA = 0.05  # of all comparisons of a record together
_LONGEST = 40  # characters of a column's head


def as_text(record: Record, reference: str, markdown: bool = False) -> str:
    """Tables of at most 80 columns, and notes; in Markdown one table of all."""
    from ..records.corruption import faster_falls

    found = faster_falls(record, reference)
    names = [name for name in record.predictions if name != reference]
    said = _notes(record, reference, found)
    if markdown:
        return f"{_table(record, reference, names, found).markdown()}\n\n" + "\n".join(f"- {note}" for note in said)
    shown = [table.text() for table in _fitting(record, reference, names, found)]
    return "\n" + "\n\n".join([*shown, wrapped(said)])


def _fitting(
    record: Record, reference: str, names: list[str], found: dict[tuple[str, Corruption], FasterFall]
) -> list[Table]:
    """As many artifacts beside one another as 80 columns hold, one at least."""
    for beside in range(len(names), 0, -1):
        groups = [names[first : first + beside] for first in range(0, len(names), beside)]
        tables = [_table(record, reference, group, found) for group in groups]
        if beside == 1 or all(table.width <= WIDTH for table in tables):
            return tables
    return [_table(record, reference, [], found)]


def _table(record: Record, reference: str, names: list[str], found: dict[tuple[str, Corruption], FasterFall]) -> Table:
    from ..records.classification import top_k
    from ..records.corruption import blocks
    from ..records.paired import difference

    rows = []
    for corruption, answers in blocks(record):
        cells = [
            _points(difference(answers[name], answers[reference])) + _mark(found.get((name, corruption)))
            for name in names
        ]
        title = str(corruption) if corruption.strength else "clean"
        rows.append([title, f"{top_k(answers[reference]).value * 100:.1f}", *cells])
    heads = (name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}" for name in names)
    return Table(("photos", "reference %", *heads), rows)


def _points(found: Estimate) -> str:
    """Such as `-1.2 (-2.4 to +0.1)`, 0.01 being one point."""
    value, low, high = (number * 100 for number in (found.value, found.low, found.high))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def _mark(fall: FasterFall | None) -> str:
    return " *" if fall is not None and fall.p_value <= ALPHA else ""


def _notes(record: Record, reference: str, found: dict[tuple[str, Corruption], FasterFall]) -> list[str]:
    count, *rest = notes.data_notes(record)
    said = [
        f"reference: top-1 of {reference} on {count}, each under every corruption; others: points more or less "
        "on the same photos, with Newcombe's paired 95 % intervals"
    ]
    if found:
        said += [
            *(
                f"{name}: worst under {_worst(record, reference, name)}"
                for name in dict.fromkeys(key[0] for key in found)
            ),
            f"* falls faster than {reference}: difference of the two falls from the clean photos, exact, "
            f"5 % by Holm over {counted(len(found), 'comparison')}",
            *_flagged(reference, found),
        ]
    said += [*_unchanged(record), *rest, *notes.simulation_notes(record)]
    said += [f"not run: {subject.name}: {subject.reason}" for subject in record.subjects if subject.reason]
    return said + notes.cut_notes(record)


def _worst(record: Record, reference: str, name: str) -> str:
    from ..records.corruption import blocks
    from ..records.paired import difference

    gaps = [
        (difference(answers[name], answers[reference]), corruption)
        for corruption, answers in blocks(record)
        if corruption.strength
    ]
    worst, corruption = min(gaps, key=lambda pair: pair[0].value)
    return f"{corruption}: {_points(worst)} points against {reference}"


def _flagged(reference: str, found: dict[tuple[str, Corruption], FasterFall]) -> list[str]:
    lines = [
        f"{name} falls faster than {reference} under {corruption}: "
        f"by {_points(fall.extra)} points, p = {fall.p_value:.2g}"
        for (name, corruption), fall in found.items()
        if fall.p_value <= ALPHA
    ]
    return lines or [f"none is proven to fall faster than {reference}; {_closest(found)}"]


def _closest(found: dict[tuple[str, Corruption], FasterFall]) -> str:
    """What «none» leaves open."""
    (name, corruption), fall = min(found.items(), key=lambda item: (item[1].p_value, -item[1].extra.value))
    return f"closest is {name} under {corruption}: by {_points(fall.extra)} points, p = {fall.p_value:.2g}"


def _unchanged(record: Record) -> list[str]:
    """Photos too small for a corruption: a blur within one pixel is none."""
    from ..records.corruption import blocks

    (_, first), *corrupted = ((way, next(iter(answers.values()))) for way, answers in blocks(record))
    alike = {way: sum(map(str.__eq__, first.photos, found.photos)) for way, found in corrupted}
    return [f"{way} left {count} of {len(first)} photos as they were: they are too small for it"
            for way, count in alike.items() if count]  # fmt: skip


def as_json(record: Record, reference: str) -> str:
    """Each block's derived values as JSON text."""
    from ..records.corruption import faster_falls

    found = faster_falls(record, reference)
    rows = [row for name in record.predictions for row in _rows(record, reference, name, found)]
    about = {key: value for key, value in record.data.items() if key != "files"}
    return plain.as_json({"environment": dict(record.environment), "data": about, "complete": record.complete,
                          "reference": reference, "rows": rows})  # fmt: skip


def _rows(
    record: Record, reference: str, name: str, found: dict[tuple[str, Corruption], FasterFall]
) -> list[dict[str, Any]]:
    from ..records.classification import top_k
    from ..records.corruption import blocks
    from ..records.paired import difference, flips

    return [
        {
            "name": name,
            "corruption": corruption.name,
            "strength": corruption.strength,
            "top1": vars(top_k(answers[name])),
            "difference": vars(difference(answers[name], answers[reference])),
            "flips": flips(answers[name], answers[reference]).count,
            "extra_fall": vars(fall.extra) if (fall := found.get((name, corruption))) else None,
            "p": fall.p_value if fall else None,
        }
        for corruption, answers in blocks(record)
    ]
