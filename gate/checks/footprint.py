"""Checks of what it weighs: files, memory. One figure each, compared as it is."""

from __future__ import annotations

from ...records.estimate import Estimate
from ..measured import same_machine, unlike_pace
from .check import Answer, Check, NothingToCompare, Question, absent, counted, exactly, number, require_before

_MB = 1e6


def size(question: Question) -> Answer:
    """Bytes of the artifact's files, now over before."""
    return _ratio(question, float(question.now.size_bytes), float(require_before(question).size_bytes), "files")


def memory(question: Question) -> Answer:
    """Peak resident memory of the worker, now over before, on one machine and at one pace."""
    now, before = question.now, require_before(question)
    if now.memory_bytes is None or before.memory_bytes is None:
        raise absent(now if now.memory_bytes is None else before, "memory", "bench it")
    if reason := unlike_pace(now.timing, before.timing, single_calls=True):
        raise NothingToCompare(reason)
    if now.session != before.session and (reason := same_machine(now, before)):
        raise NothingToCompare(reason)
    return _ratio(question, float(now.memory_bytes), float(before.memory_bytes), "peak memory")


def _ratio(question: Question, now: float, before: float, what: str) -> Answer:
    if not (now and before):
        raise NothingToCompare(f"its {what}: unknown")
    value, limit = now / before, float(question.limit)
    reason = f"{what} {now / _MB:.1f} MB, {before / _MB:.1f} MB before: {value:.3f} ×"
    return counted(value <= limit, reason, exactly(value), limit)


def most_size(question: Question) -> Answer:
    """Megabytes of the artifact's files against an absolute limit."""
    return _absolute(question, question.now.size_bytes or None, "files")


def most_memory(question: Question) -> Answer:
    """Megabytes of peak resident memory against an absolute limit."""
    return _absolute(question, question.now.memory_bytes, "peak memory")


def _absolute(question: Question, found: int | None, what: str) -> Answer:
    if found is None:
        raise NothingToCompare(f"its {what}: unknown")
    value: Estimate = exactly(found / _MB)
    return counted(value.value <= question.limit, f"{what} {value.value:.1f} MB", value, float(question.limit))


OF_MEMORY = frozenset({"memory", "max-memory-mb"})
_RATIO, _LIMIT = number(0.1, 100), number(0, 1e7, exclusive=True)
CHECKS = {
    "size": Check(size, *_RATIO, "ratio"),
    "memory": Check(memory, *_RATIO, "ratio"),
    "max-size-mb": Check(most_size, *_LIMIT, "MB", compares=False),
    "max-memory-mb": Check(most_memory, *_LIMIT, "MB", compares=False),
}
