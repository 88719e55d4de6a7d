"""What is derived from raw values: a value with its interval, and a decision with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Args:
        confidence: of the interval, 0 to 1.
        n: observations that it stands on.
        method: name of the interval's method.
    """

    value: float
    low: float
    high: float
    confidence: float
    n: int
    method: str


class Decision(str, Enum):
    """What a comparison says."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True)
class Verdict:
    """A decision and why.

    Args:
        difference: what was judged, with its bounds; None where the decision stands on something else.
    """

    decision: Decision
    reason: str
    difference: Estimate | None = None
