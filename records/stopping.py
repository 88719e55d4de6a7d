"""When to stop measuring: at the precision asked for, or when the noise is known and will not let it be reached."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .latency import launch_medians_s
from .ratios import launch_ratios, ratio_over_launches
from .rounds import Rounds

_SETTLED_AFTER = 8  # launches; fewer say little of their own spread
_SETTLED_WITHIN = 0.1


@dataclass(frozen=True)
class Precision:
    """How well a ratio (or, without a reference, a median) is known so far.

    Args:
        value: the ratio, or the median in seconds.
        half_width: of its 95 % interval, relative; infinite below two launches.
        launches: that it stands on.
        needed: launches at which the target would be reached if the spread stays; None where not to be said.
        settled: whether the spread itself has come to rest.
    """

    value: float
    half_width: float
    launches: int
    needed: int | None
    settled: bool


def precision(subject: Rounds, reference: Rounds | None, target: float) -> Precision:
    """Relative half-width of the 95 % interval over launches: (high - low) / 2 / value."""
    values = launch_medians_s(subject) if reference is None else launch_ratios(subject, reference)
    if len(values) < 2:
        return Precision(float(values[0]) if len(values) else math.nan, math.inf, len(values), None, False)
    found = ratio_over_launches(values)
    half = (found.high - found.low) / 2 / found.value
    needed = math.ceil(len(values) * (half / target) ** 2)
    return Precision(found.value, half, len(values), needed, _settled(np.log(values)))


def _settled(logs: np.ndarray) -> bool:
    """The spread changed by less than a tenth with each of the last three launches."""
    if len(logs) < _SETTLED_AFTER:
        return False
    spreads = [float(logs[:n].std(ddof=1)) for n in range(len(logs) - 3, len(logs) + 1)]
    return all(abs(b - a) <= _SETTLED_WITHIN * a for a, b in zip(spreads, spreads[1:], strict=False))
