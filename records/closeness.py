"""How close two tensors are: the one comparator of sensitivity, debug and doctor.

Kept as sums, so that photos may come in batches: what is added up of parts is what the whole gives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Closeness:
    """Sums over pairs of values: a tensor that is trusted (`wanted`) and another of the same shape (`found`).

    Pairs of which either is NaN or infinite are counted and left out of the sums, but for pairs that are alike in that.

    Args:
        n: pairs.
        odd: pairs of which one alone is finite, or that are two different infinities.
        signal, other, product: sums of wanted², found² and wanted × found.
        noise: sum of (found - wanted)².
        largest: greatest |found - wanted|.
        low, high: range of the finite wanted values.
        found_low, found_high: range of the finite found values.
    """

    n: int = 0
    odd: int = 0
    signal: float = 0.0
    other: float = 0.0
    product: float = 0.0
    noise: float = 0.0
    largest: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    found_low: float = math.inf
    found_high: float = -math.inf

    def __add__(self, more: Closeness) -> Closeness:
        return Closeness(
            self.n + more.n,
            self.odd + more.odd,
            self.signal + more.signal,
            self.other + more.other,
            self.product + more.product,
            self.noise + more.noise,
            max(self.largest, more.largest),
            min(self.low, more.low),
            max(self.high, more.high),
            min(self.found_low, more.found_low),
            max(self.found_high, more.found_high),
        )

    @property
    def sqnr_db(self) -> float:
        """Signal to noise, dB: infinite without noise, minus infinity where a value alone is NaN or infinite."""
        return -math.inf if self.odd else decibels(self.signal, self.noise)

    @property
    def relative(self) -> float:
        """Greatest difference, in spans of the wanted values; infinite as above."""
        if self.odd:
            return math.inf
        span = max(self.high - self.low, abs(self.high) if self.n else 0.0)
        return self.largest / span if span > 0 else math.inf if self.largest else 0.0

    @property
    def cosine(self) -> float:
        """Of the angle between the two, -1 to 1; 1 where both are zero."""
        size = math.sqrt(self.signal) * math.sqrt(self.other)  # the product of the sums may be more than a float holds
        return self.product / size if size > 0 else float(self.signal == self.other)

    @property
    def exact(self) -> bool:
        """No pair differs."""
        return not self.odd and self.largest == 0.0


def closeness(wanted: np.ndarray, found: np.ndarray) -> Closeness:
    """Compare two arrays of one shape, of any real type; sums are in float64."""
    wanted, found = np.asarray(wanted, np.float64), np.asarray(found, np.float64)
    fine = np.isfinite(wanted) & np.isfinite(found)
    alike = (wanted == found) | (np.isnan(wanted) & np.isnan(found))
    odd = int(np.count_nonzero(~fine & ~alike))
    a, b = wanted[fine], found[fine]
    gap = b - a
    return Closeness(wanted.size, odd, _sum(a, a), _sum(b, b), _sum(a, b), _sum(gap, gap),
                     float(np.abs(gap).max(initial=0.0)), *_range(wanted), *_range(found))  # fmt: skip


def closeness_of(raw: Mapping[str, Any]) -> Closeness:
    """Of a record's plain values; what JSON has as null was infinite, and the range of no values is empty."""
    empty = {"low": math.inf, "high": -math.inf, "found_low": math.inf, "found_high": -math.inf}
    held: dict[str, Any] = {name: empty.get(name, math.inf) if value is None else value for name, value in raw.items()}
    return Closeness(**held)


def decibels(signal: float, noise: float) -> float:
    """Ratio of two powers, dB; infinite without noise."""
    if noise <= 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def _sum(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.dot(one.ravel(), other.ravel()))


def _range(values: np.ndarray) -> tuple[float, float]:
    kept = values[np.isfinite(values)]
    return float(kept.min(initial=math.inf)), float(kept.max(initial=-math.inf))
