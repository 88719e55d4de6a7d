"""Checks under corruption: how much top-1 falls on spoiled photos, and whether it falls faster than the other's."""

from __future__ import annotations

from collections.abc import Callable

from ...errors import BadInput
from ...records import Predictions
from ...records.corruption import Corruption, faster_fall
from ...records.differences import mean_difference, p_above
from ...records.estimate import Estimate
from ...records.multiple import holm
from ...records.paired import paired_losses
from ..measured import same_class
from .check import Answer, Check, NothingToCompare, Question, number, require_before

Answered = dict[Corruption, Predictions]
# Of one corruption: the estimate, p of «above the margin», p of «below the margin».
Tested = tuple[Estimate, float, float]


def _blocks(question: Question) -> tuple[Answered, Answered]:
    before = require_before(question)
    for row in (question.now, before):
        if not row.corrupted:
            raise NothingToCompare(f"{row.name} was not scored under corruption: `tiffin robustness`, and its record")
    if reason := same_class(question.now, before):
        raise NothingToCompare(reason)
    now, then = dict(question.now.corrupted), dict(before.corrupted)
    if list(now) != list(then):
        raise BadInput(f"{question.now.name}: other corruptions than before", "the same corruptions and strengths")
    return now, then


def drop(question: Question) -> Answer:
    """Top-1 of the earlier less top-1 of now on the same spoiled photos; the worst corruption decides."""
    margin = float(question.limit)

    def test(corruption: Corruption, now: Answered, before: Answered) -> Tested:
        lost = paired_losses(now[corruption], before[corruption])
        found = mean_difference(lost, question.two_sided)
        return found, p_above(lost, margin), p_above(-lost, -margin)

    return _worst(question, test, "top-1 {points:+.2f} points under {corruption}", sign=-1)


def fall(question: Question) -> Answer:
    """How much more top-1 falls from clean to spoiled photos than the other's does: a difference of differences."""
    margin = float(question.limit)

    def test(corruption: Corruption, now: Answered, before: Answered) -> Tested:
        clean = next(iter(now))
        mine = now[clean], before[clean], now[corruption], before[corruption]
        found = faster_fall(*mine, margin, question.two_sided)
        theirs = before[clean], now[clean], before[corruption], now[corruption]
        return found.extra, found.p_value, faster_fall(*theirs, -margin, question.two_sided).p_value

    return _worst(question, test, "falls {points:+.2f} points further under {corruption}", sign=1)


def _worst(
    question: Question, test: Callable[[Corruption, Answered, Answered], Tested], words: str, sign: int
) -> Answer:
    """Holm over the corruptions for «exceeded»; «within» must hold under each."""
    now, before = _blocks(question)
    found = {corruption: test(corruption, now, before) for corruption in now if corruption.strength}
    if not found:
        raise NothingToCompare("its record holds clean photos only")
    adjusted = dict(zip(found, holm([exceeded for _, exceeded, _ in found.values()]), strict=True))
    worst = max(found, key=lambda corruption: found[corruption][0].value)
    estimate = found[worst][0]
    within = all(below <= question.alpha for _, _, below in found.values())
    reason = words.format(points=sign * estimate.value * 100, corruption=worst)
    reason += f" ({estimate.low * 100 * sign:+.2f} and {estimate.high * 100 * sign:+.2f}), the worst of {len(found)}"
    return Answer(reason, within, float(min(adjusted.values())), estimate, float(question.limit))


_NOT_KEPT = "answers under corruption"
CHECKS = {
    "corruption-drop": Check(drop, *number(0, 1, exclusive=True), "points", not_kept=_NOT_KEPT),
    "faster-fall": Check(fall, *number(0, 1), "points", not_kept=_NOT_KEPT),
}
