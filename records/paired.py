"""Two subjects on the same photos: flips, agreement, and whether one is not worse by more than a margin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from ..errors import BadInput
from .classification import proportion, require_truth, wilson
from .differences import mean_difference
from .distributions import binomial_cdf
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


class Flipped(NamedTuple):
    """One photo whose top-1 answer changed: sha256 of its pixels, label indices of its truth and both answers."""

    photo: str
    truth: int
    before: int
    now: int


def flipped_photos(subject: Predictions, reference: Predictions) -> list[Flipped]:
    """The photos that `flips` counts, in their order.

    Raises:
        BadInput: the photos are not the same.
    """
    _check_same(subject, reference)
    now, before = subject.top[:, 0], reference.top[:, 0]
    return [
        Flipped(subject.photos[row], int(subject.truth[row]), int(before[row]), int(now[row]))
        for row in np.flatnonzero(now != before)
    ]


def agreement(subject: Predictions, reference: Predictions) -> Estimate:
    """Share of photos with the same top-1 answer."""
    found = flips(subject, reference)
    return proportion(found.n - found.count, found.n)


def difference(subject: Predictions, reference: Predictions) -> Estimate:
    """Top-1 of subject minus top-1 of reference: Newcombe's paired interval at 95 %.

    Raises:
        BadInput: not the same photos and truths, or synthesized images, which have no accuracy.
    """
    return newcombe_paired(*paired_counts(subject, reference))


def paired_counts(subject: Predictions, reference: Predictions) -> tuple[int, int, int, int]:
    """Photos that both, only the subject, only the reference, neither got right.

    Raises:
        BadInput: not the same photos and truths, or synthesized images, which have no accuracy.
    """
    _check_same(subject, reference)
    require_truth(subject, "top-1 compared")
    if not np.array_equal(subject.truth, reference.truth):
        raise BadInput("top-1 compared with other labels", "photos with the same labels")
    right, before = subject.top[:, 0] == subject.truth, reference.top[:, 0] == reference.truth
    tables = (right & before, right & ~before, ~right & before, ~right & ~before)
    both, first, second, neither = (int(table.sum()) for table in tables)
    return both, first, second, neither


def losses(now: Predictions, before: Predictions) -> np.ndarray:
    """1 for each photo that was right and is wrong, -1 the other way round; int64 `(N,)`.

    By place: what may be compared is for the caller to know (the same photos clean and spoiled have other hashes).
    """
    right, was = (found.top[:, 0] == found.truth for found in (now, before))
    return was.astype(np.int64) - right.astype(np.int64)


def paired_losses(now: Predictions, before: Predictions) -> np.ndarray:
    """`losses` of answers to the same photos.

    Raises:
        BadInput: not the same photos and truths, or synthesized images, which have no accuracy.
    """
    paired_counts(now, before)  # refuses what cannot be compared
    return losses(now, before)


@dataclass(frozen=True)
class McNemar:
    """Photos that only the reference got right, that only the subject did, and the exact two-sided p value."""

    lost: int
    won: int
    p_value: float

    def discordance(self, n: int) -> float:
        """Share of n photos that changed sides; one photo at least, since none does not mean never."""
        return max(self.lost + self.won, 1) / n


def mcnemar(subject: Predictions, reference: Predictions) -> McNemar:
    """Exact McNemar test that as many photos were lost as won.

    Raises:
        BadInput: not the same photos and truths, or synthesized images, which have no accuracy.
    """
    _, won, lost, _ = paired_counts(subject, reference)
    return McNemar(lost, won, mcnemar_p(lost, won))


def mcnemar_p(lost: int, won: int) -> float:
    """Two-sided binomial p value on the discordant pairs (McNemar 1947; Fagerland 2013, BMC Med Res Methodol 13:91).

    1 where there are none. It is conservative: the mid-p test would find a little more.
    """
    return min(1.0, 2 * binomial_cdf(min(lost, won), lost + won, 0.5))


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
    confidence = round(2 * NormalDist().cdf(z) - 1, 6)
    return Estimate(p1 - p2, p1 - p2 - low, p1 - p2 + high, confidence, n, "Newcombe paired (10)")


def _phi(a: int, b: int, c: int, d: int) -> float:
    """Correlation of the pairs, with Newcombe's continuity correction where it is positive."""
    product = (a + b) * (c + d) * (a + c) * (b + d)
    if product == 0:
        return 0.0
    n, cross = a + b + c + d, float(a * d - b * c)
    if cross > 0:
        cross = max(cross - n / 2, 0.0)
    return cross / math.sqrt(product)


def require_margin(margin: float) -> None:
    """Raises BadInput for a margin of top-1 that nothing could exceed, or everything would."""
    if not 0 < margin < 1:
        raise BadInput(f"margin {margin}", "above 0 and below 1; 0.01 is one point")


def non_inferior(subject: Predictions, reference: Predictions, margin: float, confidence: float = 0.95) -> Verdict:
    """Is top-1 not worse by more than `margin` (0.01 = one point)? The one-sided lower bound must clear it.

    The bounds are those of `differences.mean_difference`: one that equals the margin passes, and fails, in no more than
    1 - confidence of all samples, where Newcombe's paired interval passes too many (docs/gate.md).

    Args:
        confidence: of each of the two one-sided bounds.

    Raises:
        BadInput: not the same photos and truths, or synthesized images, which have no accuracy.
    """
    found = mean_difference(-paired_losses(subject, reference), 2 * confidence - 1)
    seen = (
        f"difference {found.value * 100:+.2f} points, one-sided {confidence:.0%} bounds {found.low * 100:+.2f} "
        f"and {found.high * 100:+.2f}, n = {found.n}"
    ).replace("%", " %")
    if found.low >= -margin:
        decision = Decision.PASS
    elif found.high < -margin:
        decision = Decision.FAIL
    else:
        decision = Decision.INCONCLUSIVE
    return Verdict(decision, seen, found)


def same_answers(subject: Predictions, reference: Predictions) -> bool:
    """True if every photo has the same top-1."""
    _check_same(subject, reference)
    return bool(np.array_equal(subject.top[:, 0], reference.top[:, 0]))
