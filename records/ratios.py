"""Two subjects that were measured side by side: one ratio a launch, and its interval over launches.

Calls of one process are no independent samples: a process has a bias of its own (memory layout, thread placement), as
Kalibera and Jones found (Rigorous Benchmarking in Reasonable Time, ISMM 2013). So each launch counts once, and ratios
are taken between neighbouring blocks, where drift cancels.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from ..errors import BadInput
from .distributions import student_cdf, student_quantile
from .estimate import Estimate
from .rounds import Rounds

_RESAMPLES = 4000


def launch_ratios(subject: Rounds, reference: Rounds) -> np.ndarray:
    """subject / reference, one a launch that both took part in: the median over its pairs of neighbouring blocks.

    Raises:
        BadInput: they were measured in different regimes, batches or lanes.
    """
    require_alike(subject, reference)
    ours, theirs = subject.costs_by_launch_s(), reference.costs_by_launch_s()
    pairs = [(ours[launch], theirs[launch]) for launch in ours if launch in theirs]
    return np.array([np.median(np.divide(*_neighbours(one, other))) for one, other in pairs])


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


def student_p(logs: np.ndarray) -> float:
    """Two-sided p of «the mean is 0»; 1 below two values."""
    if len(logs) < 2:
        return 1.0
    error = float(logs.std(ddof=1)) / math.sqrt(len(logs))
    if error == 0:
        return 1.0 if logs.mean() == 0 else 0.0
    return 2 * student_cdf(-abs(float(logs.mean())) / error, len(logs) - 1)
