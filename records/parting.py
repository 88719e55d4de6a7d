"""Where two artifacts part, derived from a record of kind "debug": the first point below the floor, and its cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .closeness import Closeness, closeness_of

# Signal to noise in dB that an artifact of a precision keeps at each of its layers where nothing is broken. One
# rounding to p bits of mantissa leaves about 6.02 p + 7 dB; what layers add to that is left room for (docs/debug.md).
FLOORS_DB: Mapping[str, float] = {"fp32": 60.0, "fp16": 35.0, "bf16": 18.0, "int8": 15.0, "fp8": 8.0}
SAME_DB = 20.0  # of one quantized graph on two engines: values at the edge of a step alone fall apart
GENERAL = ("engine", "weights", "scale", "precision", "graph")  # they say where it is, not what it is
GAIN_DB = 10.0  # a cause is named where it explains nine tenths of the noise


@dataclass(frozen=True)
class Compared:
    """One point.

    Args:
        place: among all points that both graphs have, in the first one's order, from 0.
        name: of the tensor.
        node, op, other_node, other_op: what computes it in the first graph, and in the second.
    """

    place: int
    name: str
    node: str
    op: str
    other_node: str
    other_op: str
    found: Closeness


@dataclass(frozen=True)
class Tried:
    """One hypothesis about the cause.

    Args:
        kind: such as "padding"; words: what would then be so.
        before: how close the two artifacts' tensors are; after: how close with the hypothesis applied to one of them.
        certain: it follows from what was seen, and needs no comparison.
    """

    kind: str
    words: str
    before: Closeness
    after: Closeness
    certain: bool = False

    @property
    def gain_db(self) -> float:
        """What it explains of the noise, dB; a value that is no number counts as -60 dB, no noise at all as 200."""
        return _held(self.after) - _held(self.before)


def _held(found: Closeness) -> float:
    return min(max(found.sqnr_db, -60.0), 200.0)


@dataclass(frozen=True)
class Parting:
    """What a record says.

    Args:
        floor_db: below which two tensors have parted.
        points: those that were compared, in order; the last is an output.
        pairs: how many there are.
        tried: hypotheses, the likeliest first.
    """

    floor_db: float
    points: tuple[Compared, ...]
    pairs: int
    tried: tuple[Tried, ...] = ()

    @property
    def first(self) -> Compared | None:
        """The first point below the floor."""
        return next((point for point in self.points if point.found.sqnr_db < self.floor_db), None)

    @property
    def before(self) -> Compared | None:
        """The last point compared in front of it."""
        first = self.first
        earlier = [point for point in self.points if first is not None and point.place < first.place]
        return earlier[-1] if earlier else None

    @property
    def exact(self) -> bool:
        """No tensor that was compared differs in any bit."""
        return all(point.found.exact for point in self.points)

    @property
    def causes(self) -> tuple[Tried, ...]:
        """Hypotheses that explain the parting, the best first."""
        return tuple(each for each in self.tried if is_named(each, self.floor_db))


def is_named(tried: Tried, floor_db: float) -> bool:
    """Whether a hypothesis explains the noise: no more than the floor allows is left, and a tenth of what was there."""
    return tried.certain or (tried.after.sqnr_db >= floor_db and tried.gain_db >= GAIN_DB)


def ordered(tried: Sequence[Tried], floor_db: float) -> tuple[Tried, ...]:
    """Certain ones first, then those that explain it, the particular before the general, by what they explain."""
    return tuple(sorted(tried, key=lambda each: _rank(each, floor_db)))


def _rank(tried: Tried, floor_db: float) -> tuple[bool, bool, bool, float]:
    return not tried.certain, not is_named(tried, floor_db), tried.kind in GENERAL, -tried.gain_db


def floor_db(precisions: Sequence[str]) -> float:
    """Of two artifacts: that of the lower precision."""
    return min(FLOORS_DB.get(word, FLOORS_DB["fp32"]) for word in precisions)


def to_plain(parting: Parting) -> dict[str, Any]:
    """For a record's options."""
    return asdict(parting)


def from_plain(raw: Mapping[str, Any]) -> Parting:
    """Of a record's options; what JSON has as null is an empty range."""
    points = tuple(Compared(**{**each, "found": closeness_of(each["found"])}) for each in raw["points"])
    tried = tuple(Tried(**{**each, "before": closeness_of(each["before"]), "after": closeness_of(each["after"])})
                  for each in raw["tried"])  # fmt: skip
    return Parting(raw["floor_db"], points, raw["pairs"], tried)
