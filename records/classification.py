"""Accuracy of one subject: proportions with Wilson's interval."""

from __future__ import annotations

import math

import numpy as np

from ..errors import BadInput
from .estimate import Estimate
from .predictions import Predictions

_Z95 = 1.959963984540054


def proportion(successes: int, n: int) -> Estimate:
    """Wilson's score interval at 95 % (Wilson 1927; Newcombe 1998, method 3).

    Raises:
        BadInput: n is 0.
    """
    if n == 0:
        raise BadInput("a proportion of no photos", "at least one photo")
    low, high = wilson(successes, n)
    return Estimate(successes / n, low, high, 0.95, n, "Wilson")


def wilson(successes: int, n: int, z: float = _Z95) -> tuple[float, float]:
    """Bounds of Wilson's interval."""
    p = successes / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def top_k(found: Predictions, k: int = 1) -> Estimate:
    """Share of photos whose truth is among the k likeliest.

    Raises:
        BadInput: the predictions are of synthesized images, which have no accuracy.
    """
    if found.kind != "photos":
        raise BadInput(f"top-{k} of {found.kind} images", "photos with true labels", "ask for the agreement instead")
    hits = int(np.any(found.top[:, :k] == found.truth[:, None], axis=1).sum())
    return proportion(hits, len(found))
