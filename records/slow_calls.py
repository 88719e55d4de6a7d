"""p99 over launches: what is proven of it where slow calls come together, in few launches.

A p99 of one launch's few dozen calls is near its greatest call or misses the slow ones altogether, and a trimmed mean
cuts the very launches that were disturbed. So the share of calls above a threshold is taken over all calls, and tested
against 1 % as a survey of clusters is (Korn and Graubard, Survey Methodology 24, 1998): the exact binomial tail of as
many calls as those of the launches are worth, by the variance between launches and its few degrees of freedom. That
variance is unknown where hardly a call was slow, so that guards stand beside it: a launch is worth ten calls at most,
and for a proof that p99 is low the worst launch counts twice, and launches not seen are thought of as biased as those
seen, log-normally. `benchmarks/studies/tails.py` simulates it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from .distributions import incomplete_beta, student_quantile
from .estimate import Estimate

_SHARE = 0.01  # of calls, above a p99
_WORTH = 10  # independent calls that a launch is worth at most
_SURE = 0.995  # where normal and Student's quantiles are compared; wider than most tests ask for
METHOD = "exact binomial tail over launches (Korn and Graubard)"


@dataclass(frozen=True, eq=False)
class SlowCalls:
    """The slowest calls of a subject.

    Args:
        ns: int64 nanoseconds, the slowest first: all calls, or the first part of them.
        launches: for each the place of its launch in `counts`.
        counts: int64, all calls of each launch, those that are not in `ns` included.
        medians_ns: of each launch, float64.
        within: logarithm of the p99 of calls over the median of their launch.
    """

    ns: np.ndarray
    launches: np.ndarray
    counts: np.ndarray
    medians_ns: np.ndarray
    within: float

    @classmethod
    def of(cls, calls: Mapping[int, np.ndarray]) -> SlowCalls:
        """All calls.

        Args:
            calls: launch → int64 nanoseconds.
        """
        counts = np.array([len(ns) for ns in calls.values()], np.int64)
        ns, launches = np.concatenate(list(calls.values())), np.repeat(np.arange(len(counts)), counts)
        order = np.argsort(-ns, kind="stable")
        medians = np.array([np.median(one) for one in calls.values()])
        within = math.log(max(1.0, float(np.quantile(ns / medians[launches], 1 - _SHARE))))
        return cls(ns[order], launches[order], counts, medians, within)

    def slowest(self, share: float) -> SlowCalls:
        """Only that share of all calls: what a p99 and its bounds need."""
        kept = math.ceil(share * self.n)
        return replace(self, ns=self.ns[:kept], launches=self.launches[:kept])

    @property
    def n(self) -> int:
        """Calls in all."""
        return int(self.counts.sum())

    def p99_ns(self) -> float:
        """99th percentile of all calls, interpolated as numpy does."""
        place = (self.n - 1) * _SHARE
        slower, faster = self.ns[math.floor(place)], self.ns[math.ceil(place)]
        return float(slower + (faster - slower) * (place % 1))

    def p99(self, two_sided: float) -> Estimate:
        """p99 in nanoseconds; its bounds are calls, or 0 and infinity where so few prove nothing."""
        alpha = (1 - two_sided) / 2
        low = _first(len(self.ns), lambda place: self.p_above(float(self.ns[place])) <= alpha)
        high = _first(len(self.ns), lambda place: self.p_below(float(self.ns[place])) > alpha) - 1
        return Estimate(
            self.p99_ns(), float(self.ns[low]) if low < len(self.ns) else 0.0,
            float(self.ns[high]) if high >= 0 else math.inf, two_sided, len(self.counts), METHOD,
        )  # fmt: skip

    def p_below(self, ns: float) -> float:
        """p of «p99 is not above ns»: small where that is proven."""
        above = self._above(ns)
        worst = int(above.argmax())
        calls, slow = self._worth(np.append(above, above[worst]), np.append(self.counts, self.counts[worst]))
        seen = incomplete_beta(calls - slow, slow + 1, 1 - _SHARE, _SHARE) if slow < calls else 1.0
        return max(seen, self._p_biased(ns))

    def _p_biased(self, ns: float) -> float:
        """The same if launches are biased log-normally: a tolerance bound for 99 % of them (Natrella 1963), beside what
        calls vary within a launch.
        """
        logs = np.log(self.medians_ns)
        room, spread, n = math.log(ns) - float(logs.mean()), float(logs.std(ddof=1)), len(logs)
        if room <= self.within or not spread:
            return float(room <= self.within)
        factor = math.sqrt(room**2 - self.within**2) / spread
        error = math.sqrt(1 / n + factor**2 / (2 * (n - 1)))
        return NormalDist().cdf((NormalDist().inv_cdf(1 - _SHARE) - factor) / error)

    def p_above(self, ns: float) -> float:
        """p of «p99 is above ns»: small where that is proven."""
        calls, slow = self._worth(self._above(ns), self.counts)
        return incomplete_beta(slow, calls - slow + 1, _SHARE, 1 - _SHARE) if slow else 1.0

    def _above(self, ns: float) -> np.ndarray:
        """Calls of each launch that took longer."""
        slow = len(self.ns) - int(np.searchsorted(self.ns[::-1], ns, side="right"))
        return np.bincount(self.launches[:slow], minlength=len(self.counts))

    def _worth(self, above: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
        """Independent calls that these are worth, and how many of them are slow."""
        n, launches = int(counts.sum()), len(counts)
        share = float(above.sum()) / n
        variance = launches / (launches - 1) * float(((above - share * counts) ** 2).sum()) / n**2
        alone = share * (1 - share) / n  # the variance of calls that do not come together
        worth = min(n * min(1.0, alone / variance) if variance else n, _WORTH * len(self.counts))
        worth *= _shrink(len(self.counts))
        return worth, share * worth


@lru_cache(maxsize=1024)
def _shrink(launches: int) -> float:
    """What is left of a number of calls where their variance is known from so few launches."""
    return (NormalDist().inv_cdf(_SURE) / student_quantile(_SURE, launches - 1)) ** 2


def _first(count: int, holds: Callable[[int], bool]) -> int:
    """The first place from which on it holds; `count` where it never does."""
    return bisect_left(range(count), True, key=holds)


def launches_to_bound(alpha: float) -> int:
    """The fewest launches of which a p99 can be bounded from above, no call being slow."""
    calls, launches = math.log(alpha) / math.log(1 - _SHARE), 2
    while _WORTH * launches * _shrink(launches) < calls:
        launches += 1
    return launches


def p99_ratio(now: SlowCalls, before: SlowCalls, two_sided: float) -> Estimate:
    """now / before: each bounded with half of the error, so that nothing is assumed of how the two go together."""
    one, other = (calls.p99(1 - (1 - two_sided) / 2) for calls in (now, before))
    low = one.low / other.high if math.isfinite(other.high) else 0.0
    high = one.high / other.low if other.low else math.inf
    return Estimate(one.value / other.value, low, high, two_sided, min(one.n, other.n), METHOD)


def p_ratio_below(now: SlowCalls, before: SlowCalls, limit: float) -> float:
    """p of «p99 now is not above limit × p99 before»: both proven of one call between them, at half the error each."""
    return _both(before, lambda ns: now.p_below(limit * ns), before.p_above)


def p_ratio_above(now: SlowCalls, before: SlowCalls, limit: float) -> float:
    """p of «p99 now is above limit × p99 before»."""
    return _both(before, before.p_below, lambda ns: now.p_above(limit * ns))


def _both(calls: SlowCalls, rising: Callable[[float], float], falling: Callable[[float], float]) -> float:
    """Twice the least that the greater of two p comes to over the calls, the slowest first; 1 at most."""
    ns = calls.ns
    at = _first(len(ns), lambda place: rising(float(ns[place])) >= falling(float(ns[place])))
    near = [float(ns[place]) for place in (at - 1, at) if 0 <= place < len(ns)]
    return min(1.0, 2 * min(max(rising(one), falling(one)) for one in near))
