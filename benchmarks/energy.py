"""Where the machine tells energy: RAPL for CPU packages, an INA sensor for the board, NVML for a GPU.

Each finder takes the root of `proc` and `sys` and a process, and gives the source in words and a probe. What they tell
overlaps (a board feeds its CPU) and is never summed (docs/sensors.md).
"""

from __future__ import annotations

import re
from pathlib import Path

from .readings import NotTold, Probe, listed, number


class _Rapl:
    """Energy of the CPU packages, joules since construction; each counter wraps around at its own range."""

    def __init__(self, packages: list[Path]) -> None:
        self._files = [package / "energy_uj" for package in packages]
        self._ranges = [number(package / "max_energy_range_uj") for package in packages]
        self._last = [number(path) for path in self._files]
        self._total_uj = 0.0

    def __call__(self) -> float:
        now = [number(path) for path in self._files]
        for value, last, size in zip(now, self._last, self._ranges, strict=True):
            self._total_uj += value - last if value >= last else value - last + size
        self._last = now
        return self._total_uj / 1e6


def find_cpu_energy(root: Path) -> tuple[str, Probe]:
    """Packages only: `intel-rapl:N:M` lie inside them, `psys` around them, `intel-rapl-mmio:N` are the same again."""
    zones = listed(root, "sys/class/powercap/intel-rapl:*")
    tops = [zone for zone in zones if re.fullmatch(r"intel-rapl:\d+", zone.name)]
    packages = [zone for zone in tops if (zone / "name").read_text().startswith("package")]
    if not packages:
        raise NotTold("no RAPL package in powercap")
    try:
        return f"RAPL, {len(packages)} CPU package(s)", _Rapl(packages)
    except PermissionError as error:
        raise NotTold(f"{error.filename}: permission denied; docs/sensors.md says how to allow it") from error


def find_board_power(root: Path) -> tuple[str, Probe]:
    """Watts of the board's total rail, or of its only one."""
    rails = [
        rail
        for chip in listed(root, "sys/class/hwmon/hwmon*")
        if (chip / "name").is_file() and (chip / "name").read_text().startswith("ina")
        for rail in _rails(chip)
    ]
    if not rails:
        raise NotTold("no INA sensor in hwmon")
    # Jetson names its module's total VDD_IN (Orin NX, Xavier NX) or POM_5V_IN (Nano), beside rails that it feeds.
    totals = [rail for rail in rails if re.search(r"(^|_)V?IN$", rail[0])]
    whole = totals or rails
    if len(whole) > 1:
        names = ", ".join(name for name, _ in whole)
        raise NotTold(f"INA rails {names}: none is known as the total, and they may contain each other")
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
            value *= number(path)
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


def find_gpu_energy(root: Path) -> tuple[str, Probe]:
    """Millijoules since the driver was loaded, of the first GPU (Volta and later)."""
    try:
        import pynvml
    except ImportError:
        raise NotTold("no NVML here: pynvml is not installed") from None

    def probe() -> float:
        try:
            return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000
        except pynvml.NVMLError as error:
            raise NotTold(f"NVML: {error}") from error

    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    except pynvml.NVMLError as error:
        raise NotTold(f"NVML: {error}") from error
    return "NVML, total energy of GPU 0", probe
