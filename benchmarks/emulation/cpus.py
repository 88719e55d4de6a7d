"""The CPUs that can be emulated, each with what its kernel would say of it. Engines choose kernels by that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...artifact.cpu_class import CpuClass, class_named
from ...errors import BadInput


@dataclass(frozen=True)
class EmulatedCpu:
    """One CPU.

    Args:
        name: the word of `--cpu`.
        model: what QEMU's `-cpu` calls it.
        cpu_class: the class that it stands for.
        boards: what people own that has it.
        debian: architecture as Debian writes it; empty where this machine's own Python is run.
        cpuinfo: lines that the kernel prints of each core, for `/proc/cpuinfo`.
        midr: the main ID register, as the kernel prints it.
    """

    name: str
    model: str
    cpu_class: CpuClass
    boards: str
    debian: str = ""
    cpuinfo: Mapping[str, str] = field(default_factory=dict)
    midr: str = ""

    @property
    def machine(self) -> str:
        """QEMU's word for the architecture: "x86_64" or "aarch64"."""
        return self.cpu_class.machine


def _arm(name: str, cpu_class: str, boards: str, features: str, midr: int) -> EmulatedCpu:
    """`midr` is laid out as implementer, variant, architecture, part, revision (Arm ARM, MIDR_EL1)."""
    cpuinfo = {
        "BogoMIPS": "108.00",
        "Features": features,
        "CPU implementer": f"{midr >> 24:#04x}",
        "CPU architecture": "8",
        "CPU variant": f"{midr >> 20 & 0xF:#x}",
        "CPU part": f"{midr >> 4 & 0xFFF:#05x}",
        "CPU revision": f"{midr & 0xF}",
    }
    return EmulatedCpu(name, name, class_named(cpu_class), boards, "arm64", cpuinfo, f"{midr:#018x}")


# Features and registers: as Linux prints them on those boards (Arm's reference manuals list the same).
EMULATED_CPUS = {
    cpu.name: cpu
    for cpu in (
        EmulatedCpu("nehalem", "Nehalem", class_named("sse41"), "Celeron, Atom, old Core"),
        EmulatedCpu("haswell", "Haswell", class_named("avx2"), "Core 4th gen., Zen 1–3"),
        _arm("cortex-a72", "neon", "Raspberry Pi 4", "fp asimd evtstrm crc32 cpuid", 0x410FD083),
        _arm("cortex-a76", "dotprod", "Raspberry Pi 5, RK3588",
             "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
             0x414FD0B1),
    )
}  # fmt: skip


def cpu_named(name: str) -> EmulatedCpu:
    """Look a CPU up.

    Raises:
        BadInput: it is none that can be emulated.
    """
    if name not in EMULATED_CPUS:
        raise BadInput(f"unknown CPU {name!r}", f"one of {', '.join(EMULATED_CPUS)}", "see docs/cpus.md")
    return EMULATED_CPUS[name]
