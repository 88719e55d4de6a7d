"""One figure as it is shown, with where it came from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..records import Estimate

NONE = "–"


@dataclass(frozen=True)
class Cell:
    """A value in words, and how it is traced.

    Args:
        text: as people read it.
        record, row, how: file, row and derivation; empty for plain words.
        value, low, high: in `unit`; None where there is no number.
        tone: "good", "bad" or "" for emphasis, never the only sign.
    """

    text: str
    record: str = ""
    row: str = ""
    how: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    tone: str = ""

    @property
    def source(self) -> str:
        """Record, row and derivation in one line; empty for plain words."""
        return " › ".join(part for part in (self.record, self.row, self.how) if part)

    def plain(self) -> dict[str, Any]:
        """For JSON: what is known, without what is empty."""
        values = {"text": self.text, "value": self.value, "low": self.low, "high": self.high, "unit": self.unit}
        traced = {"record": self.record, "row": self.row, "how": self.how}
        kept = {key: item for key, item in {**values, **traced}.items() if item not in (None, "")}
        return {key: item for key, item in kept.items() if not (isinstance(item, float) and not math.isfinite(item))}


def of_estimate(
    found: Estimate,
    scale: float,
    digits: int,
    unit: str,
    traced: tuple[str, str, str],
    sign: bool = False,
    tone: str = "",
) -> Cell:
    """A value with its interval, such as «88.09 (86.75–89.30)».

    Args:
        scale: factor from the estimate's unit to `unit`.
        traced: record, row, and what it is; n, confidence and method are added.
        sign: write plus as well.
    """
    value, low, high = (round(scale * each, digits) + 0.0 for each in (found.value, found.low, found.high))
    form = f"{{:{'+' if sign else ''}.{digits}f}}"
    text = minus(f"{form.format(value)} ({form.format(low)} to {form.format(high)})")
    method = f"{found.confidence:.0%} {found.method}, n = {found.n:,}"
    exact = [scale * each for each in (found.value, found.low, found.high)]
    return Cell(text, traced[0], traced[1], f"{traced[2]}; {method}", exact[0], exact[1], exact[2], unit, tone)


def minus(text: str) -> str:
    """A true minus sign."""
    return text.replace("-", "−")


def ms(seconds: float) -> str:
    """Milliseconds in three figures: more would be noise."""
    value = seconds * 1e3
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def mb(size: float) -> str:
    """Megabytes (10⁶ bytes)."""
    return f"{size / 1e6:.1f}" if size < 1e8 else f"{size / 1e6:,.0f}"


def points(share: float) -> str:
    """A difference of shares in points, signed."""
    return minus(f"{100 * share + 0.0:+.2f}")
