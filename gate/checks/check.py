"""What a check is asked, and what it answers before the correction for many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...records.estimate import Estimate
from ..measured import Measured


@dataclass(frozen=True)
class Question:
    """One check of one row.

    Args:
        now: the row.
        before: what it is compared with; None where there is nothing.
        limit: the policy's value: a number, or a table of the check's own keys.
        confidence: of each one-sided bound.
    """

    now: Measured
    before: Measured | None
    limit: Any
    confidence: float

    @property
    def alpha(self) -> float:
        """Level of each one-sided test."""
        return 1 - self.confidence

    @property
    def two_sided(self) -> float:
        """Confidence of the interval whose ends are the one-sided bounds."""
        return 2 * self.confidence - 1


@dataclass(frozen=True)
class Answer:
    """What one check found.

    Args:
        reason: one line.
        within: the limit is proven to be kept, or seen to be where nothing is tested; None: nothing could be compared.
        exceeded: p value of «the limit is exceeded»; True or False where the check is a count and nothing is tested.
        value: with the interval that the decision is made by.
        limit: as a number, for the finding.
        sees: what this sample can see.
    """

    reason: str
    within: bool | None = None
    exceeded: float | bool | None = None
    value: Estimate | None = None
    limit: float | None = None
    sees: str = ""


class NothingToCompare(Exception):
    """A check cannot be decided on what there is; its text says why, and what to do."""


Validate = Callable[[Any], str]  # a policy's value → what is wrong with it; "" where nothing is


@dataclass(frozen=True)
class Check:
    """One key of a policy's rule.

    Args:
        run: the question → the answer; raises NothingToCompare.
        validate: of the policy's value.
        schema: JSON Schema of that value.
        unit: of value and limit.
        compares: it needs something to compare with.
        not_kept: what it compares with and no baseline holds; "" where baselines hold it.
    """

    run: Callable[[Question], Answer]
    validate: Validate
    schema: Mapping[str, Any]
    unit: str
    compares: bool = True
    not_kept: str = ""


def number(low: float, high: float, exclusive: bool = False) -> tuple[Validate, Mapping[str, Any]]:
    """Validation and schema of a number from `low` to `high`; `exclusive` keeps `low` itself out."""
    words = f"a number {'above' if exclusive else 'from'} {low:g} to {high:g}"

    def validate(value: Any) -> str:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
        return "" if fits and not (exclusive and value == low) else words

    minimum = "exclusiveMinimum" if exclusive else "minimum"
    return validate, {"type": "number", minimum: low, "maximum": high}


def counted(within: bool, reason: str, value: Estimate, limit: float) -> Answer:
    """The answer of a check that counts or compares two figures: nothing is tested."""
    return Answer(reason, within, not within, value, limit)


def exactly(value: float, n: int = 1) -> Estimate:
    """A figure without an interval."""
    return Estimate(value, value, value, 1.0, n, "counted")


def absent(row: Measured, what: str, remedy: str) -> NothingToCompare:
    """The refusal to judge what no record of a row holds: why it failed, else what to do."""
    return NothingToCompare(f"{row.source} holds no {what} of it: {row.failed or remedy}")


def require_before(question: Question) -> Measured:
    """What the row is compared with.

    Raises:
        NothingToCompare: there is nothing.
    """
    if question.before is None:
        raise NothingToCompare(
            "nothing to compare with: give a --baseline that holds it, or --against, or name a row with `against`"
        )
    return question.before
