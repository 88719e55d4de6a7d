"""Checks of the answers: top-1, flips, classes. Paired over photos, against the baseline or another row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import BadInput
from ...records import Predictions
from ...records.classification import exact_proportion
from ...records.differences import mean_difference, p_above
from ...records.distributions import binomial_cdf, binomial_tail
from ...records.paired import flips, mcnemar, paired_losses
from ...records.power import power_of_drop, power_of_margin
from ..measured import Measured, same_class
from .check import Answer, Check, NothingToCompare, Question, absent, counted, exactly, number, require_before

_VISIBLE = 0.005  # the drop whose chance to be seen is told


def _pair(question: Question) -> tuple[Predictions, Predictions]:
    """Answers now and before, of CPUs of one class."""
    before = require_before(question)
    for row in (question.now, before):
        if row.answers is None:
            raise absent(row, "answers", "score it")
    if reason := same_class(question.now, before):
        raise NothingToCompare(reason)
    assert question.now.answers is not None and before.answers is not None
    return question.now.answers, before.answers


def drop(question: Question) -> Answer:
    """Top-1 of the earlier less top-1 of now, against the margin: paired non-inferiority.

    Passes where the drop is proven to be below the margin, fails where it is proven to be above
    (`records.differences`: an exact tail under the likeliest distribution).
    """
    now, before = _pair(question)
    lost = paired_losses(now, before)
    found, margin = mean_difference(lost, question.two_sided), float(question.limit)
    test = mcnemar(now, before)
    reason = (
        f"top-1 {0 - found.value * 100:+.2f} points ({question.confidence:.0%} bounds {-found.high * 100:+.2f} and "
        f"{-found.low * 100:+.2f}), {test.lost} lost, {test.won} won of {found.n}, McNemar p = {test.p_value:.2g}"
    ).replace("%", " %")
    within = p_above(-lost, -margin) <= question.alpha
    return Answer(reason, within, p_above(lost, margin), found, margin, _sees(now, before, margin, question))


def _sees(now: Predictions, before: Predictions, margin: float, question: Question) -> str:
    """What so many photos with this discordance can see."""
    n = len(now)
    discordance = mcnemar(now, before).discordance(n)
    seen = power_of_drop(_VISIBLE, n, max(discordance, _VISIBLE))
    passes = power_of_margin(margin, n, discordance, confidence=question.confidence)
    return (
        f"with {n} photos a true drop of {_VISIBLE * 100:.1f} points is seen with {seen:.0%} probability, "
        f"and an equal model passes with {passes:.0%}"
    ).replace("%", " %")


def share_of_flips(question: Question) -> Answer:
    """Photos whose answer differs, as a share: exact binomial."""
    now, before = _pair(question)
    count = flips(now, before).count
    return _share(count, len(now), question, f"{count} of {len(now)} answers differ")


def share_across(question: Question) -> Answer:
    """Photos whose answer went to another coarse class, as a share: an apple that became a melon, not another apple."""
    now, before = _pair(question)
    groups = np.unique(np.array(_coarse(question.now)), return_inverse=True)[1]
    flips(now, before)  # refuses what cannot be compared
    count = int((groups[now.top[:, 0]] != groups[before.top[:, 0]]).sum())
    return _share(count, len(now), question, f"{count} of {len(now)} answers crossed to another coarse class")


def _coarse(row: Measured) -> tuple[str, ...]:
    if not row.coarse:
        raise NothingToCompare(f"{row.source} names no coarse classes: score a dataset that has them")
    return row.coarse


def _share(count: int, n: int, question: Question, reason: str) -> Answer:
    """A limit of 0 allows none and is counted; any other is tested."""
    limit, value = float(question.limit), exact_proportion(count, n, question.two_sided)
    reason = f"{reason}: {value.value:.2%} ({value.low:.2%} to {value.high:.2%})".replace("%", " %")
    if limit == 0:
        return counted(count == 0, reason, value, limit)
    within = binomial_cdf(count, n, limit) <= question.alpha
    return Answer(reason, within, binomial_tail(count, n, limit), value, limit)


def worst_class(question: Question) -> Answer:
    """The class that lost most, of those with enough photos; fails where one is proven to have lost more than `max`.

    Bonferroni over the classes: only the least p decides. It passes where no class was seen above the limit: a few
    dozen photos a class cannot prove that each is below it, and the reason says how many there are.
    """
    now, before = _pair(question)
    most, enough = float(question.limit["max"]), int(question.limit.get("photos", 20))
    lost = paired_losses(now, before)
    counts = np.bincount(now.truth)
    eligible = np.flatnonzero(counts >= enough)
    if not len(eligible):
        raise NothingToCompare(f"no class has {enough} photos: the largest has {counts.max(initial=0)}")
    falls = np.bincount(now.truth, weights=lost, minlength=len(counts))[eligible] / counts[eligible]
    worst = int(eligible[falls.argmax()])
    above = eligible[falls > most]
    p = min((p_above(lost[now.truth == label], most) for label in above), default=1.0) * len(eligible)
    value = mean_difference(lost[now.truth == worst], question.two_sided)
    reason = (
        f"{question.now.label(worst)} lost most of {len(eligible)} classes with {enough} photos or more: "
        f"{-value.value * 100:+.1f} points on {counts[worst]}"
    )
    return Answer(reason, not len(above), min(1.0, p), value, most)


def critical(question: Question) -> Answer:
    """Photos of the named classes that were right and are wrong now: counted, none forgiven for others won."""
    now, before = _pair(question)
    named = [(word, np.isin(now.truth, labels)) for word, labels in _critical_labels(question)]
    if unseen := [word for word, rows in named if not rows.any()]:
        raise NothingToCompare(f"no photo of {', '.join(unseen)} was scored")
    rows = np.any([rows for _, rows in named], axis=0)
    lost = int((paired_losses(now, before)[rows] > 0).sum())
    n, allowed = int(rows.sum()), int(question.limit.get("lost", 0))
    reason = f"{', '.join(word for word, _ in named)}: {lost} of {n} photos lost"
    answer = counted(lost <= allowed, reason, exactly(lost, n), allowed)
    if allowed >= n:
        return answer
    shows = exact_proportion(allowed, n, 0.9).high  # with more than `allowed` lost in 95 % of samples
    sees = f"with {n} photos of them a true loss of {shows:.1%} shows with 95 % probability".replace("%", " %", 1)
    return replace(answer, sees=sees)


def _critical_labels(question: Question) -> list[tuple[str, list[int]]]:
    """Each name of the policy, with the indices of its classes.

    Raises:
        BadInput: a class that the labels do not hold.
    """
    row, found = question.now, []
    coarse = _coarse(row) if question.limit.get("coarse") else ()
    if question.limit.get("classes") and not row.labels:
        raise NothingToCompare(f"{row.source} names no classes: score it with `tiffin score`")
    for key, names in (("classes", row.labels), ("coarse", coarse)):
        for word in question.limit.get(key, ()):
            at = [index for index, name in enumerate(names) if name == word]
            if not at:
                raise BadInput(f"critical: no {'coarse class' if key == 'coarse' else 'class'} {word!r} in {row.name}",
                               "classes as the labels name them")  # fmt: skip
            found.append((word, at))
    return found


def least_top_1(question: Question) -> Answer:
    """Top-1 against an absolute limit: exact binomial."""
    found = question.now.answers
    if found is None or found.kind != "photos":
        raise absent(question.now, "answers to labelled photos", "score it")
    right, n, least = int((found.top[:, 0] == found.truth).sum()), len(found), float(question.limit)
    value = exact_proportion(right, n, question.two_sided)
    reason = f"top-1 {value.value:.2%} ({value.low:.2%} to {value.high:.2%}) of {n} photos".replace("%", " %")
    within = binomial_tail(right, n, least) <= question.alpha if least > 0 else True
    return Answer(reason, within, binomial_cdf(right, n, least), value, least)


def _check_worst(value: Any) -> str:
    words = "a table { max = 0.2, photos = 20 }: max from 0 to 1, photos a whole number from 1"
    if not isinstance(value, dict) or not {"max"} <= set(value) <= {"max", "photos"}:
        return words
    photos = value.get("photos", 20)
    fits = not number(0, 1)[0](value["max"]) and isinstance(photos, int) and not isinstance(photos, bool) and photos > 0
    return "" if fits else words


def _check_critical(value: Any) -> str:
    words = 'a table { classes = ["…"], coarse = ["…"], lost = 0 } that names one class at least'
    if not isinstance(value, dict) or not set(value) <= {"classes", "coarse", "lost"}:
        return words
    lists = [value.get(key, []) for key in ("classes", "coarse")]
    named = all(isinstance(found, list) and all(isinstance(word, str) for word in found) for found in lists)
    lost = value.get("lost", 0)
    fits = named and any(lists) and isinstance(lost, int) and not isinstance(lost, bool) and lost >= 0
    return "" if fits else words


_WORDS = {"type": "array", "items": {"type": "string"}}
_SHARE = number(0, 1)
CHECKS = {
    "accuracy-drop": Check(drop, *number(0, 0.5, exclusive=True), "points"),
    "flips": Check(share_of_flips, *_SHARE, "share"),
    "coarse-flips": Check(share_across, *_SHARE, "share"),
    "worst-class-drop": Check(
        worst_class, _check_worst,
        {"type": "object", "required": ["max"], "additionalProperties": False, "properties": {
            "max": _SHARE[1], "photos": {"type": "integer", "minimum": 1}}}, "points",
    ),
    "critical": Check(
        critical, _check_critical,
        {"type": "object", "additionalProperties": False, "properties": {
            "classes": _WORDS, "coarse": _WORDS, "lost": {"type": "integer", "minimum": 0}}}, "photos",
    ),
    "min-top-1": Check(least_top_1, *_SHARE, "share", compares=False),
}  # fmt: skip
