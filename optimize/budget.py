"""What a user asks: how much accuracy may be lost, how slow and how large an artifact may be, how long to search."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from ..benchmarks.options import RoundOptions
from ..errors import BadInput

Objective = Literal["latency", "throughput", "size"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


@dataclass(frozen=True)
class Budget:
    """Bounds, and what is best within them.

    Args:
        max_drop: of top-1 against the given model in fp32, 0.01 = one point: the margin of non-inferiority.
        max_latency_s: of the median call; None sets no bound.
        max_size_bytes: of the artifact's files; None sets no bound.
        objective: "latency" and "throughput" want the least time, "size" the fewest bytes.
        portable: only artifacts whose answers hold on CPUs without VNNI, too.
    """

    max_drop: float = 0.01
    max_latency_s: float | None = None
    max_size_bytes: int | None = None
    objective: Objective = "latency"
    portable: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.max_drop < 1:
            raise BadInput(f"max drop {self.max_drop}", "a part between 0 and 1, such as 0.01 for one point")
        if self.objective not in OBJECTIVES:
            raise BadInput(f"unknown objective {self.objective!r}", f"one of {', '.join(OBJECTIVES)}")
        for name in ("max_latency_s", "max_size_bytes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise BadInput(f"{name} {value}", "finite and above 0")


@dataclass(frozen=True)
class SearchOptions:
    """How the search goes about it.

    Args:
        out: folder of artifacts, caches and records.
        time_budget_s: wall time for all; building stops at half of it, heats at seven tenths, timing at nine.
        backends: engines to consider; None takes all that run here.
        threads: of a lane, each tried; None tries the usable cores.
        rounds: regime, pace, batch and seed of timing.
    """

    out: Path
    time_budget_s: float = 1200.0
    backends: tuple[str, ...] | None = None
    threads: tuple[int, ...] | None = None
    rounds: RoundOptions = field(default_factory=RoundOptions)
