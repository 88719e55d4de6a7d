"""A row's times as cells."""

from __future__ import annotations

import math
from dataclasses import replace

from ..records.latency import calls_needed
from ..records.slow_calls import METHOD, SlowCalls, launches_to_bound
from ..words import launch_count
from .cell import Cell, ms, of_estimate
from .rows import Row

_RISK = 0.05  # that a p99 is above its bound


def p50_cell(row: Row) -> Cell:
    """Median over launches, of what it is judged by: calls, or under throughput the time a photo."""
    assert row.timed is not None
    traced = row.timed.source.name, row.key, "median over launches"
    found = of_estimate(row.timed.latency.p50_s, 1e3, 2, f"ms{row.timed.per}", traced)
    return replace(found, text=found.text.replace(" (", f"{row.timed.per} (", 1))


def p99_s(row: Row) -> float | None:
    """Of all calls, where they are enough."""
    calls = _calls(row)
    return calls.p99_ns() / 1e9 if calls and calls.n >= calls_needed(0.99) else None


def p99_cell(row: Row) -> Cell:
    """p99 of calls, with its bound where launches are enough for one; or how many calls it needs."""
    calls, value_s = _calls(row), p99_s(row)
    assert row.timed is not None and calls is not None
    traced, launches = (row.timed.source.name, row.key), len(calls.counts)
    if value_s is None:
        return Cell(f"needs {calls_needed(0.99):,} calls", *traced, f"p99 of {calls.n} calls is not told")
    how = f"p99 of {calls.n} calls in {launch_count(launches)}"
    needed = launches_to_bound(_RISK)
    high_s = calls.p99(1 - 2 * _RISK).high / 1e9 if launches >= needed else math.inf
    if math.isinf(high_s):
        how += f"; {needed} launches at least, and not too unlike, bound it"
        return Cell(ms(value_s), *traced, how, value_s * 1e3, unit="ms")
    text, how = f"{ms(value_s)} (≤ {ms(high_s)})", f"{how}, bound by {METHOD}"
    return Cell(text, *traced, how, value_s * 1e3, high=high_s * 1e3, unit="ms")


def _calls(row: Row) -> SlowCalls | None:
    held = row.timed.rounds.calls_by_launch() if row.timed else {}
    return SlowCalls.of(held) if held else None
