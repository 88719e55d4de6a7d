"""Latency of one subject, and of two that were measured side by side.

Calls of one process are no independent samples: a process has a bias of its own (memory layout, thread placement), as
Kalibera and Jones found (Rigorous Benchmarking in Reasonable Time, ISMM 2013). So each launch counts once: intervals
and verdicts are over launches, and ratios are taken between neighbouring blocks, where drift cancels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist

import numpy as np

from ..errors import BadInput
from .distributions import binomial_cdf, median_ranks, student_cdf, student_quantile
from .estimate import Estimate
from .multiple import holm
from .rounds import Rounds

THRESHOLD = 0.01  # a smaller effect is «same», however certain
# Verdicts are taken at 0.5 %, since a launch's log ratio is only roughly normal: A/A runs then stay below 1 %
# (docs/believing.md).
ALPHA = 0.005
_RESAMPLES = 4000
TAILS = (0.9, 0.95, 0.99, 0.999)


@dataclass(frozen=True)
class Latency:
    """Seconds a call.

    Args:
        p50_s: median of the launches' medians, with the distribution-free interval of order statistics; its bounds are
            the least and greatest launch, and its confidence what these reach, where 95 % needs more launches.
        p95_s: 95th percentile of all timed calls.
        low_s, high_s: least and greatest block median.
        throughput: photos a second of time spent in calls.
        n: timed calls, outliers included.
        outliers: calls beyond Tukey's far fence (third quartile + 3 interquartile ranges); kept and counted.
    """

    p50_s: Estimate
    p95_s: float
    low_s: float
    high_s: float
    throughput: float
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
    throughput = rounds.batch * len(ns) / (ns.sum() / 1e9)
    return Latency(
        median_interval(launch_medians_s(rounds)),
        p95 / 1e9,
        float(medians.min()),
        float(medians.max()),
        throughput,
        len(ns),
        far,
    )


def launch_medians_s(rounds: Rounds) -> np.ndarray:
    """Median over each launch's block medians, seconds, in the order of launches."""
    return np.array([np.median(medians) for medians in _by_launch(rounds).values()])


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
    n, needed = len(ns), _calls_needed(percentile, confidence)
    if n < needed:
        return Tail(percentile, None, None, n, needed)
    allowed = 1
    while allowed < n and binomial_cdf(allowed + 1, n, 1 - percentile) <= 1 - confidence:
        allowed += 1
    ordered = np.sort(ns)
    return Tail(percentile, float(np.quantile(ordered, percentile)) / 1e9, float(ordered[n - allowed]) / 1e9, n, needed)


def _calls_needed(percentile: float, confidence: float) -> int:
    low, high = 1, 1 << 20
    while low < high:
        middle = (low + high) // 2
        enough = binomial_cdf(1, middle, 1 - percentile) <= 1 - confidence
        low, high = (low, middle) if enough else (middle + 1, high)
    return low


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
        needed: launches at which an effect of the threshold would be seen in 4 of 5 runs; None where unknown.
    """

    ratio: Estimate
    p: float
    speed: Speed
    reason: str
    needed: int | None = None


def launch_ratios(subject: Rounds, reference: Rounds) -> np.ndarray:
    """subject / reference, one a launch that both took part in: the median over its pairs of neighbouring blocks.

    Raises:
        BadInput: they were measured in different regimes, batches or lanes.
    """
    require_alike(subject, reference)
    ours, theirs = _by_launch(subject), _by_launch(reference)
    pairs = [(ours[launch], theirs[launch]) for launch in ours if launch in theirs]
    return np.array([np.median(np.divide(*_neighbours(one, other))) for one, other in pairs])


def _by_launch(rounds: Rounds) -> dict[int, np.ndarray]:
    """Seconds: what each launch's blocks are judged by (`Rounds.block_costs_s`), in the order of launches."""
    costs, launches = rounds.block_costs_s(), np.array(rounds.launches)
    return {launch: costs[launches == launch] for launch in sorted(set(rounds.launches))}


def _neighbours(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both up to the end of the shorter."""
    count = min(len(one), len(other))
    return one[:count], other[:count]


def require_alike(one: Rounds, other: Rounds) -> None:
    """Regimes that differ are never compared, nor batches and lanes, save for throughput, which is by photo.

    Raises:
        BadInput: they differ.
    """
    for what in ("regime",) if one.regime == other.regime == "throughput" else ("regime", "batch", "lanes"):
        if getattr(one, what) != getattr(other, what):
            raise BadInput(
                f"latencies of {what} {getattr(one, what)} and {getattr(other, what)}",
                f"the same {what}: two that differ are never compared",
                "measure both alike",
            )


def ratio_over_launches(ratios: np.ndarray, confidence: float = 0.95) -> Estimate:
    """Geometric mean of the launches' ratios with its interval; from 0 to infinity below two launches.

    A percentile bootstrap over launches, widened for few of them as Hesterberg has it (What Teachers Should Know About
    the Bootstrap, The American Statistician 69:4, 2015, section 4.3), and never narrower than Student's t: resamples
    of five values cannot leave their range.
    """
    method = "bootstrap over launches, at least Student's t"
    logs, n = np.log(ratios), len(ratios)
    if n < 2:
        return Estimate(float(np.exp(logs.mean())) if n else math.nan, 0.0, math.inf, confidence, n, method)
    return _exp(logs.mean(), *_mean_interval(logs, confidence), confidence, n, method)


def _exp(value: float, low: float, high: float, confidence: float, n: int, method: str) -> Estimate:
    return Estimate(math.exp(value), math.exp(low), math.exp(high), confidence, n, method)


def _mean_interval(values: np.ndarray, confidence: float) -> tuple[float, float]:
    n, mean = len(values), float(values.mean())
    t = student_quantile(0.5 + confidence / 2, n - 1)
    half = t * float(values.std(ddof=1)) / math.sqrt(n)
    low, high = np.quantile(_resampled_means(values), _expanded(t, n))
    return min(mean - half, float(low)), max(mean + half, float(high))


def _expanded(t: float, n: int) -> tuple[float, float]:
    """Percentiles at which a bootstrap of n values is as wide as Student's t asks."""
    tail_area = NormalDist().cdf(-t * math.sqrt(n / (n - 1)))
    return tail_area, 1 - tail_area


def _resampled_means(values: np.ndarray) -> np.ndarray:
    chance = np.random.default_rng(0)  # seeded: the same record gives the same table
    return values[chance.integers(0, len(values), (_RESAMPLES, len(values)))].mean(axis=1)


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
    values = {name: student_p(found) for name, found in logs.items()}
    adjusted = dict(zip(values, holm(list(values.values())), strict=True)) if values else {}
    return {
        name: verdict(ratio_over_launches(np.exp(found)), float(adjusted[name]), threshold, alpha, _spread(found))
        for name, found in logs.items()
    }


def student_p(logs: np.ndarray) -> float:
    """Two-sided p of «the mean is 0»; 1 below two values."""
    if len(logs) < 2:
        return 1.0
    error = float(logs.std(ddof=1)) / math.sqrt(len(logs))
    if error == 0:
        return 1.0 if logs.mean() == 0 else 0.0
    return 2 * student_cdf(-abs(float(logs.mean())) / error, len(logs) - 1)


def _spread(logs: np.ndarray) -> float | None:
    return float(logs.std(ddof=1)) if len(logs) > 1 else None


def verdict(
    ratio: Estimate, p: float, threshold: float = THRESHOLD, alpha: float = ALPHA, spread: float | None = None
) -> Comparison:
    """What a ratio and its p allow to say.

    faster, slower: p below alpha, the interval clear of 1, and the effect at least the threshold.
    same: the whole interval within the threshold. unknown: fewer than two launches. ambiguous: all else.
    """
    needed = launches_needed(spread, threshold, alpha) if spread is not None else None
    if ratio.n < 2:
        return Comparison(ratio, p, Speed.UNKNOWN, f"{ratio.n} launches in common, 2 at least are needed", needed)
    sure = p < alpha and not ratio.low <= 1 <= ratio.high
    if sure and abs(math.log(ratio.value)) >= math.log1p(threshold):
        speed = Speed.FASTER if ratio.value < 1 else Speed.SLOWER
        return Comparison(ratio, p, speed, f"p = {p:.2g}, n = {ratio.n}", needed)
    if 1 / (1 + threshold) <= ratio.low and ratio.high <= 1 + threshold:
        return Comparison(ratio, p, Speed.SAME, f"within {threshold:.1%}, n = {ratio.n}", needed)
    wanted = f"; need ≥ {needed}" if needed and needed > ratio.n else ""
    return Comparison(ratio, p, Speed.AMBIGUOUS, f"p = {p:.2g}, n = {ratio.n}{wanted}", needed)


def launches_needed(spread: float, threshold: float = THRESHOLD, alpha: float = ALPHA, power: float = 0.8) -> int:
    """Launches at which an effect of the threshold is seen with this power (normal approximation), at least 2.

    Args:
        spread: standard deviation of the launches' log ratios.
    """
    normal = NormalDist()
    reach = normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)
    return max(2, math.ceil((reach * spread / math.log1p(threshold)) ** 2))
