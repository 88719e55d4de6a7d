"""What machine is this: CPU model and features, cores, cgroup limits, load, versions. Standard library only."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

# Names as /proc/cpuinfo prints them (x86 `flags`, aarch64 `Features`), with the word that a user knows.
INT8_FEATURES = {
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "amx_int8": "AMX-INT8",
    "asimddp": "dot product",
    "i8mm": "I8MM",
}
VNNI_FEATURES = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
HALF_FEATURES = {
    "avx512_bf16": "AVX512-BF16",
    "amx_bf16": "AMX-BF16",
    "avx512_fp16": "AVX512-FP16",
    "bf16": "BF16",
    "fphp": "FP16",
}
VECTOR_FEATURES = {"avx2": "AVX2", "avx512f": "AVX-512", "asimd": "NEON", "sve": "SVE"}

ENGINE_PACKAGES = (
    "tiffin",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "tensorrt-rtx-cu13-bindings",
    "torch",
    "onnx",
    "nncf",
    "numpy",
    "pillow",
)


def _cpuinfo() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    first = text.split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def cpu_model() -> str:
    """CPU's model name as the kernel gives it, or the platform's word."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def cpu_features() -> tuple[str, ...]:
    """Features that decide which precision is worth using, in the kernel's words, sorted."""
    info = _cpuinfo()
    words = set((info.get("flags") or info.get("Features") or "").split())
    return tuple(sorted(words & {*INT8_FEATURES, *HALF_FEATURES, *VECTOR_FEATURES}))


def feature_words(features: Iterable[str]) -> list[str]:
    """The same features in words that a user knows."""
    known = {**VECTOR_FEATURES, **INT8_FEATURES, **HALF_FEATURES}
    return [word for name, word in known.items() if name in set(features)]


def has_vnni() -> bool:
    """True if this CPU multiplies u8 by s8 into int32 without saturating (AVX512-VNNI, AVX-VNNI or AMX-INT8)."""
    return bool(VNNI_FEATURES & set(cpu_features()))


def usable_cores() -> int:
    """Cores that this process may run on: its affinity mask, bounded by the cgroup's CPU quota."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_cpu_quota()
    return max(1, min(affinity, int(quota) if quota else affinity))


def _cgroup_cpu_quota() -> float | None:
    """CPUs' worth of time granted by cgroup v2 `cpu.max`, or None if unlimited or not told."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)


def memory_bytes() -> int | None:
    """Physical memory in bytes, or None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def versions(packages: Iterable[str] = ENGINE_PACKAGES) -> dict[str, str]:
    """Installed versions by package name; a package that is not installed is left out."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, Any]:
    """All that a record says of the machine it was made on, as plain JSON values."""
    return {
        "cpu": cpu_model(),
        "cpu_features": list(cpu_features()),
        "cores": usable_cores(),
        "cores_total": os.cpu_count(),
        "memory_bytes": memory_bytes(),
        "cgroup_cpu_quota": _cgroup_cpu_quota(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": sys.version.split()[0],
        "versions": versions(),
    }


def utc_now() -> str:
    """When a record was made: ISO 8601, UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
