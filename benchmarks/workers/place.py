"""Where a worker runs: natively, on some cores only, with an instruction set limited, under an emulator."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...artifact.cpu_class import ONEDNN_SWITCHES, CpuClass, class_named


@dataclass(frozen=True)
class Place:
    """How to start a worker.

    Args:
        name: the word in records.
        argv_prefix: what stands before the interpreter, such as an emulator's command line.
        env: variables set for the worker; None unsets one.
        python: the interpreter.
        cpus: the only cores that it may run on, in the kernel's numbers; None for all that the harness may use.
        delay: each call is prolonged by this part of its own duration, spinning: a known truth for studies of the
            harness itself. Refused under throughput, whose calls overlap.
        start_timeout_s: how long it may take to start, and to open an artifact.
        identity: what else answers there depend on, such as an emulator's version and a sysroot's content.
    """

    name: str = "native"
    argv_prefix: tuple[str, ...] = ()
    env: Mapping[str, str | None] = field(default_factory=dict)
    python: str = sys.executable
    cpus: tuple[int, ...] | None = None
    delay: float = 0.0
    start_timeout_s: float = 120.0
    identity: str = ""


# What limits torch's own kernels, which are not oneDNN's, beside oneDNN's switch (ATen's CPU dispatch).
_ATEN_SWITCH = "ATEN_CPU_CAPABILITY"
# All that makes an engine take other kernels than the CPU has: answers belong to their values.
KERNEL_SWITCHES = (*ONEDNN_SWITCHES, _ATEN_SWITCH, "FBGEMM_ENABLE_INSTRUCTIONS")


def limited_to(cpu: CpuClass) -> Place:
    """Natively, with oneDNN's kernels limited to a class of CPU: their int8 answers are those of such a CPU."""
    aten = "default" if cpu.name == "sse41" else "avx512" if "avx512f" in cpu.features else "avx2"
    return Place(f"limited to {cpu.name}", env={ONEDNN_SWITCHES[0]: cpu.onednn, _ATEN_SWITCH: aten})


NATIVE = Place()
WITHOUT_VNNI = Place("without VNNI", env=limited_to(class_named("avx2")).env)
