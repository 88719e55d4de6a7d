"""When to stop measuring: at the precision asked for, or when the noise is known and will not let it be reached."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from .distributions import student_quantile
from .latency import launch_medians_s
from .ratios import launch_ratios, ratio_over_launches, spread, trimmed
from .rounds import Rounds

_SETTLED_AFTER = 8  # launches; fewer say little of their own spread


@dataclass(frozen=True)
class Precision:
    """How well a ratio (or, without a reference, a median) is known so far.

    Args:
        value: the ratio, or the median in seconds.
        half_width: of its 95 % interval, relative; infinite below two launches.
        launches: that it stands on.
        needed: launches at which the target would be reached if the spread is at its lower 90 % bound; None below two.
        settled: whether there are launches enough to speak of their spread.
    """

    value: float
    half_width: float
    launches: int
    needed: int | None
    settled: bool


def precision(subject: Rounds, reference: Rounds | None, target: float) -> Precision:
    """Relative half-width of the 95 % interval over launches: (high - low) / 2 / value."""
    values = launch_medians_s(subject) if reference is None else launch_ratios(subject, reference)
    if len(values) < 2:
        return Precision(float(values[0]) if len(values) else math.nan, math.inf, len(values), None, False)
    found, logs = ratio_over_launches(values), np.log(values)
    half = (found.high - found.low) / 2 / found.value
    return Precision(found.value, half, len(values), _needed(logs, target), len(values) >= _SETTLED_AFTER)


def _needed(logs: np.ndarray, target: float) -> int:
    """Fewest launches whose Student interval reaches the target, if the spread is as small as it may well be.

    The spread is its lower 90 % bound (chi-square by Wilson and Hilferty): «noisy» is said only where even that would
    not do.
    """
    degrees = trimmed(logs).degrees
    least = (spread(logs) or 0.0) * math.sqrt(degrees / _chi_square(0.9, degrees))
    n = max(2, math.ceil((1.96 * least / target) ** 2))
    while student_quantile(0.975, n - 1) * least / math.sqrt(n) > target:
        n += 1
    return n


def _chi_square(share: float, degrees: int) -> float:
    """Quantile, by Wilson and Hilferty 1931."""
    part = 2 / (9 * degrees)
    return degrees * (1 - part + NormalDist().inv_cdf(share) * math.sqrt(part)) ** 3
