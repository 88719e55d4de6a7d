"""Two subjects that were measured side by side: one ratio a launch, and its interval over launches.

Calls of one process are no independent samples: a process has a bias of its own (memory layout, thread placement), as
Kalibera and Jones found (Rigorous Benchmarking in Reasonable Time, ISMM 2013). So each launch counts once, and ratios
are taken between neighbouring blocks, where drift cancels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import BadInput
from .distributions import student_cdf, student_quantile
from .estimate import Estimate
from .rounds import Rounds

FEWEST_LAUNCHES = 3  # that a time is judged by; a test of two says next to nothing
TRIM = 0.2  # the usual part at each end: little is lost without outliers, much is won with them
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


def require_alike(one: Rounds, other: Rounds, options: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {})) -> None:
    """Regimes that differ are never compared, nor batches and lanes, save for throughput, which is by photo.

    Args:
        options: of their records, where these are two: they say how fast "paced" and how busy "contended" is.

    Raises:
        BadInput: they differ.
    """
    before, after = (pace(rounds, told) for rounds, told in zip((one, other), options, strict=True))
    if what := unlike(before, after):
        raise BadInput(
            f"latencies of {what} {before.get(what)} and {after.get(what)}",
            f"the same {what}: two that differ are never compared",
            "measure both alike",
        )


def pace(rounds: Rounds, options: Mapping[str, Any]) -> dict[str, Any]:
    """Regime, batch and lanes, and of the record's options what the regime is made of."""
    made_of = {"paced": "fps", "contended": "burners"}.get(rounds.regime)
    rest = {made_of: options.get(made_of)} if made_of else {}
    return {"regime": rounds.regime, "batch": rounds.batch, "lanes": rounds.lanes, **rest}


def unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What forbids to compare two paces; "" where nothing does. Throughput is by photo: batches and lanes compare."""
    by_photo = one["regime"] == other["regime"] == "throughput"
    names = [name for name in {**one, **other} if not (by_photo and name in ("batch", "lanes"))]
    return next((name for name in names if one.get(name) != other.get(name)), "")


def ratio_over_launches(ratios: np.ndarray, confidence: float = 0.95) -> Estimate:
    """Trimmed geometric mean of the launches' ratios with its interval; from 0 to infinity below two launches.

    A percentile bootstrap over launches (Wilcox, Introduction to Robust Estimation and Hypothesis Testing, 4.4.3), and
    never narrower than the interval of Tukey and McLaughlin: resamples of five values cannot leave their range.
    """
    method = "bootstrap over launches of the 20 % trimmed mean, at least Tukey-McLaughlin"
    logs, n = np.log(ratios), len(ratios)
    if n < 2:
        return Estimate(float(np.exp(logs.mean())) if n else math.nan, 0.0, math.inf, confidence, n, method)
    return trimmed(logs).ratio(resampled(logs), confidence, n, method)


@dataclass(frozen=True)
class Trimmed:
    """A trimmed mean of logarithms, or a difference of two; its standard error, and its t's degrees of freedom."""

    value: float
    error: float
    degrees: int

    @property
    def p_value(self) -> float:
        """Two-sided p of «it is 0»."""
        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        return 2 * student_cdf(-abs(self.value) / self.error, self.degrees)

    def ratio(self, drawn: np.ndarray, confidence: float, n: int, method: str) -> Estimate:
        """As a ratio, with the percentiles of its resamples as bounds, never narrower than the t statistic's."""
        half = student_quantile(0.5 + confidence / 2, self.degrees) * self.error
        low, high = np.quantile(drawn, (0.5 - confidence / 2, 0.5 + confidence / 2))
        low, high = min(self.value - half, float(low)), max(self.value + half, float(high))
        return Estimate(math.exp(self.value), math.exp(low), math.exp(high), confidence, n, method)


def trimmed(values: np.ndarray) -> Trimmed:
    """Mean without the fifth of the values at each end, with its error from the winsorized values.

    Tukey and McLaughlin (Sankhya A 25, 1963), in Yuen's form (Biometrika 61, 1974). One launch that was disturbed as a
    whole hardly moves it. Below six values none is cut: an error from three is no error.
    """
    ordered, n = np.sort(values), len(values)
    cut = _cut(n)
    kept = ordered[cut : n - cut]
    winsorized = np.clip(ordered, kept[0], kept[-1])
    h = len(kept)
    error = float(winsorized.std(ddof=1)) * math.sqrt((n - 1) / (h * (h - 1)))
    return Trimmed(float(kept.mean()), error, h - 1)


def _cut(n: int) -> int:
    return int(TRIM * n) if n >= 6 else 0


def resampled(values: np.ndarray) -> np.ndarray:
    """Trimmed means of resamples; seeded, so that the same record gives the same table."""
    chance, n = np.random.default_rng(0), len(values)
    cut = _cut(n)
    drawn = np.sort(values[chance.integers(0, n, (_RESAMPLES, n))], axis=1)
    return drawn[:, cut : n - cut].mean(axis=1)


def trimmed_p(logs: np.ndarray) -> float:
    """Two-sided p of «the trimmed mean is 0»; 1 below two values."""
    return trimmed(logs).p_value if len(logs) > 1 else 1.0


def spread(logs: np.ndarray) -> float | None:
    """Standard deviation of one launch's logarithm, as the trimmed mean's error has it; None below two."""
    return trimmed(logs).error * math.sqrt(len(logs)) if len(logs) > 1 else None
