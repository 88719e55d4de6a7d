"""One chart a file: a story in, a `Chart` or what is missing for it out."""

from __future__ import annotations

from collections.abc import Callable

from ..story import Story
from . import budget, classes, confusion, cpus, distributions, footprint, front, history, robustness, stages
from .chart import Chart, Missing

# In the order in which a reader asks.
_CHARTS: tuple[Callable[[Story], Chart | Missing], ...] = (
    front.chart,
    distributions.ecdf,
    distributions.strip,
    stages.chart,
    footprint.chart,
    classes.chart,
    confusion.chart,
    budget.chart,
    cpus.chart,
    robustness.chart,
    history.chart,
)


def charts(story: Story) -> tuple[tuple[Chart, ...], tuple[Missing, ...]]:
    """Those that the records have data for, and what would bring the others."""
    made = [make(story) for make in _CHARTS]
    drawn = tuple(one for one in made if isinstance(one, Chart))
    return drawn, tuple(one for one in made if isinstance(one, Missing))


__all__ = ["Chart", "Missing", "charts"]
