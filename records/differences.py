"""The mean of small whole differences, one a photo, such as of «right» (1) and «wrong» (0) between two cases.

A few photos of hundreds differ at all, so the normal law does not hold in the tails, where a correction for many tests
looks. Here the tail is exact: of the likeliest distribution that has the mean in question (the constrained maximum of
the likelihood, as in Tango's score and in Owen's empirical likelihood), the law of the sum over n photos is computed
by Fourier transform. An estimated p value, after Storer and Kim (1990, Journal of the American Statistical Association
85:146). Enumerated for 300 photos: a test at 5 % that a margin of one point is passed errs in at most 4.4 %, where
Tango's score does in 8.9 %; one at 0.24 %, as many tests at once need, in at most 0.1 %.
"""

from __future__ import annotations

import math

import numpy as np

from ..errors import BadInput
from .estimate import Estimate

_EXACT = 1e-6  # of an interval's ends: a hundredth of a photo in 10,000
_STEPS = 60
_SIGMAS, _REACHES = 10, 50  # beyond which a sum weighs less than 1e-12: many photos that differ, and few


def mean_difference(differences: np.ndarray, confidence: float = 0.95) -> Estimate:
    """The mean with its interval: the means whose two one-sided tests at (1 - confidence) / 2 do not refuse it.

    Args:
        differences: whole numbers `(N,)`, one a photo, independent of one another.

    Raises:
        BadInput: no photos.
    """
    counts, reach = _counted(differences)
    mirrored = counts[::-1]
    alpha, found = (1 - confidence) / 2, float(np.mean(differences))
    low = _least(counts, reach, found, alpha)
    high = -_least(mirrored, reach, -found, alpha)
    return Estimate(found, low, high, confidence, len(differences), "constrained likelihood, exact tail")


def p_above(differences: np.ndarray, mean: float) -> float:
    """One-sided p value of the claim that the true mean is above `mean`.

    Raises:
        BadInput: no photos.
    """
    return p_of_counts(_counted(differences)[0], mean)


def p_of_counts(counts: list[int], mean: float) -> float:
    """As `p_above`, told how many photos have each difference from -reach to reach: an odd number of counts."""
    return _tail(counts, len(counts) // 2, mean)


def _counted(differences: np.ndarray) -> tuple[list[int], int]:
    """How many photos have each difference from -reach to reach; nothing larger is taken to be possible."""
    if not len(differences):
        raise BadInput("a mean over no photos", "at least one photo")
    whole = np.asarray(differences, np.int64)
    reach = max(1, int(np.abs(whole).max()))
    return np.bincount(whole + reach, minlength=2 * reach + 1).tolist(), reach


def _least(counts: list[int], reach: int, found: float, alpha: float) -> float:
    """The least mean under which so high a sum has a chance of alpha, by bisection below the mean found."""
    low, high, step = found, found, 2 / sum(counts)
    while low > -reach and _tail(counts, reach, low) >= alpha:
        low, high, step = max(float(-reach), low - step), low, 2 * step
    while high - low > _EXACT:
        middle = (low + high) / 2
        low, high = (low, middle) if _tail(counts, reach, middle) >= alpha else (middle, high)
    return high


def _tail(counts: list[int], reach: int, mean: float) -> float:
    """P(the sum is at least the one seen), if photos came from the likeliest distribution of this mean."""
    n = sum(counts)
    seen = sum(count * (place - reach) for place, count in enumerate(counts))
    if not -reach < mean < reach:
        return float(mean >= reach or seen == -reach * n)
    law = likeliest(counts, reach, mean)
    variance = n * sum(chance * (place - reach - mean) ** 2 for place, chance in enumerate(law))
    middle, most = round(n * mean), min(2 * reach * n, math.ceil(_SIGMAS * math.sqrt(variance)) + _REACHES * reach)
    if abs(seen - middle) > most:
        return float(seen < middle)
    # Sums further off weigh nothing, so that the transform may be shorter than all that are possible: it wraps round.
    size = 1 << (2 * most + 1).bit_length()
    spectrum = _power(np.fft.rfft(np.roll(np.pad(law, (0, size - len(law))), -reach)), n)
    chances = np.roll(np.fft.irfft(spectrum, size), most - middle)
    return float(min(1.0, max(0.0, chances[seen - middle + most : 2 * most + 1].sum())))


def _power(values: np.ndarray, exponent: int) -> np.ndarray:
    """By squaring: numpy's own power of complex numbers takes 18 times as long."""
    found = np.ones_like(values)
    while exponent:
        if exponent & 1:
            found = found * values
        exponent >>= 1
        values = values * values
    return found


def likeliest(counts: list[int], reach: int, mean: float) -> list[float]:
    """Of the distributions on -reach … reach with this mean, the one under which the counts are likeliest.

    Lagrange: p_k = n_k / (n + λ (k - mean)). Where no λ does, the outermost value, which nobody saw, takes the rest.
    """
    n, gaps = sum(counts), [place - reach - mean for place in range(len(counts))]
    low, high = -n / gaps[-1], -n / gaps[0]
    for _ in range(_STEPS):
        middle = (low + high) / 2
        slope = sum(count * gap / (n + middle * gap) for count, gap in zip(counts, gaps, strict=True) if count)
        low, high = (middle, high) if slope > 0 else (low, middle)
    multiplier = (low + high) / 2
    found = [count / (n + multiplier * gap) if count else 0.0 for count, gap in zip(counts, gaps, strict=True)]
    rest = 1 - sum(found)
    if rest > 0:
        found[0 if multiplier > 0 else -1] += rest
    return found
