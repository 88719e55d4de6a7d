"""How much must be measured before a gate can decide: photos for a margin, launches for a ratio."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import BadInput
from ..records.power import power_of_drop, power_of_margin
from ..records.speed import launches_needed

_MOST_PHOTOS = 1_000_000


@dataclass(frozen=True)
class Plan:
    """What a wish takes.

    Args:
        photos: at which an equal model passes with the wished power; None beyond a million.
        sees: power to find a true drop of the margin's size with so many (exact McNemar, two-sided 5 %).
        launches: per latency threshold at the spread given, that find a change of twice it; None where none was given.
    """

    margin: float
    photos: int | None
    sees: float | None
    launches: int | None


def plan(margin: float, discordance: float, power: float, confidence: float, spread: float | None = None) -> Plan:
    """The fewest photos at which an equal model passes non-inferiority at this margin with this power.

    Args:
        margin: 0.01 = one point.
        discordance: share of photos that only one of the two answers rightly; 0.01 to 0.03 for int8.
        spread: standard deviation of a launch's log ratio, for latencies.

    Raises:
        BadInput: values out of range.
    """
    if not (0 < margin < 1 and 0 < discordance < 1 and 0.05 < power < 1):
        raise BadInput(
            f"margin {margin}, discordance {discordance}, power {power}",
            "margin and discordance between 0 and 1, power between 0.05 and 1",
        )
    photos = fewest_photos(margin, discordance, power, confidence)
    sees = None if photos is None else power_of_drop(margin, photos, max(discordance, margin))
    return Plan(margin, photos, sees, launches_needed(spread) if spread else None)


def fewest_photos(margin: float, discordance: float, power: float, confidence: float) -> int | None:
    """By doubling and bisection; the power is a little uneven in n, since counts are whole."""

    def enough(n: int) -> bool:
        return power_of_margin(margin, n, discordance, confidence=confidence) >= power

    high = 32
    while not enough(high):
        high *= 2
        if high > _MOST_PHOTOS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
