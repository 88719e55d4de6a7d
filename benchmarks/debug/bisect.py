"""Find the first tensor that differs with few taps: each output added to a graph may change what is fused in it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...artifact import TensorSpec
from ...errors import BadInput
from ...records.closeness import Closeness, closeness
from .align import Pair
from .point import Arrays, Point, spread
from .side import Feeds, Side

TAPS = 12  # a pass
Progress = Callable[[str], None]


@dataclass
class Comparison:
    """Two sides, their common points, the feeds of each, and what is known so far.

    Args:
        known: place among the pairs → how close.
        changed: side's name → greatest relative change of its outputs by tapping.
    """

    sides: tuple[Side, Side]
    pairs: tuple[Pair, ...]
    feeds: tuple[Feeds, Feeds]
    floor_db: float
    say: Progress = lambda line: None
    known: dict[int, Closeness] = field(default_factory=dict)
    changed: dict[str, float] = field(default_factory=dict)
    passes: int = 0

    def __post_init__(self) -> None:
        if not self.pairs:
            raise BadInput(
                f"{self.sides[0].name} and {self.sides[1].name} have no tensor in common",
                "two artifacts of one network",
                "compare each with the artifact that it was made from",
            )
        _require_alike(*self.sides)
        self.plain = tuple(_outputs(side, fed) for side, fed in zip(self.sides, self.feeds, strict=True))

    def answers(self) -> dict[str, Closeness]:
        """How close the outputs are, by name, nothing tapped."""
        one, other = self.plain
        found = zip(one.items(), other.values(), strict=False)  # named apart at times; one classifier's are one
        return {name: closeness(wanted, values) for (name, wanted), values in found}

    def compare(self, places: Sequence[int]) -> None:
        """Look at these places, a pass for each dozen."""
        waiting = [place for place in sorted(set(places)) if place not in self.known]
        for first in range(0, len(waiting), TAPS):
            some = waiting[first : first + TAPS]
            self.say(f"looking at {len(some)} of {len(self.pairs)} tensors")
            self._pass(some)

    def _pass(self, places: Sequence[int]) -> None:
        self.passes += 1
        pairs = [self.pairs[place] for place in places]
        ours, theirs = (
            side.answers([pair[which] for pair in pairs], fed)
            for which, (side, fed) in enumerate(zip(self.sides, self.feeds, strict=True))
        )
        sums: dict[int, Closeness] = defaultdict(Closeness)
        done = 0
        for one, other in zip(ours, theirs, strict=True):
            for place, (a, b) in zip(places, pairs, strict=True):
                sums[place] += closeness(*alike(one[a.tap], other[b.tap]))
            done += self._note_change((one, other), done)
        self.known |= sums

    def _note_change(self, found: tuple[Arrays, Arrays], done: int) -> int:
        """Compare the outputs of a tapped batch with those of the untapped run; returns photos in it."""
        for side, values, plain in zip(self.sides, found, self.plain, strict=True):
            for name, wanted in plain.items():
                rows = len(values[name])
                moved = closeness(wanted[done : done + rows], values[name]).relative
                self.changed[side.name] = max(self.changed.get(side.name, 0.0), moved)
        return rows

    def first_parted(self) -> int | None:
        """Place of the first tensor below the floor; None where there is none among those looked at."""
        places = list(range(len(self.pairs)))
        while True:
            self.compare(spread(places, TAPS))
            first = self._first()
            if first is None:
                return None
            good = max((place for place in self.known if place < first), default=-1)
            places = list(range(good + 1, first + 1))
            if len(places) == 1:
                return first

    def _first(self) -> int | None:
        return next((place for place in sorted(self.known) if self.is_parted(place)), None)

    def is_parted(self, place: int) -> bool:
        """Below the floor."""
        return self.known[place].sqnr_db < self.floor_db

    def first(self, photos: int) -> tuple[Feeds, Feeds]:
        """The first photos of both sides; as many as its batch is where a graph holds one, repeated if need be: a part
        of that graph takes no other number.
        """
        fixed = next((side.batch for side in self.sides if side.batch), None)

        def taken(array: np.ndarray) -> np.ndarray:
            return array[np.arange(fixed) % len(array)] if fixed else array[:photos]

        one, other = ({name: taken(array) for name, array in feeds.items()} for feeds in self.feeds)
        return one, other

    def values(self, points: tuple[Sequence[Point], Sequence[Point]], photos: int) -> tuple[Arrays, Arrays]:
        """Tensors of both sides over the first photos, by tap."""
        found = []
        for side, wanted, feeds in zip(self.sides, points, self.first(photos), strict=True):
            parts = list(side.answers(wanted, feeds))
            found.append({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
        return found[0], found[1]


def _require_alike(one: Side, other: Side) -> None:
    """Outputs that share a place hold as many values, as far as their shapes are known.

    Raises:
        BadInput: they do not.
    """
    for ours, theirs in zip(one.artifact.manifest.outputs, other.artifact.manifest.outputs, strict=False):
        sizes = _size(ours), _size(theirs)
        if None not in sizes and sizes[0] != sizes[1]:
            raise BadInput(
                f"{_told(one, ours)}, {_told(other, theirs)}",
                "two artifacts of one network",
                "compare each with the artifact that it was made from",
            )


def _size(output: TensorSpec) -> int | None:
    """Values of a row; None where that is not known."""
    known = [size for size in output.shape[1:] if size is not None]
    return math.prod(known) if len(known) == len(output.shape) - 1 else None


def _told(side: Side, output: TensorSpec) -> str:
    sizes = ", ".join(map(str, ("N", *output.shape[1:])))
    return f"{side.name} gives {output.name} ({sizes}) for {side.artifact.manifest.task}"


def _outputs(side: Side, feeds: Feeds) -> Arrays:
    parts = list(side.answers([], feeds))
    return {name: np.concatenate([part[name] for part in parts]) for name in side_outputs(side)}


def side_outputs(side: Side) -> list[str]:
    """Names of the artifact's own outputs."""
    return [spec.name for spec in side.artifact.manifest.outputs]


def alike(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in one shape: what differs in ones alone, such as (N, C, 1, 1) and (N, C), is the same tensor.

    Raises:
        BadInput: other sizes.
    """
    if one.shape != other.shape and one.size == other.size:
        other = other.reshape(one.shape)
    if one.shape != other.shape:
        raise BadInput(f"tensors of {one.shape} and {other.shape}", "artifacts that take photos of one size")
    return one, other
