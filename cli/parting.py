"""What a record of kind "debug" says, as people read it: the parting, its cause, a table, a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..words import counted
from . import chart, plain, render

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..records import Record
    from ..records.closeness import Closeness
    from ..records.parting import Compared, Parting, Tried

_AROUND, _CAUSES = 10, 3  # rows of the table before and behind the parting; causes that are told
_HEADER = ("tensor", "op", "SQNR dB", "max diff", "cosine", "range", "other's range")
_OP = 13  # letters of an operator that the table shows


def show_result(record: Record, as_json: bool, markdown: bool = False) -> None:
    """Print a record of kind "debug"."""
    render.show(plain.as_json(debug_json(record)) if as_json else f"\n{debug_text(record, markdown)}")


def parting_of(record: Record) -> Parting:
    """What the record holds, as types."""
    from ..records.parting import from_plain

    return from_plain(record.options["parting"])


def debug_json(record: Record) -> dict[str, Any]:
    """Everything derived, as plain values."""
    from dataclasses import asdict

    found = parting_of(record)
    return {
        "environment": dict(record.environment),
        "data": dict(record.data),
        "artifacts": [subject.name for subject in record.subjects],
        "floor_db": found.floor_db,
        "identical": found.exact,
        "first": _point(found.first) if found.first else None,
        "before": _point(found.before) if found.before else None,
        "points": [_point(point) for point in found.points],
        "causes": [{**asdict(each), "gain_db": each.gain_db} for each in found.causes],
        "tried": len(found.tried),
        **{name: record.options[name] for name in ("agree", "tapped", "passes", "reduced")},
    }


def _point(point: Compared) -> dict[str, Any]:
    held = point.found
    about = {"place": point.place, "tensor": point.name, "node": point.node, "op": point.op,
             "other_node": point.other_node, "other_op": point.other_op}  # fmt: skip
    return {**about, "sqnr_db": held.sqnr_db, "relative": held.relative, "cosine": held.cosine,
            "range": [held.low, held.high], "other_range": [held.found_low, held.found_high]}  # fmt: skip


def debug_text(record: Record, markdown: bool = False) -> str:
    """The table of at most 80 columns, the parting, its cause, and what tapping changed."""
    found = parting_of(record)
    table = _table(found)
    said = [_verdict(record, found), *cause_lines(found), *_said(record, found)]
    if markdown:
        return table.markdown() + "\n\n" + "\n".join(f"- {line}" for line in said)
    return f"{table.text()}\n\n{render.wrapped(said)}"


def _table(found: Parting) -> render.Table:
    """Without the cosine, then without the greatest difference, where names would not fit beside them."""
    rows = [_cells(point, found) for point in _shown(found)]
    tables = [render.Table(_HEADER, rows, left=2)]
    for lost in (_HEADER.index("cosine"), _HEADER.index("max diff")):
        header, *rows = ([*row[:lost], *row[lost + 1 :]] for row in (tables[-1].header, *tables[-1].rows))
        tables.append(render.Table(header, rows, left=2))
    return next((table for table in tables if table.width <= render.WIDTH), tables[-1])


def _shown(found: Parting) -> list[Compared]:
    """Those around the parting; some of all where nothing parts."""
    if found.first is None:
        step = max(1, math.ceil(len(found.points) / (2 * _AROUND)))
        return list(found.points[::-1][::step][::-1])
    at = found.points.index(found.first)
    return list(found.points[max(0, at - _AROUND) : at + _AROUND // 2 + 1])


def _cells(point: Compared, found: Parting) -> list[str]:
    held = point.found
    mark = "→ " if point is found.first else ""
    op = point.op if len(point.op) <= _OP else point.op[: _OP - 1] + "…"
    return [mark + point.name, op, _decibels(held.sqnr_db), f"{held.relative:.1e}", f"{held.cosine:.4f}",
            _range(held.low, held.high), _range(held.found_low, held.found_high)]  # fmt: skip


def _decibels(value: float) -> str:
    return "same" if value == math.inf else "no number" if value == -math.inf else f"{value:.1f}"


def _told(value: float) -> str:
    """Within a sentence."""
    return "no difference" if value == math.inf else f"{value:.1f} dB" if value > -math.inf else "no number"


def _range(low: float, high: float) -> str:
    return f"{_briefly(low)}…{_briefly(high)}"


def _briefly(value: float) -> str:
    """Such as 1.37e5, -2e-7."""
    return f"{value:.3g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")


def _verdict(record: Record, found: Parting) -> str:
    from ..benchmarks.debug.point import kind_of

    one, other = (subject.name for subject in record.subjects)
    about = f"on {counted(record.data['count'], 'row' if record.data.get('kind') == 'feeds' else 'photo')}"
    first = found.first
    if first is None and found.exact:
        return f"no layer parts: {one} and {other} are the same to the last bit {about}, at {_looked(found)}"
    if first is None:
        lowest = min(found.points, key=lambda point: point.found.sqnr_db)
        return (
            f"no layer parts: {one} and {other} stay above {found.floor_db:g} dB {about}, at {_looked(found)}; lowest "
            f"{_told(lowest.found.sqnr_db)} at {lowest.name}"
        )
    same = kind_of(first.op) == kind_of(first.other_op)
    ops = first.op if same else f"{first.op}; {first.other_op} in {other}"
    before = f", from {_told(found.before.found.sqnr_db)} at {found.before.name}" if found.before else ""
    where = "part" if _answers_part(record, found) else "part inside, not in their answers,"
    return (
        f"{one} and {other} {where} at {first.name}, made by {first.node} ({ops}): "
        f"{_told(first.found.sqnr_db)}{before} {about}"
    )


def _answers_part(record: Record, found: Parting) -> bool:
    """Untapped, as the engine runs them."""
    return any(_closeness(held).sqnr_db < found.floor_db for held in record.options["answers"].values())


def _looked(found: Parting) -> str:
    return f"{len(found.points)} of {found.pairs} tensors"


def cause_lines(found: Parting) -> list[str]:
    """The likeliest cause, others that explain it as well, or that none does."""
    if found.first is None:
        return []
    named = found.causes[:_CAUSES]
    if named:
        return [f"{'as likely' if at else 'cause'}: {_cause(each)}" for at, each in enumerate(named)]
    best = max(found.tried, key=lambda each: each.after.sqnr_db, default=None)
    nearest = f"; nearest: {_cause(best)}" if best else ""
    return [f"cause: none of {len(found.tried)} hypotheses explains it{nearest}"]


def _cause(tried: Tried) -> str:
    """Such as `activation: without Clip_5: 8.1 → 120.3 dB`."""
    if tried.certain:
        return f"{tried.kind}: {tried.words}"
    return f"{tried.kind}: {tried.words}: {_decibels(tried.before.sqnr_db)} → {_told(tried.after.sqnr_db)}"


def _said(record: Record, found: Parting) -> list[str]:
    lines = []
    if record.options["agree"]:
        same, count = record.options["agree"]
        lines.append(f"answers: top-1 agrees on {same} of {count}")
    for name, held in record.options["answers"].items():
        lines.append(f"{name}: {_told(_closeness(held).sqnr_db)}, untapped")
    parts = _answers_part(record, found)
    if found.first is None and parts:
        lines.append("the answers part though no tensor does: only untapped, so in what the engine fuses")
    if not parts and any(each.kind == "fp16 overflow" for each in found.causes):
        lines.append("this engine's answers do not part; a device that computes in fp16 would overflow here")
    moved = {name: change for name, change in record.options["tapped"].items() if change}
    told = ", ".join(f"{name} by {change:.1e} of their range" for name, change in moved.items())
    lines.append(f"tapping moved the answers of {told}" if moved else "tapping moved no answer by any bit")
    lines.append(f"SQNR: signal to noise over all values; parted below {found.floor_db:g} dB; {_looked(found)}")
    reduced = record.options["reduced"]
    if reduced and "why_not" in reduced:
        lines.append(f"nothing reduced: {reduced['why_not']}")
    elif reduced:
        at = _closeness(reduced["found"])
        lines.append(
            f"reduced: {reduced['path']}, {reduced['nodes']} of {reduced['of']} nodes, still parts "
            f"({_told(at.sqnr_db)}); its inputs and what is wanted are beside it, .npz"
        )
    return lines


def _closeness(raw: Mapping[str, Any]) -> Closeness:
    from ..records.closeness import closeness_of

    return closeness_of(raw)


def depth_chart(record: Record) -> str:
    """SQNR of every tensor that was looked at, in the graph's order."""
    found = parting_of(record)
    dots = [chart.Dot(point.place, point.found.sqnr_db, f"{point.name} ({point.op})") for point in found.points]
    title = " and ".join(subject.name for subject in record.subjects)
    return chart.depth_chart(
        title, "signal to noise, dB", dots, found.floor_db, found.first.place if found.first else None
    )
