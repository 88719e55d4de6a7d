"""Raw latencies: nanoseconds, by launch and block, warm-ups apart, with what the machine told of each block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Regime = Literal["back-to-back", "paced", "contended", "sustained", "throughput"]
REGIMES: tuple[Regime, ...] = ("back-to-back", "paced", "contended", "sustained", "throughput")


@dataclass(frozen=True)
class Rounds:
    """One subject's latencies.

    Args:
        blocks: one int64 array of nanoseconds a block, in the order they were measured.
        launches: for each block, the index of the worker process that measured it.
        order: for each block, its position among all subjects' blocks of the run.
        warmup: int64 nanoseconds of every warm-up call, apart.
        batch: photos a call.
        regime: one of `REGIMES`; two that differ are never compared.
        lanes: requests in flight.
        sensors: name → float64, one value a block, NaN where it was not told. Units stand in the names (`wall_s`,
            `span_s`, `cpu_s`, `pss_bytes`, `kernels_ms`, `started_as`, `steal_s`, `temperature_c`, `clock_mhz`,
            `energy_cpu_j`, `throttled`); docs/sensors.md says of each what it is.
        ended: why measuring stopped: "converged", "noisy", "time limit", "fixed" (as many launches as asked) or
            "interrupted".
    """

    blocks: tuple[np.ndarray, ...] = ()
    launches: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    warmup: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    batch: int = 1
    regime: Regime = "back-to-back"
    lanes: int = 1
    sensors: Mapping[str, np.ndarray] = field(default_factory=dict)
    ended: str = "fixed"

    def all_ns(self) -> np.ndarray:
        """Every timed call, int64 nanoseconds."""
        return np.concatenate(self.blocks) if self.blocks else np.zeros(0, np.int64)

    def block_medians_s(self) -> np.ndarray:
        """Median of each block, seconds."""
        return np.array([np.median(block) for block in self.blocks]) / 1e9

    def block_costs_s(self) -> np.ndarray:
        """What a block is judged by, seconds: its median call; under throughput its wall time a photo."""
        if self.regime != "throughput":
            return self.block_medians_s()
        return self.sensor("wall_s") / [self.batch * len(block) for block in self.blocks]

    def cost_s(self) -> float:
        """What it is ranked by, seconds: median over its blocks of what they are judged by."""
        return float(np.median(self.block_costs_s()))

    def costs_by_launch_s(self) -> dict[int, np.ndarray]:
        """Launch → what its blocks are judged by, in the order of launches."""
        return self.by_launch(self.block_costs_s())

    def calls_by_launch(self) -> dict[int, np.ndarray]:
        """Launch → its calls, int64 nanoseconds, in the order of launches."""
        blocks: dict[int, list[np.ndarray]] = {}
        for launch, block in zip(self.launches, self.blocks, strict=True):
            blocks.setdefault(launch, []).append(block)
        return {launch: np.concatenate(blocks[launch]) for launch in sorted(blocks)}

    def by_launch(self, values: np.ndarray) -> dict[int, np.ndarray]:
        """Launch → the values of its blocks, of one value a block, in the order of launches."""
        launches = np.array(self.launches)
        return {launch: values[launches == launch] for launch in sorted(set(self.launches))}

    def sensor(self, name: str) -> np.ndarray:
        """One value a block, float64; NaN throughout where nothing told it."""
        return self.sensors.get(name, np.full(len(self.blocks), np.nan))


@dataclass(frozen=True)
class Stages:
    """Photo to label, split: int64 nanoseconds `(calls, len(names))`, one column a stage in the order it ran."""

    names: tuple[str, ...]
    ns: np.ndarray
