"""Classes of CPU: within one, int8 kernels take the same instructions and an artifact gives the same answers.

Which class this machine is in, and which class an engine is limited to. docs/cpus.md lists the CPUs in each.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

from .. import machine
from ..errors import BadInput

# The second is the old name, read where the first is not set.
ONEDNN_SWITCHES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


@dataclass(frozen=True)
class CpuClass:
    """One class.

    Args:
        name: the word of `--isa` and in certificates.
        machine: the architecture as `platform.machine()` says it, "x86_64" or "aarch64".
        features: in the kernel's words; a CPU that has them all is in this class or in a later one of the table.
        words: for people.
        onednn: what oneDNN's switch calls it; empty where there is no such switch.
        saturates: u8 × s8 products are added in pairs into a saturating int16, so that full-range weights overflow.
    """

    name: str
    machine: str
    features: frozenset[str]
    words: str
    onednn: str = ""
    saturates: bool = False


def _x86(name: str, features: str, words: str, onednn: str, saturates: bool = False) -> CpuClass:
    return CpuClass(name, "x86_64", frozenset(features.split()), words, onednn, saturates)


# By architecture, from the least to the most capable. Names of oneDNN's switch: oneDNN 3, "CPU dispatcher control".
CPU_CLASSES = {
    cpu.name: cpu
    for cpu in (
        _x86("sse41", "sse4_1", "SSE4.1, no AVX2", "SSE41", True),
        _x86("avx2", "avx2", "AVX2, no VNNI", "AVX2", True),
        _x86("avx_vnni", "avx2 avx_vnni", "AVX2 with AVX-VNNI", "AVX2_VNNI"),
        _x86("avx512", "avx512f avx512bw avx512dq avx512vl", "AVX-512, no VNNI", "AVX512_CORE", True),
        _x86("vnni", "avx512f avx512_vnni", "AVX-512 with VNNI", "AVX512_CORE_VNNI"),
        _x86("bf16", "avx512f avx512_vnni avx512_bf16", "AVX-512 with VNNI and BF16", "AVX512_CORE_BF16"),
        _x86("amx", "avx512f avx512_vnni amx_int8", "AMX", "AVX512_CORE_AMX"),
        CpuClass("neon", "aarch64", frozenset({"asimd"}), "NEON, no dot product"),
        CpuClass("dotprod", "aarch64", frozenset({"asimd", "asimddp"}), "NEON with dot product"),
        CpuClass("i8mm", "aarch64", frozenset({"asimd", "asimddp", "i8mm"}), "NEON with I8MM"),
    )
}
# Values of the switch that name no class of ours, with the class whose int8 kernels they leave.
_OTHER_SWITCHES = {"AVX": "sse41", "AVX2_VNNI_2": "avx_vnni", "AVX512_CORE_FP16": "bf16", "AVX10_1_512": "bf16",
                   "AVX512_CORE_AMX_FP16": "amx", "AVX10_1_512_AMX": "amx", "AVX10_1_512_AMX_FP16": "amx"}  # fmt: skip
_BY_SWITCH = {cpu.onednn: cpu.name for cpu in CPU_CLASSES.values() if cpu.onednn} | _OTHER_SWITCHES
# Engines whose int8 kernels are oneDNN's and obey its switch; ONNX Runtime has none.
SWITCHED_BACKENDS = ("openvino", "torch")


def class_named(name: str) -> CpuClass:
    """Look a class up.

    Raises:
        BadInput: there is no such class.
    """
    if name not in CPU_CLASSES:
        raise BadInput(f"unknown class of CPU {name!r}", f"one of {', '.join(CPU_CLASSES)}", "see docs/cpus.md")
    return CPU_CLASSES[name]


def class_of(flags: frozenset[str], architecture: str, at_most: str = "") -> CpuClass | None:
    """The most capable class whose features are all there; None for a CPU below the table or unknown to it.

    Args:
        at_most: name of a class above which none is looked at; empty looks at all.
    """
    names = list(CPU_CLASSES)
    listed = names[: names.index(at_most) + 1] if at_most else names
    fitting = [CPU_CLASSES[name] for name in listed
               if CPU_CLASSES[name].machine == architecture and CPU_CLASSES[name].features <= flags]  # fmt: skip
    return fitting[-1] if fitting else None


def class_here(backend: str = "") -> CpuClass | None:
    """The class that a backend runs in on this machine: the CPU's, or a lower one that oneDNN's switch sets.

    Args:
        backend: its word; empty asks for the CPU's own class.
    """
    flags, architecture = machine.cpu_flags(), platform.machine()
    own = class_of(flags, architecture)
    told = next((os.environ[name] for name in ONEDNN_SWITCHES if name in os.environ), "")
    limit = _BY_SWITCH.get(told.upper())
    if own is None or limit is None or backend not in SWITCHED_BACKENDS or CPU_CLASSES[limit].machine != own.machine:
        return own
    return class_of(flags, architecture, at_most=limit)
