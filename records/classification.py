"""Accuracy of one subject: proportions with Wilson's interval, by class and by group, and confusion."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from ..errors import BadInput
from .distributions import binomial_cdf, binomial_tail
from .estimate import Estimate
from .predictions import Predictions

Z95 = 1.959963984540054
Group = TypeVar("Group", int, str)


def proportion(successes: int, n: int) -> Estimate:
    """Wilson's score interval at 95 % (Wilson 1927; Newcombe 1998, method 3).

    Raises:
        BadInput: n is 0.
    """
    if n == 0:
        raise BadInput("a proportion of no photos", "at least one photo")
    low, high = wilson(successes, n)
    return Estimate(successes / n, low, high, 0.95, n, "Wilson")


def wilson(successes: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Bounds of Wilson's interval."""
    p = successes / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def exact_proportion(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Interval of the proportions that exact one-sided binomial tests do not refuse (Clopper and Pearson 1934).

    Raises:
        BadInput: n is 0.
    """
    if n == 0:
        raise BadInput("a proportion of no photos", "at least one photo")
    tail = (1 - confidence) / 2
    low = _crossing(lambda p: binomial_tail(successes, n, p) > tail) if successes else 0.0
    high = _crossing(lambda p: binomial_cdf(successes, n, p) <= tail) if successes < n else 1.0
    return Estimate(successes / n, low, high, confidence, n, "Clopper-Pearson")


def _crossing(is_above: Callable[[float], bool]) -> float:
    """Where a condition that holds from some probability on begins to, to 1e-9."""
    low, high = 0.0, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (low, middle) if is_above(middle) else (middle, high)
    return high


def top_k(found: Predictions, k: int = 1) -> Estimate:
    """Share of photos whose truth is among the k likeliest.

    Raises:
        BadInput: the predictions are of synthesized images, which have no accuracy.
    """
    require_truth(found, f"top-{k}")
    hits = int(np.any(found.top[:, :k] == found.truth[:, None], axis=1).sum())
    return proportion(hits, len(found))


def require_truth(found: Predictions, what: str) -> None:
    """Refuse what needs true labels.

    Raises:
        BadInput: the predictions are of synthesized images, which have no accuracy.
    """
    if found.kind != "photos":
        raise BadInput(f"{what} of {found.kind} images", "photos with true labels", "ask for the agreement instead")


def confusion(found: Predictions, classes: int) -> np.ndarray:
    """Photos by truth (row) and top-1 answer (column), int64 `(classes, classes)`.

    Raises:
        BadInput: synthesized images, which have no accuracy; a label outside the classes.
    """
    require_truth(found, "confusion")
    labels = np.concatenate([found.truth, found.top[:, 0]])
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise BadInput(f"labels {labels.min()} to {labels.max()}", f"labels 0 to {classes - 1}")
    cells = np.bincount(found.truth * classes + found.top[:, 0], minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def per_class(found: Predictions, classes: int) -> tuple[Estimate | None, ...]:
    """Top-1 of each class's own photos (its recall), Wilson's interval; None for a class without photos.

    Raises:
        BadInput: synthesized images, which have no accuracy; a label outside the classes.
    """
    counts = confusion(found, classes)
    pairs = zip(counts.diagonal().tolist(), counts.sum(axis=1).tolist(), strict=True)
    return tuple(proportion(hits, n) if n else None for hits, n in pairs)


def coarse_top_1(found: Predictions, groups: Sequence[int | str]) -> Estimate:
    """Share of photos whose answer is in the group of the truth: a Pink Lady taken for a Royal Gala is an apple still.

    Args:
        groups: the group of each label.

    Raises:
        BadInput: no photos, synthesized images, or a label without a group.
    """
    counts = _grouped(found, groups)[1]
    return proportion(int(counts.trace()), int(counts.sum()))


def by_group(found: Predictions, groups: Sequence[Group]) -> dict[Group, Estimate]:
    """Coarse top-1 (see `coarse_top_1`) of each group's own photos; groups without photos are left out.

    Raises:
        BadInput: synthesized images, which have no accuracy; a label without a group.
    """
    names, counts = _grouped(found, groups)
    pairs = zip(names, counts.diagonal().tolist(), counts.sum(axis=1).tolist(), strict=True)
    return {name: proportion(hits, n) for name, hits, n in pairs if n}


def _grouped(found: Predictions, groups: Sequence[Any]) -> tuple[list[Any], np.ndarray]:
    """Groups in the order of their first label, and the confusion among them."""
    names = list(dict.fromkeys(groups))
    member = np.array([[group == name for name in names] for group in groups], np.int64).reshape(-1, len(names))
    return names, member.T @ confusion(found, len(groups)) @ member
