"""Under which conditions a row was measured: flags that its reader must know, CPU time and energy a photo."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from .ratios import trimmed_p
from .rounds import Rounds

STEAL_SHARE = 0.01
CLOCK_FALL = 0.05
TEMPERATURE_RISE_C = 10.0
DIFFERS = 0.05
SAME_DIRECTION = 0.75
FIRST_LAUNCHES = 4
FIRST_P = 0.01
TREND_P = 0.05
_EXACT = 30  # launches up to which the trend's distribution is summed exactly
GROWTH = 0.20
GROWTH_BYTES = 16_000_000


def flags(rounds: Rounds) -> tuple[str, ...]:
    """What a reader must know about these rounds; nothing is flagged that no sensor told.

    Sensors are those of `Rounds.sensors`, one value a block:

    - steal time (`steal_s`), summed over CPUs, above 1 % of the time between the readings (`span_s`);
    - blocks with thermal throttling (`throttled`), and with throttling by the cgroup's CPU quota (`cgroup_throttled`);
    - a clock (`clock_mhz`) whose median over the last third of the blocks is more than 5 % below the first third's;
    - a temperature (`temperature_c`) more than 10 °C above the first block's;
    - a first block after the warm-up that differs, see `first_block`;
    - drift over launches, see `drift`;
    - a worker's memory (`pss_bytes`) that grows, see `memory_growth`.
    """
    of_launches = (_first(rounds), _drift(rounds), _memory(rounds))
    found = (_steal(rounds), *_throttled(rounds), _clock(rounds), _temperature(rounds), *of_launches)
    return tuple(flag for flag in found if flag)


def _steal(rounds: Rounds) -> str:
    share = _per(rounds.sensor("steal_s"), _span_s(rounds))
    return f"steal {share:.1%} of the time".replace("%", " %") if share is not None and share > STEAL_SHARE else ""


def _throttled(rounds: Rounds) -> list[str]:
    words = {"throttled": "throttled by heat or power", "cgroup_throttled": "throttled by the cgroup's CPU quota"}
    counts = {name: int((rounds.sensor(name) > 0).sum()) for name in words}
    return [f"{words[name]} in {n} of {len(rounds.blocks)} blocks" for name, n in counts.items() if n]


def _clock(rounds: Rounds) -> str:
    clock = _told(rounds.sensor("clock_mhz"))
    if len(clock) < 3:
        return ""
    first, last = _ends(clock, 3)
    return f"clock fell {_percent(1 - last / first)} to {last:.0f} MHz" if last < first * (1 - CLOCK_FALL) else ""


def _temperature(rounds: Rounds) -> str:
    celsius = _told(rounds.sensor("temperature_c"))
    if not len(celsius) or celsius.max() - celsius[0] <= TEMPERATURE_RISE_C:
        return ""
    return f"temperature rose {celsius.max() - celsius[0]:.0f} °C to {celsius.max():.0f} °C"


def _first(rounds: Rounds) -> str:
    ratio = first_block(rounds)
    return f"first block after the warm-up {_slower(ratio)}" if ratio is not None else ""


def _drift(rounds: Rounds) -> str:
    ratio = drift(rounds)
    return f"drift over launches: the last {_slower(ratio)} than the first" if ratio is not None else ""


def _memory(rounds: Rounds) -> str:
    grown = memory_growth(rounds)
    return f"memory grew by {grown / 1e6:.0f} MB within a launch: a leak?" if grown is not None else ""


def first_block(rounds: Rounds) -> float | None:
    """How much the first block after the warm-up differs, as first / rest; None if it does not.

    Of each launch with two blocks or more: the first block's median over the median of the other blocks' medians. It
    differs if the geometric mean of these ratios is more than 5 % from 1, up or down, at least 3/4 of the launches lie
    on the same side of 1, and the trimmed t over the launches' logarithms gives p < 0.01, from four launches on: blocks
    of a noisy machine differ too. A warm-up that was too short shows as a slower first block; a clock that falls as a
    faster one.
    """
    ratios = [medians[0] / float(np.median(medians[1:])) for medians in _launches(rounds) if len(medians) > 1]
    if len(ratios) < FIRST_LAUNCHES or trimmed_p(np.log(ratios)) >= FIRST_P:
        return None
    logs = np.log(ratios)
    mean = float(logs.mean())
    same = float((np.sign(logs) == np.sign(mean)).mean())
    return math.exp(mean) if abs(mean) > math.log1p(DIFFERS) and same >= SAME_DIRECTION else None


def drift(rounds: Rounds) -> float | None:
    """How much launches drifted, as the median of the last third of them over that of the first; None if they did not.

    They drifted if that ratio is more than 5 % from 1 and the launches' medians have a trend by the exact test of Mann
    (Econometrica 13, 1945), two-sided p ≤ 0.05: five launches are the fewest that can show one.
    """
    medians = [float(np.median(launch)) for launch in _launches(rounds)]
    if len(medians) < 3 or mann_kendall_p(medians) > TREND_P:
        return None
    first, last = _ends(np.array(medians), 3)
    return last / first if abs(math.log(last / first)) > math.log1p(DIFFERS) else None


def memory_growth(rounds: Rounds) -> float | None:
    """Bytes by which the worker's memory grew from the first block of a launch to its last; None if it did not.

    It grew if that is more than 20 % and 16 MB in at least 3/4 of the launches in which two blocks or more tell it; the
    median of those that grew is given.
    """
    memory = [_told(launch) for launch in rounds.by_launch(rounds.sensor("pss_bytes")).values()]
    ends = [(float(launch[0]), float(launch[-1])) for launch in memory if len(launch) > 1]
    grown = [last - first for first, last in ends if last - first > max(GROWTH * first, GROWTH_BYTES)]
    return float(np.median(grown)) if grown and len(grown) >= SAME_DIRECTION * len(ends) else None


def mann_kendall_p(values: Sequence[float]) -> float:
    """Two-sided p of a monotonic trend (Mann 1945; Kendall 1948), exact for few values; with ties it errs towards none.

    The null distribution of the number of inversions comes from the recursion over n of the Mahonian numbers.
    """
    data, n = np.asarray(values, np.float64), len(values)
    score = abs(int(np.sign(data[None, :] - data[:, None])[np.triu_indices(n, 1)].sum()))
    if n > _EXACT:
        return _mann_kendall_normal(score, n)
    ways = [1]
    for size in range(2, n + 1):
        ways = [sum(ways[max(0, k - size + 1) : k + 1]) for k in range(len(ways) + size - 1)]
    pairs = n * (n - 1) // 2
    tail = sum(count for inversions, count in enumerate(ways) if pairs - 2 * inversions >= score)
    return min(1.0, 2 * tail / math.factorial(n))


def _mann_kendall_normal(score: int, n: int) -> float:
    """The same by its normal approximation (Kendall 1948), with continuity correction; for many values."""
    error = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    return min(1.0, 2 * NormalDist().cdf(-max(score - 1, 0) / error))


def cpu_s_per_photo(rounds: Rounds) -> float | None:
    """CPU seconds of the worker, all threads, a photo; None where no block told them."""
    return _per(rounds.sensor("cpu_s"), _photos(rounds))


def energy_j_per_photo(rounds: Rounds) -> dict[str, float]:
    """Source ("cpu", "board", "gpu") → joules a photo; a source that no block told is absent.

    Each source holds what it powers, idle parts too; they overlap (a board feeds its CPU) and are never summed. The
    counters also ran while the worker warmed up again before each block: a block gets its share by time.
    """
    share = _wall_s(rounds) / _span_s(rounds)
    names = [(name, match[1]) for name in rounds.sensors if (match := re.fullmatch(r"energy_(\w+)_j", name))]
    found = {source: _per(rounds.sensor(name) * share, _photos(rounds)) for name, source in names}
    return {source: value for source, value in found.items() if value is not None}


def throughput(rounds: Rounds) -> float | None:
    """Photos a second of wall time over all blocks that tell it; None without any."""
    return _per(_photos(rounds), _wall_s(rounds))


@dataclass(frozen=True)
class Moment:
    """One block of a sustained run; `start_s` counts the time of the blocks before; None where not told."""

    start_s: float | None
    p50_s: float
    temperature_c: float | None
    clock_mhz: float | None
    throughput: float | None


@dataclass(frozen=True)
class Sustained:
    """A run over time; `slowdown` is the median of the last quarter of blocks over the first's; None below four."""

    moments: tuple[Moment, ...]
    slowdown: float | None


def sustained(rounds: Rounds) -> Sustained:
    """Latency, temperature, clock and throughput by time, one moment a block."""
    wall, medians = _wall_s(rounds), rounds.block_medians_s()
    starts = np.concatenate([np.zeros(1), np.cumsum(_span_s(rounds))])[: len(wall)]
    columns = (starts, medians, rounds.sensor("temperature_c"), rounds.sensor("clock_mhz"), _photos(rounds) / wall)
    moments = tuple(
        Moment(_or_none(start), float(p50), _or_none(celsius), _or_none(mhz), _or_none(rate))
        for start, p50, celsius, mhz, rate in zip(*columns, strict=True)
    )
    if len(medians) < 4:
        return Sustained(moments, None)
    first, last = _ends(medians, 4)
    return Sustained(moments, last / first)


def _wall_s(rounds: Rounds) -> np.ndarray:
    """Wall seconds of each block: as told, else the sum of its calls, which with several lanes overlap: then NaN."""
    calls = np.array([block.sum() for block in rounds.blocks], np.float64) / 1e9
    told = rounds.sensor("wall_s")
    return np.where(np.isnan(told), calls if rounds.lanes == 1 else np.nan, told)


def _span_s(rounds: Rounds) -> np.ndarray:
    """Seconds from the reading before each block to the one after; where not told, the block's own."""
    told = rounds.sensor("span_s")
    return np.where(np.isnan(told), _wall_s(rounds), told)


def _photos(rounds: Rounds) -> np.ndarray:
    return np.array([rounds.batch * len(block) for block in rounds.blocks], np.float64)


def _launches(rounds: Rounds) -> list[np.ndarray]:
    """Medians of the blocks of each launch, in the order of the launches."""
    return list(rounds.by_launch(rounds.block_medians_s()).values())


def _per(amount: np.ndarray, unit: np.ndarray) -> float | None:
    """Sum over sum, of the blocks that tell both; None without any."""
    both = ~np.isnan(amount) & ~np.isnan(unit)
    total = float(unit[both].sum())
    return float(amount[both].sum()) / total if total > 0 else None


def _told(values: np.ndarray) -> np.ndarray:
    return values[~np.isnan(values)]


def _ends(values: np.ndarray, parts: int) -> tuple[float, float]:
    """Medians of the first and the last of so many parts."""
    size = max(1, len(values) // parts)
    return float(np.median(values[:size])), float(np.median(values[-size:]))


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _slower(ratio: float) -> str:
    return f"{_percent(ratio - 1)} slower" if ratio > 1 else f"{_percent(1 - ratio)} faster"
