"""Compare two artifacts tensor by tensor, and write it down: a record of kind "debug"."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ... import machine
from ...artifact import RunConfig
from ...errors import BadInput, EngineFailed, TiffinError
from ...records import Record
from ...records.parting import Compared, Parting, Tried, floor_db, to_plain
from ..candidate import Candidate
from ..explain.lineage import Lineage
from .align import Pair, aligned
from .bisect import Comparison
from .causes import causes
from .reduce import cut_side, reduce
from .scene import boundary, looked_at
from .side import Feeds, Side, opened


@dataclass(frozen=True)
class Asked:
    """What is to be compared.

    Args:
        one: the trusted artifact; other: the one that is looked into.
        feeds: of each, by input's name, over the same photos.
        data: about the photos, for the record.
        floor_db: below which a tensor has parted; None takes that of the lower precision.
        whole: look at every tensor, not only where the first one differs.
        reduce: file for the smallest model that shows the difference.
    """

    one: Candidate
    other: Candidate
    feeds: tuple[Feeds, Feeds]
    data: Mapping[str, Any]
    floor_db: float | None = None
    whole: bool = False
    reduce: Path | None = None


def debug(asked: Asked, say: Callable[[str], None] = lambda line: None) -> Record:
    """Find where they part and why.

    Raises:
        BadInput: an engine that cannot be looked into, two networks without a common tensor, or no graph to reduce.
        EngineFailed: an artifact does not run.
    """
    environment = machine.environment()
    with tempfile.TemporaryDirectory(prefix="tiffin-debug-") as scratch:
        return _compared(asked, environment, Path(scratch), say)


def _compared(asked: Asked, environment: dict[str, Any], work: Path, say: Callable[[str], None]) -> Record:
    sides = (Side(asked.one, work / "one"), Side(asked.other, work / "other"))
    if asked.reduce:
        cut_side(sides)
    floor = asked.floor_db if asked.floor_db is not None else floor_db([side.precision for side in sides])
    comparison = Comparison(sides, pairs_of(sides, work), asked.feeds, floor, say)
    place = first_parted(comparison, asked.whole)
    tried: tuple[Tried, ...] = ()
    if place is not None:
        say("trying hypotheses about the cause")
        tried = causes(looked_at(comparison, place), floor)
    found = Parting(floor, tuple(_compared_point(comparison, at) for at in sorted(comparison.known)),
                    len(comparison.pairs), tried)  # fmt: skip
    options = {
        "parting": to_plain(found),
        "answers": {name: asdict(held) for name, held in comparison.answers().items()},
        "agree": _agree(comparison),
        "tapped": comparison.changed,
        "passes": comparison.passes,
        "reduced": _reduced(comparison, place, asked.reduce) if asked.reduce else None,
    }
    subjects = tuple(row.subject() for row in (asked.one, asked.other))
    return Record("debug", environment, subjects, options, asked.data, created=machine.utc_now())


def _reduced(comparison: Comparison, place: int | None, out: Path) -> dict[str, Any]:
    """What was written, or why nothing was: what was found of the whole is kept."""
    if place is None:
        return {"why_not": "no layer parts"}
    try:
        return asdict(reduce(comparison, place, out))
    except (BadInput, EngineFailed) as error:
        return {"why_not": "; ".join(filter(None, (error.what, error.fix)))}


def first_parted(comparison: Comparison, whole: bool) -> int | None:
    """The first place below the floor none of whose sources is: what was passed over by steps is looked at then."""
    if whole:
        comparison.compare(range(len(comparison.pairs)))
    place = comparison.first_parted()
    while place is not None:
        near = boundary(comparison, place)
        comparison.compare(near)
        earlier = [at for at in near if at < place and comparison.is_parted(at)]
        if not earlier:
            return place
        place = min(earlier)
    return None


def pairs_of(sides: tuple[Side, Side], work: Path) -> tuple[Pair, ...]:
    """Common tensors: of a torch program and a quantized graph by way of the float graph, whose tensors' names both
    lead to.
    """
    one, other = sides
    if (one.form == "pt2") == (other.form == "pt2"):
        return aligned(one.points, other.points)
    graph = other if one.form == "pt2" else one
    try:
        parent = Lineage(graph.artifact, None, work / "parent").fp32
    except TiffinError:
        parent = None
    if parent is None or parent.digest == graph.artifact.digest:
        return aligned(one.points, other.points)
    between = opened("parent", parent, RunConfig("onnxruntime"), work / "parent").points
    first, second = aligned(one.points, between), aligned(between, other.points)
    behind = {middle.name: last for middle, last in second}
    return tuple((point, behind[middle.name]) for point, middle in first if middle.name in behind)


def _compared_point(comparison: Comparison, place: int) -> Compared:
    one, other = comparison.pairs[place]
    return Compared(place, one.name, one.node, one.op, other.node, other.op, comparison.known[place])


def _agree(comparison: Comparison) -> list[int] | None:
    """Photos with one top-1, and of how many; None for what is no classifier."""
    if not all(side.artifact.manifest.task == "classification" for side in comparison.sides):
        return None
    one, other = (next(iter(found.values())) for found in comparison.plain)
    same = np.argmax(one, 1) == np.argmax(other, 1)
    return [int(same.sum()), len(same)]
