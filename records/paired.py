"""Two subjects on the same photos: flips, agreement, and whether one is not worse by more than a margin."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import BadInput
from .classification import proportion, wilson
from .estimate import Decision, Estimate, Verdict
from .predictions import Predictions


@dataclass(frozen=True)
class Flips:
    """Photos whose top-1 answer differs from the reference's.

    `lost` were right and are wrong now, `won` the other way round; the rest were wrong before and after.
    """

    count: int
    lost: int
    won: int
    n: int
    rate: Estimate


def _check_same(subject: Predictions, reference: Predictions) -> None:
    if subject.photos != reference.photos:
        raise BadInput("two subjects that answered different photos", "the same photos in the same order")


def flips(subject: Predictions, reference: Predictions) -> Flips:
    """Count flips against a reference.

    Raises:
        BadInput: the photos are not the same.
    """
    _check_same(subject, reference)
    now, before, truth = subject.top[:, 0], reference.top[:, 0], subject.truth
    changed = now != before
    lost, won = int((changed & (before == truth)).sum()), int((changed & (now == truth)).sum())
    count = int(changed.sum())
    return Flips(count, lost, won, len(subject), proportion(count, len(subject)))


def agreement(subject: Predictions, reference: Predictions) -> Estimate:
    """Share of photos with the same top-1 answer."""
    found = flips(subject, reference)
    return proportion(found.n - found.count, found.n)


def difference(subject: Predictions, reference: Predictions) -> Estimate:
    """Top-1 of subject minus top-1 of reference: Newcombe's paired interval at 95 %.

    Raises:
        BadInput: not the same photos and truths, or synthesized images, which have no accuracy.
    """
    _check_same(subject, reference)
    if subject.kind != "photos" or not np.array_equal(subject.truth, reference.truth):
        raise BadInput(f"top-1 compared on {subject.kind} images, or with other labels", "photos with the same labels")
    right, before = subject.top[:, 0] == subject.truth, reference.top[:, 0] == reference.truth
    table = (
        int((right & before).sum()),
        int((right & ~before).sum()),
        int((~right & before).sum()),
        int((~right & ~before).sum()),
    )
    return newcombe_paired(*table)


def newcombe_paired(both: int, first: int, second: int, neither: int, z: float = 1.959963984540054) -> Estimate:
    """Interval of p1 - p2 for paired proportions (Newcombe 1998, Statistics in Medicine 17:2635, method 10).

    Args:
        both, first, second, neither: counts of pairs in which both, only the first, only the second, neither succeeded.
    """
    n = both + first + second + neither
    if n == 0:
        raise BadInput("a comparison of no photos", "at least one photo")
    p1, p2 = (both + first) / n, (both + second) / n
    (l1, u1), (l2, u2) = wilson(both + first, n, z), wilson(both + second, n, z)
    phi = _phi(both, first, second, neither)
    below, above = (p1 - l1, u2 - p2), (u1 - p1, p2 - l2)
    low = math.sqrt(max(0.0, below[0] ** 2 - 2 * phi * below[0] * below[1] + below[1] ** 2))
    high = math.sqrt(max(0.0, above[0] ** 2 - 2 * phi * above[0] * above[1] + above[1] ** 2))
    return Estimate(p1 - p2, p1 - p2 - low, p1 - p2 + high, 0.95, n, "Newcombe paired (10)")


def _phi(a: int, b: int, c: int, d: int) -> float:
    """Correlation of the pairs, with Newcombe's continuity correction where it is positive."""
    product = (a + b) * (c + d) * (a + c) * (b + d)
    if product == 0:
        return 0.0
    n, cross = a + b + c + d, float(a * d - b * c)
    if cross > 0:
        cross = max(cross - n / 2, 0.0)
    return cross / math.sqrt(product)


def non_inferior(subject: Predictions, reference: Predictions, margin: float) -> Verdict:
    """Is top-1 not worse by more than `margin` (0.01 = one point)? The lower 95 % bound must clear it."""
    found = difference(subject, reference)
    seen = (
        f"difference {found.value * 100:+.2f} points, 95 % interval {found.low * 100:+.2f} to {found.high * 100:+.2f}"
    )
    if found.low >= -margin:
        return Verdict(Decision.PASS, seen)
    if found.high < -margin:
        return Verdict(Decision.FAIL, seen)
    return Verdict(Decision.INCONCLUSIVE, f"{seen}, n = {found.n}")


def same_answers(subject: Predictions, reference: Predictions) -> bool:
    """True if every photo has the same top-1."""
    _check_same(subject, reference)
    return bool(np.array_equal(subject.top[:, 0], reference.top[:, 0]))
