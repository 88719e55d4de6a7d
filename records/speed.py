"""Faster, slower, the same, or not to be said: verdicts over launches, corrected for their number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist

import numpy as np

from ..words import launch_count
from .distributions import student_quantile
from .estimate import Estimate
from .multiple import holm
from .ratios import FEWEST_LAUNCHES, launch_ratios, ratio_over_launches, spread, trimmed_p
from .rounds import Rounds

THRESHOLD = 0.01  # a smaller effect is «same», however certain
# Half of what A/A runs may show: with few launches the trimmed t is a little bold (docs/believing.md).
ALPHA = 0.005
_MOST = 100_000  # launches; more is «never»


class Speed(str, Enum):
    """What a comparison of latencies says."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "same"
    AMBIGUOUS = "ambiguous"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Comparison:
    """subject / reference in time a call.

    Args:
        ratio: with its 95 % interval over launches; below 1 the subject is faster.
        p: two-sided, adjusted by Holm over all comparisons made together.
        speed: the verdict; `reason` says why in words.
        needed: launches at which an effect of twice the threshold would be found in 4 of 5 runs; None where unknown.
    """

    ratio: Estimate
    p: float
    speed: Speed
    reason: str
    needed: int | None = None


def compare_speeds(
    pairs: Mapping[str, tuple[Rounds, Rounds]], threshold: float = THRESHOLD, alpha: float = ALPHA
) -> dict[str, Comparison]:
    """Compare each (subject, reference), measured side by side, with Holm's correction over all of them.

    Args:
        threshold: effects below it are «same» however certain, 0.01 = one per cent.
        alpha: level of a verdict.

    Raises:
        BadInput: a pair was measured in different regimes, batches or lanes.
    """
    logs = {name: np.log(launch_ratios(*pair)) for name, pair in pairs.items()}
    values = {name: trimmed_p(found) for name, found in logs.items()}
    adjusted = dict(zip(values, holm(list(values.values())), strict=True)) if values else {}
    return {
        name: verdict(ratio_over_launches(np.exp(found)), float(adjusted[name]), threshold, alpha, spread(found))
        for name, found in logs.items()
    }


def verdict(
    ratio: Estimate, p: float, threshold: float = THRESHOLD, alpha: float = ALPHA, spread: float | None = None
) -> Comparison:
    """What a ratio and its p allow to say.

    faster, slower: p below alpha, the interval clear of 1, and the effect at least the threshold.
    same: the whole interval within the threshold. unknown: too few launches. ambiguous: all else.
    """
    needed = launches_needed(spread, threshold, alpha) if spread is not None else None
    if ratio.n < FEWEST_LAUNCHES:
        reason = f"{launch_count(ratio.n)} in common, {FEWEST_LAUNCHES} at least are needed"
        return Comparison(ratio, p, Speed.UNKNOWN, reason, needed)
    sure = p < alpha and not ratio.low <= 1 <= ratio.high
    if sure and abs(math.log(ratio.value)) >= math.log1p(threshold):
        speed = Speed.FASTER if ratio.value < 1 else Speed.SLOWER
        return Comparison(ratio, p, speed, f"p = {p:.2g}, n = {ratio.n}", needed)
    if 1 / (1 + threshold) <= ratio.low and ratio.high <= 1 + threshold:
        return Comparison(ratio, p, Speed.SAME, f"within {threshold:.1%}, n = {ratio.n}", needed)
    wanted = f"; need ≥ {needed}" if needed and needed > ratio.n else ""
    return Comparison(ratio, p, Speed.AMBIGUOUS, f"p = {p:.2g}, n = {ratio.n}{wanted}", needed)


def launches_needed(spread: float, threshold: float = THRESHOLD, alpha: float = ALPHA, power: float = 0.8) -> int:
    """Launches at which an effect of twice the threshold is found with this power by one comparison, at least 3.

    Twice, since a verdict asks for the threshold itself, which a true effect of that size shows in one of two runs.
    Student's t with the power's quantile added (Cohen 1988), untrimmed.

    Args:
        spread: standard deviation of a launch's log ratio.
    """
    effect, beyond = math.log1p(2 * threshold), NormalDist().inv_cdf(power)
    n = max(3, math.ceil(((2.8 + beyond) * spread / effect) ** 2))
    while n < _MOST and (student_quantile(1 - alpha / 2, n - 1) + beyond) * spread / math.sqrt(n) > effect:
        n += 1
    return n
