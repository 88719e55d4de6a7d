"""How latencies are measured, and where a run stands."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..errors import BadInput
from ..records.rounds import REGIMES, Regime
from ..records.stopping import Precision

_LEAST_FPS, _MOST_FPS = 1e-3, 1e6  # beyond, a block lasts an hour, or a frame less than the clock's reading


@dataclass(frozen=True)
class RoundOptions:
    """How latencies are measured.

    Args:
        launches: times that each worker is started anew, at least; a process has a bias of its own.
        max_launches: at most.
        blocks: timed blocks a launch. Short ones, since noise lasts and neighbours share it; few, since a verdict
            gains more from another launch than from as many blocks.
        block_s, min_calls: a block lasts at least so many seconds and calls.
        warmup_s: calls after each start, recorded apart.
        rewarm: calls before each block, recorded apart: caches are cold after another candidate's block.
        batch: photos a call.
        seed: of the order and of the feeds.
        regime: see `records.rounds.REGIMES`. "contended" runs `burners` busy processes beside; "sustained" runs one
            candidate after the other, `sustain_s` each, and does not relaunch.
        fps: pace of the paced regime, calls a second.
        target: relative half-width of the 95 % interval of the ratio to the first candidate at which a candidate is
            done; None measures `launches` and no more.
        time_limit_s: no launch begins that would go beyond it.
    """

    launches: int = 6
    max_launches: int = 100
    blocks: int = 8
    block_s: float = 0.08
    min_calls: int = 3
    warmup_s: float = 0.3
    rewarm: int = 1
    batch: int = 1
    seed: int = 0
    regime: Regime = "back-to-back"
    fps: float = 30.0
    burners: int = 1
    sustain_s: float = 180.0
    target: float | None = 0.01
    time_limit_s: float = 300.0

    def __post_init__(self) -> None:
        if self.regime not in REGIMES:
            raise BadInput(f"unknown regime {self.regime!r}", f"one of {', '.join(REGIMES)}")
        if self.launches < 1 or self.blocks < 1 or self.burners < 1:
            raise BadInput(f"launches {self.launches}, blocks {self.blocks}, burners {self.burners}", "above 0")
        if not _LEAST_FPS <= self.fps <= _MOST_FPS:
            raise BadInput(f"fps {self.fps}", f"calls a second, {_LEAST_FPS:g} to {_MOST_FPS:g}")
        for name in ("block_s", "warmup_s", "sustain_s", "time_limit_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise BadInput(f"{name} {getattr(self, name)}", "seconds, finite and not below 0")
        if self.target is not None and not 0 < self.target < 1:
            raise BadInput(f"target {self.target}", "a part between 0 and 1, such as 0.01 for one per cent")

    @property
    def block_time_s(self) -> float:
        """Seconds a block lasts at least; with requests in flight, filling and draining need a second to fade."""
        return max(1.0, self.block_s) if self.regime in ("sustained", "throughput") else self.block_s


@dataclass(frozen=True)
class Status:
    """Where a run stands, for whoever watches it: the launch, who is timed, how well each ratio is known."""

    launch: int
    candidate: str
    elapsed_s: float
    limit_s: float
    known: dict[str, Precision] = field(default_factory=dict)


Progress = Callable[[Status], None]


def ending(known: Precision, launch: int, affordable: int, options: RoundOptions) -> str:
    """Why a candidate is done after `launch` launches, or an empty string: never a silent pass.

    converged: the target is reached. noisy: the spread has come to rest, and the launches that the target needs are
    more than the time allows. time limit: no further launch fits. fixed: as many as asked, where there is no target.
    """
    if options.target is None:
        return "fixed" if launch >= options.launches else "time limit" if affordable < 1 else ""
    if launch >= options.launches and known.half_width <= options.target:
        return "converged"
    if known.settled and known.needed is not None and known.needed > launch + affordable:
        return "noisy"
    return "time limit" if affordable < 1 else ""


def worst_ending(endings: Iterable[str]) -> str:
    """The reference ends with the last of the others, for the worst of their reasons."""
    found = set(endings)
    return next(word for word in ("time limit", "noisy", "converged", "fixed") if word in found)
