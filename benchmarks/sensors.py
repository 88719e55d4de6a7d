"""What the machine tells of itself: energy, temperature, clock, throttling, steal time; of a worker: CPU time, memory.

Plain files of Linux' /proc and /sys, and NVML where `pynvml` is installed. Paths are found once, at construction. What
is not told is left out of every snapshot and named in `Sensors.missing`. Snapshots are taken between blocks, never
while a clock runs: a read costs a millisecond, and a sensor behind I2C or a sleeping core costs more.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
COUNTERS = ("span_s", "cpu_s", "steal_s", "throttled", "cgroup_throttled", "energy_cpu_j", "energy_gpu_j")
GAUGES = ("temperature_c", "clock_mhz")
# A zone that is switched off reports nonsense (-274 °C, 255 °C) rather than an error.
PLAUSIBLE_C = (-40.0, 150.0)

Probe = Callable[[], float]


class _NotTold(Exception):
    """The machine does not tell this; the message says why."""


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {(error.strerror or str(error)).lower()}"
    return str(error)


class Sensors:
    """What this machine can tell.

    Args:
        root: where `proc` and `sys` lie.
        pid: the worker whose CPU time and cgroup are read; None leaves out `cpu_s` and reads this process's cgroup.

    Attributes:
        sources: name in a block → where it is read.
        missing: name in a block → why it is not told. A sensor that stops telling later joins them.
    """

    def __init__(self, root: Path = ROOT, pid: int | None = None) -> None:
        self.sources: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        self._probes: dict[str, Probe] = {}
        finders = FINDERS if pid is None else {"cpu_s": _find_cpu_time, **FINDERS}
        for name, find in finders.items():
            try:
                source, probe = find(root, pid)
                probe()
            except (_NotTold, OSError, ValueError) as error:
                self.missing[_block_name(name)] = _reason(error)
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
            except (_NotTold, OSError, ValueError) as error:
                self.missing[_block_name(name)] = _reason(error)
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


def _number(path: Path) -> float:
    return float(path.read_text())


def _readable(paths: Iterable[Path]) -> list[float]:
    """The numbers of those that can be read now: a zone may be off, a core asleep."""
    numbers = []
    for path in paths:
        try:
            numbers.append(_number(path))
        except (OSError, ValueError):
            continue
    return numbers


def _sorted(root: Path, pattern: str) -> list[Path]:
    return sorted(root.glob(pattern))


def _ticks_s(ticks: float) -> float:
    """Seconds from the USER_HZ ticks (10 ms on most systems) of /proc."""
    return ticks / os.sysconf("SC_CLK_TCK")


def _find_steal(root: Path, pid: int | None) -> tuple[str, Probe]:
    path = root / "proc/stat"

    def probe() -> float:
        with path.open() as lines:
            fields = lines.readline().split()
        if len(fields) < 9:
            raise _NotTold(f"{path} has no steal time")
        return _ticks_s(float(fields[8]))

    return f"{path}, steal of all CPUs", probe


def _find_cpu_time(root: Path, pid: int | None) -> tuple[str, Probe]:
    def probe() -> float:
        seconds = cpu_seconds(pid or os.getpid(), root)
        if seconds is None:
            raise _NotTold(f"no {root}/proc/{pid}/stat")
        return seconds

    return f"{root / 'proc' / str(pid) / 'stat'}, utime + stime", probe


def _find_throttled(root: Path, pid: int | None) -> tuple[str, Probe]:
    paths = _sorted(root, "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")
    if not paths:
        raise _NotTold("no thermal_throttle of the CPUs")
    return "thermal_throttle/core_throttle_count of all CPUs", lambda: sum(_number(path) for path in paths)


def _find_cgroup_throttled(root: Path, pid: int | None) -> tuple[str, Probe]:
    """A quota counts at the cgroup that has it: the worker's own and all above it are summed."""
    listing = root / "proc" / str(pid or "self") / "cgroup"
    own = next((line[3:] for line in listing.read_text().splitlines() if line.startswith("0::")), None)
    if own is None:
        raise _NotTold(f"{listing} names no cgroup v2")
    folder = root / "sys/fs/cgroup"
    folders = [folder]
    for part in own.split("/"):
        if part and part != "..":
            folders.append(folders[-1] / part)
    stats = [path for path in (found / "cpu.stat" for found in folders) if _events(path) is not None]
    if not stats:
        raise _NotTold("no cgroup v2 cpu.stat with nr_throttled")
    return ", ".join(map(str, stats)), lambda: sum(_events(path) or 0.0 for path in stats)


def _events(path: Path) -> float | None:
    """`nr_throttled` of a cpu.stat; None where the file or the line is absent, as in the machine's root cgroup."""
    try:
        found = re.search(r"^nr_throttled (\d+)", path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return float(found[1]) if found else None


def _find_temperature(root: Path, pid: int | None) -> tuple[str, Probe]:
    paths = _sorted(root, "sys/class/thermal/thermal_zone*/temp") + _sorted(root, "sys/class/hwmon/hwmon*/temp*_input")
    if not paths:
        raise _NotTold("no thermal zone, no temperature in hwmon")

    def probe() -> float:
        celsius = [milli / 1000 for milli in _readable(paths)]
        plausible = [value for value in celsius if PLAUSIBLE_C[0] < value < PLAUSIBLE_C[1]]
        if not plausible:
            raise _NotTold(f"none of {len(paths)} zones tells a plausible temperature")
        return max(plausible)

    return f"hottest of {len(paths)} zones", probe


def _find_clock(root: Path, pid: int | None) -> tuple[str, Probe]:
    paths = _sorted(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    if _readable(paths):
        return f"cpufreq/scaling_cur_freq, mean of {len(paths)} CPUs", lambda: _mean(_readable(paths)) / 1000
    path = root / "proc/cpuinfo"

    def probe() -> float:
        return _mean([float(mhz) for mhz in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", path.read_text(), re.MULTILINE)])

    return f"{path}, cpu MHz, mean of all CPUs", probe


def _mean(values: list[float]) -> float:
    if not values:
        raise _NotTold("no cpufreq, no clock in cpuinfo")
    return sum(values) / len(values)


class _Rapl:
    """Energy of the CPU packages, joules since construction; each counter wraps around at its own range."""

    def __init__(self, packages: list[Path]) -> None:
        self._files = [package / "energy_uj" for package in packages]
        self._ranges = [_number(package / "max_energy_range_uj") for package in packages]
        self._last = [_number(path) for path in self._files]
        self._total_uj = 0.0

    def __call__(self) -> float:
        now = [_number(path) for path in self._files]
        for value, last, size in zip(now, self._last, self._ranges, strict=True):
            self._total_uj += value - last if value >= last else value - last + size
        self._last = now
        return self._total_uj / 1e6


def _find_cpu_energy(root: Path, pid: int | None) -> tuple[str, Probe]:
    """Packages only: `intel-rapl:N:M` lie inside them, `psys` around them, `intel-rapl-mmio:N` are the same again."""
    zones = _sorted(root, "sys/class/powercap/intel-rapl:*")
    tops = [zone for zone in zones if re.fullmatch(r"intel-rapl:\d+", zone.name)]
    packages = [zone for zone in tops if (zone / "name").read_text().startswith("package")]
    if not packages:
        raise _NotTold("no RAPL package in powercap")
    try:
        return f"RAPL, {len(packages)} CPU package(s)", _Rapl(packages)
    except PermissionError as error:
        raise _NotTold(f"{error.filename}: permission denied; docs/sensors.md says how to allow it") from error


def _find_board_power(root: Path, pid: int | None) -> tuple[str, Probe]:
    rails = [
        rail
        for chip in _sorted(root, "sys/class/hwmon/hwmon*")
        if (chip / "name").is_file() and (chip / "name").read_text().startswith("ina")
        for rail in _rails(chip)
    ]
    if not rails:
        raise _NotTold("no INA sensor in hwmon")
    # Jetson names its module's total VDD_IN (Orin NX, Xavier NX) or POM_5V_IN (Nano), beside rails that it feeds.
    totals = [rail for rail in rails if re.search(r"(^|_)V?IN$", rail[0])]
    whole = totals or rails
    if len(whole) > 1:
        names = ", ".join(name for name, _ in whole)
        raise _NotTold(f"INA rails {names}: none is known as the total, and they may contain each other")
    name, watts = whole[0]
    return f"INA sensor in hwmon, rail {name}; its power after a block, times the block's time", watts


def _rails(chip: Path) -> list[tuple[str, Probe]]:
    """Label and watts of each rail of an INA chip that can be read now: power in µW, else mA times mV of 1 to 3.

    Channels above 3 of an INA3221 are shunt voltages and sums (docs.kernel.org/hwmon/ina3221.html).
    """
    for names in (("power{}_input",), ("curr{}_input", "in{}_input")):
        rails = [(_label(chip, n), _product(1e-6, *(chip / name.format(n) for name in names))) for n in (1, 2, 3)]
        told = [(label, watts) for label, watts in rails if label != "NC" and _tells(watts)]
        if told:
            return told
    return []


def _product(scale: float, *paths: Path) -> Probe:
    def probe() -> float:
        value = scale
        for path in paths:
            value *= _number(path)
        return value

    return probe


def _label(chip: Path, channel: int) -> str:
    for path in (chip / f"{kind}{channel}_label" for kind in ("power", "in", "curr")):
        if path.is_file():
            return path.read_text().strip()
    return f"{chip.name} {channel}"


def _tells(probe: Probe) -> bool:
    try:
        probe()
    except (OSError, ValueError):
        return False
    return True


def _find_gpu_energy(root: Path, pid: int | None) -> tuple[str, Probe]:
    """Millijoules since the driver was loaded, of the first GPU (Volta and later)."""
    try:
        import pynvml
    except ImportError:
        raise _NotTold("no NVML here: pynvml is not installed") from None

    def probe() -> float:
        try:
            return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
        except pynvml.NVMLError as error:
            raise _NotTold(f"NVML: {error}") from error

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    except pynvml.NVMLError as error:
        raise _NotTold(f"NVML: {error}") from error
    return "NVML, total energy of GPU 0", probe


FINDERS: dict[str, Callable[[Path, int | None], tuple[str, Probe]]] = {
    "steal_s": _find_steal,
    "throttled": _find_throttled,
    "cgroup_throttled": _find_cgroup_throttled,
    "temperature_c": _find_temperature,
    "clock_mhz": _find_clock,
    "energy_cpu_j": _find_cpu_energy,
    "power_board_w": _find_board_power,
    "energy_gpu_j": _find_gpu_energy,
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


def cpu_seconds(pid: int, root: Path = ROOT) -> float | None:
    """User and system time of all the process's threads, ended ones too, to 10 ms; None if it is gone."""
    try:
        # The second field, the program's name, may hold blanks and brackets: count from its last one (proc(5)).
        fields = (root / f"proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return _ticks_s(int(fields[11]) + int(fields[12]))
