"""Checks of time: ratios to the other's launches, and absolute limits.

Of medians each launch counts once (records/ratios); p99 is of all calls, bounded over launches (records/slow_calls).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ...records.comparison import launch_difference, two_sample_ratio
from ...records.distributions import student_cdf
from ...records.estimate import Estimate
from ...records.latency import calls_needed
from ...records.ratios import FEWEST_LAUNCHES, Trimmed, launch_ratios, ratio_over_launches, spread, trimmed
from ...records.slow_calls import SlowCalls, launches_to_bound, p99_ratio, p_ratio_above, p_ratio_below
from ...records.speed import launches_needed
from ...words import launch_count
from ..measured import Measured, Timing, same_machine, unlike_pace
from .check import Answer, Check, NothingToCompare, Question, absent, number, require_before


def _timings(question: Question, single_calls: bool = False) -> tuple[Timing, Timing, bool]:
    """Now, before, and whether they were measured side by side."""
    now, before = question.now, require_before(question)
    if now.timing is None or before.timing is None:
        raise absent(now if now.timing is None else before, "latency", "bench it")
    if reason := unlike_pace(now.timing, before.timing, single_calls):
        raise NothingToCompare(reason)
    together = _together(now, before)
    if not together and (reason := same_machine(now, before)):
        raise NothingToCompare(reason)
    return now.timing, before.timing, together


def _together(now: Measured, before: Measured) -> bool:
    both = now.timing is not None and before.timing is not None
    return both and now.session == before.session and bool(now.timing.rounds and before.timing.rounds)  # type: ignore[union-attr]


def median(question: Question) -> Answer:
    """p50 now over p50 before: side by side by launch, else of two samples of launches on one machine."""
    now, before, together = _timings(question)
    if together:
        assert now.rounds is not None and before.rounds is not None
        return _paired(np.log(launch_ratios(now.rounds, before.rounds)), question, "p50")
    return _two_samples(_logs(now.p50_s), _logs(before.p50_s), question, "p50")


def high(question: Question) -> Answer:
    """p99 of all calls now over p99 before, both bounded over launches."""
    mine, other, together = _timings(question, single_calls=True)
    now, before, limit = _slow(mine), _slow(other), float(question.limit)
    value = p99_ratio(now, before, question.two_sided)
    words = f"p99 {value.value:.3f} × ({_interval(value, '.3f')}), {launch_count(value.n)}, " \
            f"{'side by side' if together else 'two runs'}"  # fmt: skip
    within, exceeded = p_ratio_below(now, before, limit) <= question.alpha, p_ratio_above(now, before, limit)
    return Answer(words, within, exceeded, value, limit, _bounded_by(value.n, question.alpha / 2))


def start(question: Question) -> Answer:
    """Process start to first answer, now over before, by launch."""
    now, before = question.now, require_before(question)
    if not (now.cold_start_s and before.cold_start_s):
        raise absent(before if now.cold_start_s else now, "cold start", "bench it")
    if reason := unlike_pace(now.timing, before.timing, single_calls=True):
        raise NothingToCompare(reason)
    if not _together(now, before) and (reason := same_machine(now, before)):
        raise NothingToCompare(reason)
    return _two_samples(np.log(now.cold_start_s), np.log(before.cold_start_s), question, "cold start")


def _paired(logs: np.ndarray, question: Question, what: str) -> Answer:
    """Ratios by launch against the limit."""
    _require_launches(len(logs))
    value = ratio_over_launches(np.exp(logs), question.two_sided)
    return _judged(value, trimmed(logs - math.log(question.limit)), question, what, "side by side", spread(logs))


def _two_samples(now: np.ndarray, before: np.ndarray, question: Question, what: str) -> Answer:
    _require_launches(min(len(now), len(before)))
    value = two_sample_ratio(before, now, question.two_sided)
    beyond = launch_difference(before + math.log(question.limit), now)
    widths = [found for found in (spread(now), spread(before)) if found is not None]
    return _judged(value, beyond, question, what, "two runs", math.hypot(*widths) if len(widths) == 2 else None)


def _judged(value: Estimate, beyond: Trimmed, question: Question, what: str, how: str, width: float | None) -> Answer:
    """`beyond`: of the logarithms, above 0 where the limit is exceeded."""
    limit, needed = float(question.limit), launches_needed(width) if width else None
    words = f"{what} {value.value:.3f} × ({value.low:.3f} to {value.high:.3f}), {launch_count(value.n)}, {how}"
    sees = f"{needed} launches find a change of 2 %" if needed else ""
    return Answer(words, value.high <= limit, _p_above_zero(beyond), value, limit, sees)


def _p_above_zero(found: Trimmed) -> float:
    """One-sided p of «the mean is above 0»."""
    if found.error == 0:
        return 0.0 if found.value > 0 else 1.0
    return student_cdf(-found.value / found.error, found.degrees)


def _logs(seconds: Mapping[int, float]) -> np.ndarray:
    return np.log(list(seconds.values()))


def _slow(timing: Timing) -> SlowCalls:
    """The calls that a p99 is taken from."""
    if timing.slow is None:
        raise NothingToCompare("the baseline is of an older version and holds no slow calls: update it")
    if timing.slow.n < (needed := calls_needed(0.99)):
        raise NothingToCompare(f"p99 of {timing.slow.n} calls: {needed} at least are needed, bench longer")
    _require_launches(len(timing.slow.counts))
    return timing.slow


def _interval(value: Estimate, form: str) -> str:
    """Its bounds in words."""
    if math.isinf(value.high):
        return f"at least {value.low:{form}}" if value.low else "not bounded"
    return f"{value.low:{form}} to {value.high:{form}}"


def _bounded_by(launches: int, alpha: float) -> str:
    """What so few launches cannot tell of a p99; "" where they can."""
    needed = launches_to_bound(alpha)
    return f"{needed} launches at least bound a p99" if launches < needed else ""


def _require_launches(count: int) -> None:
    if count < FEWEST_LAUNCHES:
        raise NothingToCompare(f"{launch_count(count)}: {FEWEST_LAUNCHES} at least are needed; bench with --launches")


def most_median(question: Question) -> Answer:
    """p50 in ms against an absolute limit: a trimmed t test over the launches' logarithms."""
    timing = _own(question)
    if timing.pace["regime"] == "throughput":
        raise NothingToCompare("measured under throughput, where a time is that of a photo and no call's: bench it "
                               "back to back, or bound the p99 of its calls")  # fmt: skip
    return _absolute(_logs(timing.p50_s), question, "p50", 1e3, "ms")


def most_high(question: Question) -> Answer:
    """p99 of all calls in ms against an absolute limit: calls of one launch are slow together."""
    slow, limit = _slow(_own(question)), float(question.limit)
    value = _scaled(slow.p99(question.two_sided), 1e-6)
    words = f"p99 {value.value:.3g} ms ({_interval(value, '.3g')}), {launch_count(value.n)}"
    within, exceeded = slow.p_below(limit * 1e6) <= question.alpha, slow.p_above(limit * 1e6)
    return Answer(words, within, exceeded, value, limit, _bounded_by(value.n, question.alpha))


def most_start(question: Question) -> Answer:
    """Cold start in seconds against an absolute limit, by launch."""
    if not question.now.cold_start_s:
        raise absent(question.now, "cold start", "bench it")
    return _absolute(np.log(question.now.cold_start_s), question, "cold start", 1.0, "s")


def _own(question: Question) -> Timing:
    if question.now.timing is None:
        raise absent(question.now, "latency", "bench it")
    return question.now.timing


def _absolute(logs: np.ndarray, question: Question, what: str, scale: float, unit: str) -> Answer:
    _require_launches(len(logs))
    limit, found = float(question.limit), ratio_over_launches(np.exp(logs), question.two_sided)
    value = _scaled(found, scale)
    reason = f"{what} {value.value:.3g} {unit} ({value.low:.3g} to {value.high:.3g}), {launch_count(value.n)}"
    return Answer(reason, value.high <= limit, _p_above_zero(trimmed(logs - math.log(limit / scale))), value, limit)


def _scaled(found: Estimate, by: float) -> Estimate:
    return replace(found, value=found.value * by, low=found.low * by, high=found.high * by)


_RATIO = number(0.1, 100)
CHECKS = {
    "latency-p50": Check(median, *_RATIO, "ratio"),
    "latency-p99": Check(high, *_RATIO, "ratio"),
    "cold-start": Check(start, *_RATIO, "ratio"),
    "max-p50-ms": Check(most_median, *number(0, 1e6, exclusive=True), "ms", compares=False),
    "max-p99-ms": Check(most_high, *number(0, 1e6, exclusive=True), "ms", compares=False),
    "max-cold-start-s": Check(most_start, *number(0, 1e5, exclusive=True), "s", compares=False),
}
