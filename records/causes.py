"""What an explain record says of the cause: hypotheses under which the lost answers come back, or none.

A hypothesis is a subject whose place is "hypothesis: …": the artifact (or its graph) once more on some of the photos,
fed or repaired as the hypothesis says. `record.options["hypotheses"]` holds, by its name, `kind`, `against` (the stage
that it would explain) and `words`. Two paired tests a hypothesis, of top-1 and of the agreement with the first stage,
each by the exact McNemar test, all adjusted together by Holm's method.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import BadInput
from .estimate import Estimate
from .loss_budget import on_photos, right_of
from .multiple import holm
from .paired import mcnemar_p, newcombe_paired, paired_counts
from .record import Record

ALPHA = 0.05


@dataclass(frozen=True)
class Cause:
    """One hypothesis with its evidence, on the n photos that it was tried on.

    Args:
        name: of its subject.
        kind: such as "channel order"; hypotheses of one kind exclude each other.
        words: what was done differently, such as "photos fed as BGR".
        against: the stage that it would explain.
        reference: the stage that answers as it should; empty where nothing tells but the truth.
        right, right_under: photos answered rightly by that stage, and under the hypothesis.
        gain: top-1 under the hypothesis minus without, Newcombe's paired interval.
        right_reference: photos answered rightly by the reference; None without one.
        flipped, flipped_under: photos answered otherwise than by the reference; None without one.
        p_value: the lesser of both tests', adjusted.
        named: whether it is a cause: significant, to the better, and not worse than the best of the same stage.
    """

    name: str
    kind: str
    words: str
    against: str
    reference: str
    n: int
    right: int
    right_under: int
    gain: Estimate
    right_reference: int | None = None
    flipped: int | None = None
    flipped_under: int | None = None
    p_value: float = 1.0
    named: bool = False

    @property
    def explains(self) -> float | None:
        """Share of the lost top-1 that comes back; None where none was lost, or nothing tells. Above 1: more came."""
        if self.right_reference is None or self.right_reference <= self.right:
            return None
        return (self.right_under - self.right) / (self.right_reference - self.right)

    @property
    def undoes(self) -> float | None:
        """Share of the flips that are undone, new ones subtracted; None where there are none, or nothing tells."""
        if not self.flipped or self.flipped_under is None:
            return None
        return 1 - self.flipped_under / self.flipped


def causes(record: Record, reference: str = "", alpha: float = ALPHA) -> tuple[Cause, ...]:
    """All hypotheses that were answered, those named first, then by what comes back.

    Args:
        reference: subject that answers as the artifact should; the record's first stage if empty, unless that is the
            artifact itself.

    Raises:
        BadInput: a hypothesis about a stage that is not there, or on photos which that stage did not answer.
    """
    told: Mapping[str, Mapping[str, Any]] = record.options.get("hypotheses") or {}
    answered = {name: about for name, about in told.items() if name in record.predictions}
    tried = [_tried(record, name, about, reference or _first(record, about)) for name, about in answered.items()]
    p_values = iter(holm([p for _, tests in tried for p in tests]))
    found = [replace(cause, p_value=float(min(next(p_values) for _ in tests))) for cause, tests in tried]
    best = {name: _best(held, alpha) for name, held in by_stage(found).items()}
    found = [replace(cause, named=_is_named(record, cause, best[cause.against], alpha)) for cause in found]
    return tuple(sorted(found, key=lambda cause: (not cause.named, -max(_back(cause)), cause.p_value)))


def _first(record: Record, about: Mapping[str, Any]) -> str:
    """The first stage that answered; empty where that is the very artifact that the hypothesis is about."""
    ran = [subject for subject in record.subjects if subject.name in record.predictions]
    held = next((subject for subject in ran if subject.name == about["against"]), None)
    return "" if held is None or held.artifact == ran[0].artifact else ran[0].name


def _tried(record: Record, name: str, about: Mapping[str, Any], base: str) -> tuple[Cause, list[float]]:
    """A hypothesis, and the raw p of each of its tests: 1 where it speaks against it."""
    against = str(about["against"])
    if against not in record.predictions:
        raise BadInput(f"hypothesis {name!r} about {against!r}", "a stage of the same record that answered")
    under = record.predictions[name]
    held = on_photos(record.predictions[against], under.photos)
    counts = paired_counts(under, held)
    cause = Cause(
        name, str(about["kind"]), str(about["words"]), against, base, len(under), right_of(held), right_of(under),
        gain=newcombe_paired(*counts),
    )  # fmt: skip
    tests = [_better_p(won=counts[1], lost=counts[2])]
    if not base:
        return cause, tests
    first = on_photos(record.predictions[base], under.photos)
    was, differs = (np.asarray(each.top[:, 0] != first.top[:, 0]) for each in (held, under))
    tests.append(_better_p(won=int((was & ~differs).sum()), lost=int((differs & ~was).sum())))
    cause = replace(cause, right_reference=right_of(first), flipped=int(was.sum()), flipped_under=int(differs.sum()))
    return cause, tests


def _better_p(won: int, lost: int) -> float:
    return mcnemar_p(lost, won) if won > lost else 1.0


def _back(cause: Cause) -> tuple[float, float]:
    """What comes back, as shares of the photos: top-1, and agreement with the reference (-1 without one)."""
    if cause.flipped is None or cause.flipped_under is None:
        return cause.gain.value, -1.0
    return cause.gain.value, (cause.flipped - cause.flipped_under) / cause.n


def _best(held: Iterable[Cause], alpha: float) -> Cause | None:
    """Of a stage's significant hypotheses the one that brings most back."""
    significant = [cause for cause in held if cause.p_value <= alpha]
    return max(significant, key=lambda cause: (max(_back(cause)), cause.gain.value), default=None)


def _is_named(record: Record, cause: Cause, best: Cause | None, alpha: float) -> bool:
    """Significant, and the best of its stage or not significantly worse than it on the same photos."""
    if best is None or cause.p_value > alpha:
        return False
    one, other = record.predictions[cause.name], record.predictions[best.name]
    if cause.name == best.name or one.photos != other.photos:
        return cause.name == best.name
    by_truth = not best.reference or _back(best)[0] >= _back(best)[1]
    wanted = one.truth if by_truth else on_photos(record.predictions[best.reference], one.photos).top[:, 0]
    good, better = (np.asarray(each.top[:, 0] == wanted) for each in (one, other))
    return mcnemar_p(int((better & ~good).sum()), int((good & ~better).sum())) > alpha


def by_stage(found: Iterable[Cause]) -> dict[str, tuple[Cause, ...]]:
    """Hypotheses by the stage that they would explain, in their order."""
    stages: dict[str, list[Cause]] = {}
    for cause in found:
        stages.setdefault(cause.against, []).append(cause)
    return {name: tuple(held) for name, held in stages.items()}
