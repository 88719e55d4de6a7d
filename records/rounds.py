"""Raw latencies: nanoseconds, by launch and block, warm-ups apart."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Rounds:
    """One subject's latencies.

    Args:
        blocks: one int64 array of nanoseconds a block, in the order they were measured.
        launches: for each block, the index of the worker process that measured it.
        order: for each block, its position among all subjects' blocks of the run.
        warmup: int64 nanoseconds of every warm-up call, apart.
        batch: photos a call.
        regime: "back-to-back", "paced" or "contended".
    """

    blocks: tuple[np.ndarray, ...] = ()
    launches: tuple[int, ...] = ()
    order: tuple[int, ...] = ()
    warmup: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    batch: int = 1
    regime: str = "back-to-back"

    def all_ns(self) -> np.ndarray:
        """Every timed call, int64 nanoseconds."""
        return np.concatenate(self.blocks) if self.blocks else np.zeros(0, np.int64)

    def block_medians_s(self) -> np.ndarray:
        """Median of each block, seconds."""
        return np.array([np.median(block) for block in self.blocks]) / 1e9
