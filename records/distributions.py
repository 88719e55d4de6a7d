"""Distributions that the statistics stand on: binomial, Student's t, and the ranks of an interval for a quantile.

Plain Python, because a device that measures has no scipy. The normal one is `statistics.NormalDist`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import lru_cache

from ..errors import BadInput

_TINY = 1e-300  # stands in for a zero denominator, as in Lentz 1976


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(X ≤ k) of n trials that succeed with probability p (DLMF 8.17.5), to 1e-8 of itself up to n = 1e6.

    Raises:
        BadInput: n is negative or p outside 0 to 1.
    """
    _check_trials(n, p)
    if k < 0:
        return 0.0
    if k >= n:
        return 1.0
    return incomplete_beta(n - k, k + 1, 1 - p, p)


def binomial_tail(k: int, n: int, p: float) -> float:
    """P(X ≥ k), not as 1 - P(X < k), so that a small one keeps its digits.

    Raises:
        BadInput: n is negative or p outside 0 to 1.
    """
    _check_trials(n, p)
    if k <= 0:
        return 1.0
    if k > n:
        return 0.0
    return incomplete_beta(k, n - k + 1, p, 1 - p)


def binomial_pmf(k: int, n: int, p: float) -> float:
    """P(X = k).

    Raises:
        BadInput: n is negative or p outside 0 to 1.
    """
    _check_trials(n, p)
    if not 0 <= k <= n:
        return 0.0
    if p in (0, 1):
        return float(k == n * p)
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p))


def _check_trials(n: int, p: float) -> None:
    if n < 0 or not 0 <= p <= 1:
        raise BadInput(f"{n} trials of probability {p}", "0 trials or more, a probability from 0 to 1")


def incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """Regularized incomplete beta I_x(a, b), DLMF 8.17.22.

    Args:
        rest: 1 - x, asked for because the caller often knows it to more digits than the subtraction gives.
    """
    if x <= 0 or rest <= 0:
        return float(x > 0)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast below the mean only
        return 1 - _beta_fraction(b, a, rest, x)
    return _beta_fraction(a, b, x, rest)


def _beta_fraction(a: float, b: float, x: float, rest: float) -> float:
    """The continued fraction, summed by the method of Lentz as Thompson and Barnett changed it (1986)."""
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    upper, lower = 1.0, 1 / ((1 - (a + b) * x / (a + 1)) or _TINY)
    value = lower
    for m in range(1, 100_000):  # about √max(a, b) of them are needed
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for step in (even, odd):
            lower = 1 / ((1 + step * lower) or _TINY)
            upper = (1 + step / upper) or _TINY
            value *= upper * lower
        if abs(upper * lower - 1) < 1e-15:
            break
    return math.exp(scale) * value / a


def student_cdf(t: float, degrees: int) -> float:
    """P(T ≤ t) of Student's distribution (DLMF 8.17.18 with 8.17.4).

    Raises:
        BadInput: degrees below 1.
    """
    if degrees < 1:
        raise BadInput(f"Student's distribution with {degrees} degrees of freedom", "1 degree or more")
    if t == 0:
        return 0.5
    inside, outside = _split(t, degrees)
    half = incomplete_beta(degrees / 2, 0.5, outside, inside) / 2
    return half if t < 0 else 1 - half


def _split(t: float, degrees: int) -> tuple[float, float]:
    """t² / (degrees + t²), and 1 minus it."""
    square = t * t / degrees
    return (1 / (1 + 1 / square) if square else 0.0), 1 / (1 + square)


@lru_cache(maxsize=1024)
def student_quantile(p: float, degrees: int) -> float:
    """The t below which Student's distribution holds p, to 1e-8 of itself (`student_cdf` turned round by bisection).

    Raises:
        BadInput: p not inside 0 to 1, or degrees below 1.
    """
    if not 0 < p < 1 or degrees < 1:
        raise BadInput(f"quantile {p} of {degrees} degrees of freedom", "0 < p < 1 and 1 degree or more")
    if p == 0.5:
        return 0.0
    low, high = 0.5, 1.0
    while _falls_short(high, p, degrees):
        low, high = high, high * 2
    while not _falls_short(low, p, degrees):
        low, high = low / 2, low
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _falls_short(middle, p, degrees) else (low, middle)
    return math.copysign(high, p - 0.5)


def _falls_short(t: float, p: float, degrees: int) -> bool:
    """Is less than asked for between -t and t? Near the centre by that mass, elsewhere by what is outside."""
    inside, outside = _split(t, degrees)
    if abs(p - 0.5) < 0.25:
        return incomplete_beta(0.5, degrees / 2, inside, outside) < 2 * abs(p - 0.5)
    return incomplete_beta(degrees / 2, 0.5, outside, inside) > 2 * min(p, 1 - p)


def median_ranks(n: int, confidence: float = 0.95) -> tuple[int, int] | None:
    """Ranks of the median's interval, see `quantile_ranks`: (1, 8) of 10 values at 95 %."""
    return quantile_ranks(n, 0.5, confidence)


def quantile_ranks(n: int, share: float, confidence: float = 0.95) -> tuple[int, int] | None:
    """Ranks of the two sorted values between which a quantile lies, whatever the distribution of the values.

    Exact and equal-tailed: neither side misses in more than (1 - confidence) / 2 (Conover 1999, section 3.2;
    Hahn and Meeker 1991, section 5.2). It holds for values that are independent.

    Args:
        share: 0.5 is the median, 0.95 the 95th percentile.

    Returns:
        Ranks from 0, or None where n values are too few for the confidence.

    Raises:
        BadInput: share or confidence not inside 0 to 1.
    """
    if not 0 < share < 1 or not 0 < confidence < 1:
        raise BadInput(f"quantile {share} at confidence {confidence}", "both above 0 and below 1")
    low = greatest_rank(n, share, (1 - confidence) / 2)
    high = n - 1 - greatest_rank(n, 1 - share, (1 - confidence) / 2)
    return (low, high) if low >= 0 and high < n else None


def greatest_rank(n: int, share: float, risk: float) -> int:
    """The greatest k with P(X ≤ k) ≤ risk, X binomial of n draws at this share; -1 where there is none."""
    return bisect_left(range(n), True, key=lambda k: binomial_cdf(k, n, share) > risk) - 1
