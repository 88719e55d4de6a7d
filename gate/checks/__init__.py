"""All checks that a rule can ask for, by the policy's key. One more: a function, and its line in its file's CHECKS."""

from __future__ import annotations

from . import answers, corruption, footprint, latency
from .check import Check

CHECKS: dict[str, Check] = {**answers.CHECKS, **corruption.CHECKS, **latency.CHECKS, **footprint.CHECKS}
OF_ANSWERS = frozenset({*answers.CHECKS, *corruption.CHECKS})  # photos decide them
OF_TIME = frozenset(latency.CHECKS)  # launches decide them
OF_LAUNCHES = OF_TIME | footprint.OF_MEMORY  # which a launch must be made for

__all__ = ["CHECKS", "OF_ANSWERS", "OF_LAUNCHES", "OF_TIME", "Check"]
