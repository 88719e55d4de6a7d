"""What has been measured of one candidate so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..records import Rounds, Stages
from .options import RoundOptions
from .sensors import Memory
from .workers.client import Block, WorkerClient


@dataclass
class Tally:
    """Grows block by block; `rounds`, `photo_to_label` and `facts` hand it on in the types of a record.

    `reason` says why it failed, `ended` why no more is measured; both are empty meanwhile.
    """

    reason: str = ""
    ended: str = ""
    blocks: list[np.ndarray] = field(default_factory=list)
    launches: list[int] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    warmup: list[np.ndarray] = field(default_factory=list)
    sensors: list[dict[str, float]] = field(default_factory=list)
    stages: list[list[int]] = field(default_factory=list)
    started_as: int = 0
    stage_names: tuple[str, ...] = ()
    cold_start_s: list[float] = field(default_factory=list)
    cold_split_s: dict[str, list[float]] = field(default_factory=dict)
    memory: list[Memory] = field(default_factory=list)
    applied: dict[str, Any] = field(default_factory=dict)

    @property
    def told(self) -> bool:
        """True if there is something to say: blocks, and no failure."""
        return bool(self.blocks) and not self.reason

    def started(self, worker: WorkerClient, warmup: np.ndarray) -> None:
        """A launch began: what it cost, and what the engine applied."""
        self.warmup.append(warmup)
        self.cold_start_s.append(worker.cold_start_s)
        for name, seconds in worker.cold_split_s.items():
            self.cold_split_s.setdefault(name, []).append(seconds)
        self.applied = worker.applied

    def keep(self, block: Block, told: dict[str, float], memory: Memory, launch: int, position: int) -> None:
        """One more block, with what sensors told of it."""
        self.blocks.append(block.ns)
        self.warmup.append(block.warm)
        self.launches.append(launch)
        self.order.append(position)
        self.memory.append(memory)
        pss = float(memory.pss_bytes) if memory.pss_bytes is not None else np.nan
        ours = {"wall_s": block.wall_s, "cpu_s": block.cpu_s, "pss_bytes": pss, "started_as": float(self.started_as)}
        device = {"kernels_ms": block.kernels_ms} if block.kernels_ms is not None else {}
        self.sensors.append({**ours, **device, **told})

    def rounds(self, options: RoundOptions) -> Rounds:
        """All blocks so far."""
        names = sorted({name for told in self.sensors for name in told})
        sensors = {name: np.array([told.get(name, np.nan) for told in self.sensors]) for name in names}
        return Rounds(
            tuple(self.blocks), tuple(self.launches), tuple(self.order), np.concatenate(self.warmup), options.batch,
            options.regime, self.applied.get("lanes", 1), sensors, self.ended or "interrupted",
        )  # fmt: skip

    def photo_to_label(self) -> Stages:
        """Each photo's times by stage."""
        return Stages(self.stage_names, np.array(self.stages, np.int64))

    def facts(self) -> dict[str, Any]:
        """Fields of the record's subject. Memory is the greatest of any block; steady is the median of blocks."""
        return {
            "applied": self.applied,
            "cold_start_s": tuple(self.cold_start_s),
            "cold_split_s": {name: tuple(values) for name, values in self.cold_split_s.items()},
            "peak_bytes": _greatest(self.memory, "peak_rss_bytes"),
            "rss_bytes": _greatest(self.memory, "rss_bytes"),
            "steady_bytes": _median(self.memory, "pss_bytes"),
            "device_bytes": self._device_bytes(),
            "reason": self.reason,
        }

    def _device_bytes(self) -> int | None:
        """The engine, which lanes share, and each lane's own; the lanes are alike."""
        told = self.applied.get("details", {})
        if "device_bytes_engine" not in told:
            return None
        return int(told["device_bytes_engine"]) + self.applied["lanes"] * int(told["device_bytes_lane"])


def _values(memory: list[Memory], name: str) -> list[int]:
    return [value for found in memory if (value := getattr(found, name)) is not None]


def _greatest(memory: list[Memory], name: str) -> int | None:
    return max(_values(memory, name), default=None)


def _median(memory: list[Memory], name: str) -> int | None:
    values = _values(memory, name)
    return int(np.median(values)) if values else None
