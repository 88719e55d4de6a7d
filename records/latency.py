"""Latency of one subject: medians over launches, high percentiles with their bound or a refusal."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from .distributions import binomial_cdf, greatest_rank, median_ranks
from .estimate import Estimate
from .rounds import Rounds

TAILS = (0.9, 0.95, 0.99, 0.999)


@dataclass(frozen=True)
class Latency:
    """Seconds a call; under throughput p50_s, low_s and high_s are seconds a photo (`Rounds.block_costs_s`).

    Args:
        p50_s: median of the launches' medians, with the distribution-free interval of order statistics; its bounds are
            the least and greatest launch, and its confidence what these reach, where 95 % needs more launches.
        p95_s: 95th percentile of all timed calls, always a call's.
        low_s, high_s: the block of least and of greatest cost.
        n: timed calls, outliers included.
        outliers: calls beyond Tukey's far fence (third quartile + 3 interquartile ranges); kept and counted.
    """

    p50_s: Estimate
    p95_s: float
    low_s: float
    high_s: float
    n: int
    outliers: int


def summarize(rounds: Rounds) -> Latency | None:
    """All that one subject's timed calls say; None without any."""
    ns = rounds.all_ns()
    if not len(ns):
        return None
    medians = rounds.block_costs_s()
    q1, q3, p95 = (float(value) for value in np.percentile(ns, [25, 75, 95]))
    far = int((ns > q3 + 3 * (q3 - q1)).sum())
    return Latency(
        median_interval(launch_medians_s(rounds)),
        p95 / 1e9,
        float(medians.min()),
        float(medians.max()),
        len(ns),
        far,
    )


def launch_medians_s(rounds: Rounds) -> np.ndarray:
    """Median over each launch's blocks (`Rounds.block_costs_s`), seconds, in the order of launches."""
    return np.array([np.median(costs) for costs in rounds.costs_by_launch_s().values()])


def median_interval(values: np.ndarray, confidence: float = 0.95) -> Estimate:
    """Median with the interval between two order statistics (David and Nagaraja, Order Statistics, 7.1).

    Where so few values cannot reach the confidence, the bounds are the extremes and the confidence is theirs.
    """
    ordered, n = np.sort(values), len(values)
    ranks = median_ranks(n, confidence)
    if ranks is None:
        ranks, confidence = (0, n - 1), 1 - 2 * 0.5**n
    return Estimate(
        float(np.median(ordered)), float(ordered[ranks[0]]), float(ordered[ranks[1]]), confidence, n, "order statistics"
    )


@dataclass(frozen=True)
class Tail:
    """A high percentile in seconds with its bound, or the number of calls that it needs.

    `bound_s` exceeds the true percentile with 99 % confidence; both are None below `needed` calls.
    """

    percentile: float
    value_s: float | None
    bound_s: float | None
    n: int
    needed: int


def tail(ns: np.ndarray, percentile: float, confidence: float = 0.99) -> Tail:
    """Percentile by MLPerf's early-stopping criterion (LoadGen, tolerance 0).

    With `t` calls allowed beyond it, n calls suffice where P(Binomial(n, 1 - percentile) ≤ t) ≤ 1 - confidence; the
    bound is the t-th greatest call. Needs 64 calls for p90 and 662 for p99.
    """
    n, needed = len(ns), calls_needed(percentile, confidence)
    if n < needed:
        return Tail(percentile, None, None, n, needed)
    allowed = greatest_rank(n, 1 - percentile, 1 - confidence)
    ordered = np.sort(ns)
    return Tail(percentile, float(np.quantile(ordered, percentile)) / 1e9, float(ordered[n - allowed]) / 1e9, n, needed)


def calls_needed(percentile: float, confidence: float = 0.99) -> int:
    """The fewest calls of which `tail` gives a percentile."""
    share, risk = 1 - percentile, 1 - confidence
    return 1 + bisect_left(range(1, 1 << 20), True, key=lambda n: binomial_cdf(1, n, share) <= risk)
