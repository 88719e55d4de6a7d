"""Checks of time: ratios to the other's launches, and absolute limits. Each launch counts once (records/ratios)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ...records.comparison import launch_difference, two_sample_ratio
from ...records.distributions import student_cdf
from ...records.estimate import Estimate
from ...records.latency import calls_needed
from ...records.ratios import Trimmed, launch_ratios, ratio_over_launches, spread, trimmed
from ...records.speed import launches_needed
from ..measured import Measured, Timing, same_machine
from .check import Answer, Check, NothingToCompare, Question, number, require_before

_FEWEST = 3  # launches; a test of two says next to nothing


def _timings(question: Question) -> tuple[Timing, Timing, bool]:
    """Now, before, and whether they were measured side by side."""
    now, before = question.now, require_before(question)
    if now.timing is None or before.timing is None:
        raise NothingToCompare(f"{(now if now.timing is None else before).source} holds no latency of it: bench it")
    if now.timing.pace != before.timing.pace:
        raise NothingToCompare(f"measured at {_words(before.timing.pace)}, now at {_words(now.timing.pace)}")
    together = _together(now, before)
    if not together and (reason := same_machine(now, before)):
        raise NothingToCompare(reason)
    return now.timing, before.timing, together


def _together(now: Measured, before: Measured) -> bool:
    both = now.timing is not None and before.timing is not None
    return both and now.session == before.session and bool(now.timing.rounds and before.timing.rounds)  # type: ignore[union-attr]


def _words(pace: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in pace.items())


def median(question: Question) -> Answer:
    """p50 now over p50 before: side by side by launch, else of two samples of launches on one machine."""
    now, before, together = _timings(question)
    if together:
        assert now.rounds is not None and before.rounds is not None
        return _paired(np.log(launch_ratios(now.rounds, before.rounds)), question, "p50")
    return _two_samples(_logs(now.p50_s), _logs(before.p50_s), question, "p50")


def high(question: Question) -> Answer:
    """p99 now over p99 before, one value a launch; refused below the calls that a 99th percentile needs."""
    now, before, together = _timings(question)
    _require_calls(min(now.calls, before.calls))
    if together:
        shared = [launch for launch in now.p99_s if launch in before.p99_s]
        logs = np.array([math.log(now.p99_s[launch] / before.p99_s[launch]) for launch in shared])
        return _paired(logs, question, "p99")
    return _two_samples(_logs(now.p99_s), _logs(before.p99_s), question, "p99")


def start(question: Question) -> Answer:
    """Process start to first answer, now over before, by launch."""
    now, before = question.now, require_before(question)
    if not (now.cold_start_s and before.cold_start_s):
        raise NothingToCompare("no cold start of it: bench it")
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
    words = f"{what} {value.value:.3f} × ({value.low:.3f} to {value.high:.3f}), {value.n} launches, {how}"
    sees = f"{needed} launches find a change of 2 %" if needed else ""
    return Answer(words, value.high <= limit, _p_above_zero(beyond), value, limit, sees)


def _p_above_zero(found: Trimmed) -> float:
    """One-sided p of «the mean is above 0»."""
    if found.error == 0:
        return 0.0 if found.value > 0 else 1.0
    return student_cdf(-found.value / found.error, found.degrees)


def _logs(seconds: Mapping[int, float]) -> np.ndarray:
    return np.log(list(seconds.values()))


def _require_calls(count: int) -> None:
    if count < (needed := calls_needed(0.99)):
        raise NothingToCompare(f"p99 of {count} calls: {needed} at least are needed, bench longer")


def _require_launches(count: int) -> None:
    if count < _FEWEST:
        raise NothingToCompare(f"{count} launches: {_FEWEST} at least are needed; bench with --launches")


def most_median(question: Question) -> Answer:
    """p50 in ms against an absolute limit: a trimmed t test over the launches' logarithms."""
    timing = _own(question)
    return _absolute(_logs(timing.p50_s), question, "p50", 1e3, "ms")


def most_high(question: Question) -> Answer:
    """p99 in ms against an absolute limit, one value a launch: calls of one launch are slow together."""
    timing = _own(question)
    _require_calls(timing.calls)
    return _absolute(_logs(timing.p99_s), question, "p99", 1e3, "ms")


def most_start(question: Question) -> Answer:
    """Cold start in seconds against an absolute limit, by launch."""
    if not question.now.cold_start_s:
        raise NothingToCompare("no cold start of it: bench it")
    return _absolute(np.log(question.now.cold_start_s), question, "cold start", 1.0, "s")


def _own(question: Question) -> Timing:
    if question.now.timing is None:
        raise NothingToCompare(f"{question.now.source} holds no latency of it: bench it")
    return question.now.timing


def _absolute(logs: np.ndarray, question: Question, what: str, scale: float, unit: str) -> Answer:
    _require_launches(len(logs))
    limit, found = float(question.limit), ratio_over_launches(np.exp(logs), question.two_sided)
    value = replace(found, value=found.value * scale, low=found.low * scale, high=found.high * scale)
    reason = f"{what} {value.value:.3g} {unit} ({value.low:.3g} to {value.high:.3g}), {value.n} launches"
    return Answer(reason, value.high <= limit, _p_above_zero(trimmed(logs - math.log(limit / scale))), value, limit)


_RATIO = number(0.1, 100)
CHECKS = {
    "latency-p50": Check(median, *_RATIO, "ratio", timed=True),
    "latency-p99": Check(high, *_RATIO, "ratio", timed=True),
    "cold-start": Check(start, *_RATIO, "ratio", timed=True),
    "max-p50-ms": Check(most_median, *number(0, 1e6, exclusive=True), "ms", compares=False, timed=True),
    "max-p99-ms": Check(most_high, *number(0, 1e6, exclusive=True), "ms", compares=False, timed=True),
    "max-cold-start-s": Check(most_start, *number(0, 1e5, exclusive=True), "s", compares=False, timed=True),
}
