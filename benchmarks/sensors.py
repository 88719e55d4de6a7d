"""What the machine tells of itself: energy, temperature, clock, throttling, steal time; of a worker: memory.

Plain files of Linux' /proc and /sys, and NVML where `pynvml` is installed. Paths are found once, at construction. What
is not told is left out of every snapshot and named in `Sensors.missing`. Snapshots are taken between blocks, never
while a clock runs: a read costs a millisecond, and a sensor behind I2C or a sleeping core costs more.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..machine import cgroup_folders
from .energy import find_board_power, find_cpu_energy, find_gpu_energy
from .readings import NotTold, Probe, listed, number, readable, reason

ROOT = Path("/")
COUNTERS = ("span_s", "steal_s", "throttled", "cgroup_throttled", "energy_cpu_j", "energy_gpu_j")
GAUGES = ("temperature_c", "clock_mhz")
# A zone that is switched off reports nonsense (-274 °C, 255 °C) rather than an error.
PLAUSIBLE_C = (-40.0, 150.0)


class Sensors:
    """What this machine can tell.

    Args:
        root: where `proc` and `sys` lie.

    Attributes:
        sources: name in a block → where it is read.
        missing: name in a block → why it is not told. A sensor that stops telling later joins them.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self.sources: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        self._probes: dict[str, Probe] = {}
        for name, find in FINDERS.items():
            try:
                source, probe = find(root)
                probe()
            except (NotTold, OSError, ValueError) as error:
                self.missing[_block_name(name)] = reason(error)
            else:
                self.sources[_block_name(name)], self._probes[name] = source, probe

    def read(self) -> dict[str, float]:
        """A snapshot: counters since some moment in the past, gauges as they are; only what was told.

        Names are those of `between`, and `power_board_w` in place of `energy_board_j`. A counter of energy wraps
        around: it must be read at least once in its period (minutes at full power).
        """
        snapshot = {"span_s": time.perf_counter()}
        for name, probe in self._probes.items():
            try:
                snapshot[name] = probe()
            except (NotTold, OSError, ValueError) as error:
                self.missing[_block_name(name)] = reason(error)
        return snapshot


def between(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """One block's values from the snapshots at its ends.

    Counters (`COUNTERS`) become differences; one that ran backwards was reset and is left out. Gauges (`GAUGES`)
    are the later value. `span_s` is the time from snapshot to snapshot: it holds what else was done there, such as
    warming up again, as the counters do. `energy_board_j` is the later power times `span_s`: the earlier power
    belongs to whatever ran before. It is an estimate, good where the load is steady and the sensor averages over
    what has just run.
    """
    block = {name: after[name] - before[name] for name in COUNTERS if name in before and name in after}
    block = {name: value for name, value in block.items() if value >= 0}
    block.update({name: after[name] for name in GAUGES if name in after})
    if "power_board_w" in after and "span_s" in block:
        block["energy_board_j"] = after["power_board_w"] * block["span_s"]
    return block


def _block_name(name: str) -> str:
    """What a snapshot's name becomes in a block: power is told, energy is wanted."""
    return "energy_board_j" if name == "power_board_w" else name


def _ticks_s(ticks: float) -> float:
    """Seconds from the USER_HZ ticks (10 ms on most systems) of /proc."""
    return ticks / os.sysconf("SC_CLK_TCK")


def _find_steal(root: Path) -> tuple[str, Probe]:
    path = root / "proc/stat"

    def probe() -> float:
        with path.open() as lines:
            fields = lines.readline().split()
        if len(fields) < 9:
            raise NotTold(f"{path} has no steal time")
        return _ticks_s(float(fields[8]))

    return f"{path}, steal of all CPUs", probe


def _find_throttled(root: Path) -> tuple[str, Probe]:
    paths = listed(root, "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")
    if not paths:
        raise NotTold("no thermal_throttle of the CPUs")
    return "thermal_throttle/core_throttle_count of all CPUs", lambda: sum(number(path) for path in paths)


def _find_cgroup_throttled(root: Path) -> tuple[str, Probe]:
    """A quota counts at the cgroup that has it: this process's own and all above it are summed."""
    stats = [path for path in (found / "cpu.stat" for found in cgroup_folders(root)) if _events(path) is not None]
    if not stats:
        raise NotTold("no cgroup v2 cpu.stat with nr_throttled")
    return ", ".join(map(str, stats)), lambda: sum(_events(path) or 0.0 for path in stats)


def _events(path: Path) -> float | None:
    """`nr_throttled` of a cpu.stat; None where the file or the line is absent, as in the machine's root cgroup."""
    try:
        found = re.search(r"^nr_throttled (\d+)", path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return float(found[1]) if found else None


def _find_temperature(root: Path) -> tuple[str, Probe]:
    paths = listed(root, "sys/class/thermal/thermal_zone*/temp") + listed(root, "sys/class/hwmon/hwmon*/temp*_input")
    if not paths:
        raise NotTold("no thermal zone, no temperature in hwmon")

    def probe() -> float:
        celsius = [milli / 1000 for milli in readable(paths)]
        plausible = [value for value in celsius if PLAUSIBLE_C[0] < value < PLAUSIBLE_C[1]]
        if not plausible:
            raise NotTold(f"none of {len(paths)} zones tells a plausible temperature")
        return max(plausible)

    return f"hottest of {len(paths)} zones", probe


def _find_clock(root: Path) -> tuple[str, Probe]:
    paths = listed(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    if readable(paths):
        return f"cpufreq/scaling_cur_freq, mean of {len(paths)} CPUs", lambda: _mean(readable(paths)) / 1000
    path = root / "proc/cpuinfo"

    def probe() -> float:
        return _mean([float(mhz) for mhz in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", path.read_text(), re.MULTILINE)])

    return f"{path}, cpu MHz, mean of all CPUs", probe


def _mean(values: list[float]) -> float:
    if not values:
        raise NotTold("no cpufreq, no clock in cpuinfo")
    return sum(values) / len(values)


FINDERS: dict[str, Callable[[Path], tuple[str, Probe]]] = {
    "steal_s": _find_steal,
    "throttled": _find_throttled,
    "cgroup_throttled": _find_cgroup_throttled,
    "temperature_c": _find_temperature,
    "clock_mhz": _find_clock,
    "energy_cpu_j": find_cpu_energy,
    "power_board_w": find_board_power,
    "energy_gpu_j": find_gpu_energy,
}


@dataclass(frozen=True)
class Memory:
    """A process's memory in bytes, None where not told.

    Args:
        rss_bytes: resident pages, shared ones in full.
        pss_bytes: the same, each shared page divided by the processes that share it.
        peak_rss_bytes: most that was ever resident.
    """

    rss_bytes: int | None = None
    pss_bytes: int | None = None
    peak_rss_bytes: int | None = None


def memory(pid: int, root: Path = ROOT) -> Memory:
    """A process's memory now, from `status` and `smaps_rollup` (which walks its page tables: milliseconds)."""
    status = _kibibytes(root / f"proc/{pid}/status")
    rollup = _kibibytes(root / f"proc/{pid}/smaps_rollup")
    return Memory(status.get("VmRSS"), rollup.get("Pss"), status.get("VmHWM"))


def _kibibytes(path: Path) -> dict[str, int]:
    """Lines `Name: 12 kB` of a /proc file, in bytes; none where it cannot be read."""
    try:
        return {name: 1024 * int(kb) for name, kb in re.findall(r"^(\w+):\s+(\d+) kB$", path.read_text(), re.MULTILINE)}
    except OSError:
        return {}
