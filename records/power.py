"""What a paired comparison of n photos can see: power of the exact McNemar test and of the non-inferiority bound.

Exact sums over the discordant photos. Photos are taken as a sample in which a share is lost (the reference right, the
subject wrong) and a share is won: discordance = lost + won, drop = lost - won.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import lru_cache

from ..errors import BadInput
from .differences import p_of_counts
from .distributions import binomial_cdf, binomial_pmf, quantile_ranks


def power_of_drop(drop: float, n: int, discordance: float, alpha: float = 0.05, sides: int = 2) -> float:
    """Chance that the exact McNemar test (`paired.mcnemar`) finds a true drop: p ≤ alpha, and more lost than won.

    The sum over the number of discordant photos of the conditional power (Duffy 1984, Biometrics 40:1005).

    Args:
        drop: true loss of top-1, 0.01 = one point.
        discordance: share of photos that only one of the two gets right.
        sides: 2 as `mcnemar` tests, or 1 for a test that asks about losses only.

    Raises:
        BadInput: a drop above the discordance, or no photos.
    """
    _check(drop, n, discordance)
    share = (discordance - drop) / (2 * discordance) if discordance else 0.5
    return math.fsum(
        binomial_pmf(count, n, discordance) * binomial_cdf(_most_won(count, alpha, sides), count, share)
        for count in _likely(n, discordance)
    )


@lru_cache(maxsize=4096)
def _most_won(count: int, alpha: float, sides: int) -> int:
    """Of `count` discordant photos the most that may be won where the test still finds a drop; -1 if none may."""
    ranks = quantile_ranks(count, 0.5, 1 - alpha * 2 / sides)  # the sign test's: the median's interval turned round
    return -1 if ranks is None else ranks[0]


def smallest_visible_drop(n: int, discordance: float, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """The least true drop of top-1 that the exact two-sided McNemar test finds with this power, to 1e-6.

    Returns:
        0.01 = one point; None where even losing every discordant photo would not be found.

    Raises:
        BadInput: a power that is not above alpha / 2 and below 1, or no photos.
    """
    if not alpha / 2 < power < 1:
        raise BadInput(f"power {power}", f"above {alpha / 2:g} and below 1")
    if power_of_drop(discordance, n, discordance, alpha) < power:
        return None
    low, high = 0.0, discordance
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if power_of_drop(middle, n, discordance, alpha) >= power else (middle, high)
    return high


@lru_cache(maxsize=1024)
def power_of_margin(margin: float, n: int, discordance: float, drop: float = 0.0, confidence: float = 0.95) -> float:
    """Chance that `paired.non_inferior` passes: a drop of the margin is refused by `differences.p_above`.

    Args:
        margin, drop: 0.01 = one point; the default is of an equal model.
        confidence: of the one-sided bound, as `non_inferior` has it.

    Raises:
        BadInput: a drop above the discordance, or no photos.
    """
    _check(drop, n, discordance)
    lost_share, won_share = (discordance + drop) / 2, (discordance - drop) / 2
    alpha, total, likely = 1 - confidence, 0.0, _likely(n, won_share)

    def refused(lost: int, won: int) -> bool:
        return p_of_counts([lost, n - lost - won, won], -margin) > alpha

    most_lost = bisect_left(range(n - likely[0] + 1), True, key=lambda lost: refused(lost, likely[0])) - 1
    for won in likely:  # the more won, the more may be lost
        while most_lost + 1 + won <= n and not refused(most_lost + 1, won):
            most_lost += 1
        total += binomial_pmf(won, n, won_share) * binomial_cdf(most_lost, n - won, lost_share / (1 - won_share))
    return min(1.0, total)  # a sum of many may end a rounding above


def _likely(n: int, share: float) -> range:
    """Counts of n that are not out of the question: the rest weighs less than 1e-12."""
    mean = n * share
    reach = 8 * math.sqrt(mean) + 20
    return range(max(0, math.floor(mean - reach)), min(n, math.ceil(mean + reach)) + 1)


def _check(drop: float, n: int, discordance: float) -> None:
    if n < 1 or not 0 <= drop <= discordance <= 1:
        raise BadInput(
            f"a drop of {drop} with discordance {discordance} in {n} photos", "0 ≤ drop ≤ discordance ≤ 1, and photos"
        )
