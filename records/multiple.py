"""Many comparisons at once: p values adjusted for their number, and the class that lost most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import BadInput
from .classification import confusion
from .paired import mcnemar_p, paired_counts
from .predictions import Predictions


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p values, float64, in the order given (Holm 1979, Scandinavian Journal of Statistics 6:65).

    Rejecting those ≤ α keeps the chance of any false rejection ≤ α, however the tests depend on each other.

    Raises:
        BadInput: a value outside 0 to 1.
    """
    raw = np.asarray(p_values, np.float64)
    if not np.all((raw >= 0) & (raw <= 1)):
        raise BadInput(f"p values {list(p_values)}", "values from 0 to 1")
    order = np.argsort(raw, kind="stable")
    steps = raw[order] * np.arange(len(raw), 0, -1)
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


@dataclass(frozen=True)
class WorstClass:
    """A class that lost significantly: label index, photos lost, won and in all, Holm's p value over the classes."""

    label: int
    lost: int
    won: int
    n: int
    p_value: float

    @property
    def loss(self) -> float:
        """Its top-1 under the reference's, 0 to 1."""
        return (self.lost - self.won) / self.n


def worst_class(subject: Predictions, reference: Predictions, classes: int, alpha: float = 0.05) -> WorstClass | None:
    """The class whose top-1 fell most, of those that fell significantly: exact McNemar in each class that has photos,
    Holm's adjustment over all of these.

    Returns:
        None where no class fell significantly. With few photos a class, that says little: 6 lost and none won are
        the fewest that one test alone can see, and 81 classes need 12.

    Raises:
        BadInput: not the same photos and truths, synthesized images, or a label outside the classes.
    """
    paired_counts(subject, reference)  # refuses what cannot be compared
    n = confusion(subject, classes).sum(axis=1)
    now, before = subject.top[:, 0] == subject.truth, reference.top[:, 0] == reference.truth
    lost = np.bincount(subject.truth[before & ~now], minlength=classes)
    won = np.bincount(subject.truth[now & ~before], minlength=classes)
    present = np.flatnonzero(n).tolist()
    adjusted = holm([mcnemar_p(int(lost[label]), int(won[label])) for label in present])
    found = [
        WorstClass(label, int(lost[label]), int(won[label]), int(n[label]), float(p))
        for label, p in zip(present, adjusted, strict=True)
        if p <= alpha and lost[label] > won[label]
    ]
    return max(found, key=lambda one: (one.loss, -one.p_value), default=None)
